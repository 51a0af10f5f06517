use eyebolt_store::{Balance, Closing, Fenced, Lease, MAX_CRASHES, NewJob, Reaped, Store};
use eyebolt_types::{JobStatus, Mode};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accept, accepted, claim, closing, found, job, lease, running, stored},
};

/// Takes back what owners whose names begin so have left.
async fn reap_of(store: &Store, prefix: &str, lease: Lease, now: i64) -> Reaped {
    store.reap(Some(prefix.to_owned()), lease, at(now)).await.unwrap()
}

on_both! {
    async fn a_lease_that_is_over_is_given_back(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = running(store, project, "k").await.0;
        let reaped = store.reap(None, lease("r", 99), at(20)).await.unwrap();
        assert_eq!((reaped.given_back, reaped.yours.len(), reaped.more), (0, 0, false), "its last instant");
        let reaped = store.reap(None, lease("r", 99), at(21)).await.unwrap();
        assert_eq!((reaped.given_back, reaped.yours.len(), reaped.more), (1, 0, false));
        let job = stored(store, project, id).await;
        assert_eq!((job.status, job.crashes), (JobStatus::Pending, 1));
        assert_eq!(store.next_claim().await, Ok(Some(at(21))), "at once");
        assert_eq!(store.reap(None, lease("r", 99), at(22)).await.unwrap().given_back, 0);
    }

    async fn a_restarted_worker_takes_back_its_leases_at_once(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "k").await;
        claim(store, lease("host_1/boot-1", 1000), 10, at(2)).await.unwrap();
        let take = async |prefix| reap_of(store, prefix, lease("r", 99), 3).await.given_back;
        for another in ["host_2/", "hostA1/", "HOST_1/", "host%", "boot-1", "ost_1/", "host_1/boot-1/"] {
            assert_eq!(take(another).await, 0, "{another} is another's");
        }
        assert_eq!(take("host_1/").await, 1);
        assert_eq!(claim(store, lease("host_1/boot-2", 1000), 10, at(3)).await.unwrap()[0].job.id, id);
    }

    // A prefix is not a pattern.
    async fn no_owners_name_is_taken_for_a_pattern(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let runs = NewJob { lease: Some(lease("hostA1/boot", 1000)), ..job(project, "k") };
        accept(store, runs.clone()).await;
        for pattern in ["host_1/", "%", "HOSTa1/"] {
            let reaped = reap_of(store, pattern, lease("r", 99), 3).await;
            assert_eq!(reaped.given_back, 0, "{pattern}");
        }
        assert_eq!(stored(store, project, runs.id).await.status, JobStatus::Processing);
    }

    async fn a_job_that_kills_its_worker_three_times_is_handed_over(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "poison").await;
        for crash in 1..=3 {
            let now = crash * 100;
            let leased = claim(store, lease("w", now + 10), 10, at(now)).await.unwrap().remove(0);
            assert_eq!((leased.job.id, leased.token), (id, crash), "crash {crash}");
            if crash == 1 {
                store.finish_step((id, leased.token), found(0, "things")).await.unwrap().unwrap();
            }
            let reaped = store.reap(None, lease("r", now + 60), at(now + 11)).await.unwrap();
            let counts = (reaped.given_back, reaped.yours.len());
            assert_eq!(counts, if crash < 3 { (1, 0) } else { (0, 1) }, "crash {crash}");
            if let [mine] = reaped.yours.as_slice() {
                assert_eq!((mine.job.id, mine.job.crashes, mine.token), (id, MAX_CRASHES, 4));
                assert_eq!(mine.job.status, JobStatus::Processing);
                assert_eq!(mine.job.steps[0].result.as_deref(), Some(&b"things"[..]));
            }
        }
        assert_eq!(claim(store, lease("w", 900), 10, at(800)).await, Ok(vec![]), "never again");
        assert_eq!(store.close((id, 3), closing(JobStatus::Succeeded), at(320)).await, Ok(Err(Fenced)));
        let end = Closing { steps: vec![], retryable_until: None, ..closing(JobStatus::Failed) };
        store.close((id, 4), end, at(320)).await.unwrap().unwrap();
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 0, used: 1 }));
    }

    async fn who_was_to_end_a_job_and_died_is_followed_by_another(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "poison").await;
        for now in [100, 200] {
            claim(store, lease("w", now + 10), 10, at(now)).await.unwrap();
            store.reap(None, lease("r", now + 60), at(now + 11)).await.unwrap();
        }
        claim(store, lease("w", 310), 10, at(300)).await.unwrap();
        let first = store.reap(None, lease("me/1", 360), at(311)).await.unwrap().yours.remove(0);
        let mine = reap_of(store, "me/", lease("me/1", 360), 312).await;
        assert_eq!((mine.given_back, mine.yours.len()), (0, 0), "my own lease holds");
        let second = reap_of(store, "me/", lease("me/2", 380), 313).await.yours.remove(0);
        let third = store.reap(None, lease("other", 460), at(381)).await.unwrap().yours.remove(0);
        assert_eq!([first.token, second.token, third.token], [4, 5, 6]);
        store.close((id, 6), closing(JobStatus::Failed), at(382)).await.unwrap().unwrap();
    }

    async fn a_job_that_waits_past_its_deadline_is_handed_over(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "late").await;
        let in_time = NewJob { deadline: at(700), ..job(project, "in time") };
        accept(store, in_time.clone()).await;
        let reaped = store.reap(None, lease("r", 700), at(600)).await.unwrap();
        assert_eq!((reaped.given_back, reaped.yours.len()), (0, 0), "its last instant");
        let reaped = store.reap(None, lease("r", 700), at(601)).await.unwrap();
        assert_eq!((reaped.given_back, reaped.yours.len()), (0, 1));
        let mine = &reaped.yours[0];
        assert_eq!((mine.job.id, mine.token, mine.job.crashes), (id, 1, 0), "nobody died");
        let next = claim(store, lease("w", 700), 10, at(601)).await.unwrap();
        assert_eq!(next.iter().map(|leased| leased.job.id).collect::<Vec<_>>(), [in_time.id]);
        store.close((id, 1), closing(JobStatus::Expired), at(602)).await.unwrap().unwrap();
        assert_eq!(stored(store, project, id).await.status, JobStatus::Expired);
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().reserved, 2, "the other's");
    }

    // Owners of one place share the beginning of their names: what a start takes over is not given back again.
    async fn what_a_restarted_worker_takes_over_stays_its_own(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "late").await;
        let reaped = reap_of(store, "host-1/", lease("host-1/boot-2", 700), 601).await;
        assert_eq!((reaped.given_back, reaped.yours.len()), (0, 1));
        let token = reaped.yours[0].token;
        store.close((id, token), closing(JobStatus::Expired), at(602)).await.unwrap().unwrap();
    }

    async fn more_than_a_batch_is_given_back_in_several_goes(place: &Place) {
        let project = project(&place.store).await.id;
        let jobs = (0..501).map(|_| {
            let new = NewJob { idempotency: None, lease: Some(lease("w", 20)), ..job(project, "k") };
            let store = place.store.clone();
            tokio::spawn(async move { accept(&store, new).await })
        });
        for one in jobs.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        let reap = async || {
            let reaped = place.store.reap(None, lease("r", 99), at(21)).await.unwrap();
            (reaped.given_back, reaped.more)
        };
        assert_eq!(reap().await, (500, true));
        assert_eq!(reap().await, (1, false));
        assert_eq!(reap().await, (0, false));
    }
}
