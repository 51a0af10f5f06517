use eyebolt_store::{Balance, Cancellation, Fenced, Heartbeat};
use eyebolt_types::{JobStatus, Mode, id::JobId};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accepted, claim, closing, ended, lease, running, stored},
};

on_both! {
    async fn a_job_that_waits_is_the_cancelers_to_close(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "k").await;
        let canceled = store.cancel((project, Mode::Live, id), lease("c", 20), at(2)).await.unwrap();
        let Cancellation::Yours(mine) = canceled else { panic!("{canceled:?}") };
        assert_eq!((mine.job.id, mine.token, mine.job.status), (id, 1, JobStatus::Processing));
        assert!(mine.job.cancel_requested);
        assert_eq!((mine.job.steps.len(), mine.job.started_at), (2, None), "no work began");
        assert_eq!(claim(store, lease("w", 20), 10, at(2)).await, Ok(vec![]), "no worker gets it");
        let again = store.cancel((project, Mode::Live, id), lease("d", 20), at(3)).await;
        assert_eq!(again, Ok(Cancellation::Requested), "nor another canceler");

        store.close((id, mine.token), closing(JobStatus::Canceled), at(4)).await.unwrap().unwrap();
        assert_eq!(stored(store, project, id).await.status, JobStatus::Canceled);
        assert_eq!(store.balance(project, Mode::Live).await.unwrap(), Balance::default());
    }

    async fn the_lease_of_a_canceler_that_dies_is_reaped(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "k").await;
        store.cancel((project, Mode::Live, id), lease("c", 20), at(2)).await.unwrap();
        assert_eq!(store.reap(None, lease("r", 99), at(21)).await.unwrap().given_back, 1);
        let heir = claim(store, lease("w", 60), 10, at(21)).await.unwrap().remove(0);
        assert!(heir.job.cancel_requested, "and the wish is not forgotten");
        let beat = store.heartbeat(vec![(id, heir.token)], at(60)).await;
        assert_eq!(beat, Ok(vec![Heartbeat::CancelRequested]));
        assert_eq!(store.close((id, 1), closing(JobStatus::Canceled), at(22)).await, Ok(Err(Fenced)));
    }

    async fn the_worker_of_a_job_that_runs_learns_of_the_wish(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let mine = running(store, project, "k").await;
        assert_eq!(store.heartbeat(vec![mine], at(20)).await, Ok(vec![Heartbeat::Held]));
        for _ in 0..2 {
            let wish = store.cancel((project, Mode::Live, mine.0), lease("c", 20), at(2)).await;
            assert_eq!(wish, Ok(Cancellation::Requested));
        }
        assert!(stored(store, project, mine.0).await.cancel_requested);
        assert_eq!(store.heartbeat(vec![mine], at(20)).await, Ok(vec![Heartbeat::CancelRequested]));
        store.close(mine, closing(JobStatus::Canceled), at(3)).await.unwrap().unwrap();
    }

    async fn a_job_that_ended_stays_as_it_ended(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let ends = [JobStatus::Succeeded, JobStatus::Failed, JobStatus::Canceled, JobStatus::Expired];
        for status in ends {
            let id = ended(store, project, (status.name(), closing(status))).await;
            let before = stored(store, project, id).await;
            let wish = store.cancel((project, Mode::Live, id), lease("c", 20), at(4)).await;
            assert_eq!(wish, Ok(Cancellation::Ended(status)));
            assert_eq!(stored(store, project, id).await, before);
        }
    }

    async fn nobody_cancels_the_job_of_another_project_or_mode(place: &Place) {
        let store = &place.store;
        let acme = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        let (waits, runs) = (accepted(store, acme, "waits").await, running(store, acme, "runs").await);
        for id in [waits, runs.0] {
            for whose in [(other, Mode::Live), (acme, Mode::Test)] {
                let wish = store.cancel((whose.0, whose.1, id), lease("c", 20), at(2)).await;
                assert_eq!(wish, Ok(Cancellation::Missing));
            }
            assert!(!stored(store, acme, id).await.cancel_requested);
        }
        let unknown = store.cancel((acme, Mode::Live, JobId::new()), lease("c", 20), at(2)).await;
        assert_eq!(unknown, Ok(Cancellation::Missing));
        assert_eq!(claim(store, lease("w", 20), 10, at(2)).await.unwrap()[0].job.id, waits);
    }

    // Matrix row 46, a job that runs: whoever holds the lease ends it twice at once, as done and as canceled.
    async fn of_two_ends_at_once_one_holds_and_the_ledger_agrees(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let other = place.again();
        let mut used = 0;
        for round in 0..20 {
            let lease = running(store, project, &round.to_string()).await;
            let (done, canceled) = tokio::join!(
                store.close(lease, closing(JobStatus::Succeeded), at(3)),
                other.close(lease, closing(JobStatus::Canceled), at(3)),
            );
            let (done, canceled) = (done.unwrap().is_ok(), canceled.unwrap().is_ok());
            assert!(done != canceled, "one of them in round {round}");
            used += if done { 2 } else { 0 };
            let expected = if done { JobStatus::Succeeded } else { JobStatus::Canceled };
            assert_eq!(stored(store, project, lease.0).await.status, expected);
            assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 0, used }));
        }
    }

    // Matrix row 46, a job that waits: a client cancels it while a worker takes it.
    async fn a_waiting_job_goes_to_the_canceler_or_the_worker(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let other = place.again();
        let mut used = 0;
        for round in 0..20 {
            let id = accepted(store, project, &round.to_string()).await;
            let (claimed, canceled) = tokio::join!(
                claim(store, lease("w", 20), 1, at(2)),
                other.cancel((project, Mode::Live, id), lease("c", 20), at(2)),
            );
            let (claimed, canceled) = (claimed.unwrap(), canceled.unwrap());
            let (token, expected) = match (claimed.as_slice(), canceled) {
                ([worker], Cancellation::Requested) => {
                    used += 2;
                    (worker.token, JobStatus::Succeeded)
                }
                ([], Cancellation::Yours(mine)) => (mine.token, JobStatus::Canceled),
                both => panic!("{both:?} in round {round}"),
            };
            store.close((id, token), closing(expected), at(3)).await.unwrap().unwrap();
            assert_eq!(stored(store, project, id).await.status, expected);
            assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 0, used }));
        }
    }
}
