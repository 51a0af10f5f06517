use eyebolt_store::{Fenced, Heartbeat, StepOutcome};
use eyebolt_types::{JobStatus, Mode};

use crate::place::{Place, accepted, at, claim, closing, on_both, project};

fn found(position: u32, what: &str) -> StepOutcome {
    StepOutcome { position, model: None, result: Ok(what.as_bytes().to_vec()), started_at: at(3) }
}

on_both! {
    async fn jobs_are_claimed_once_oldest_first(place: Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let mut all = Vec::new();
        for index in 0..25 {
            all.push(accepted(store, project, &index.to_string()).await);
        }
        let mut leased = Vec::new();
        for _ in 0..3 {
            leased.extend(store.claim(claim("w", 20), at(2)).await.unwrap());
        }
        assert_eq!(leased.iter().map(|job| job.id).collect::<Vec<_>>(), all);
        assert_eq!(leased[0].steps, [0, 1]);
        assert_eq!(store.claim(claim("w", 20), at(2)).await, Ok(vec![]));
    }

    async fn a_hundred_jobs_go_to_eight_workers_once_each(place: Place) {
        let project = project(&place.store).await.id;
        for index in 0..100 {
            accepted(&place.store, project, &index.to_string()).await;
        }
        let workers = (0..8).map(|worker| {
            let store = place.store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let more = store.claim(claim(&worker.to_string(), 20), at(2)).await.unwrap();
                    if more.is_empty() {
                        return mine;
                    }
                    mine.extend(more.into_iter().map(|job| job.id));
                }
            })
        });
        let mut all = Vec::new();
        for worker in workers.collect::<Vec<_>>() {
            all.extend(worker.await.unwrap());
        }
        assert_eq!(all.len(), 100, "none was claimed twice");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100, "and none was left out");
    }

    // Matrix row 25: whose lease is over, and who wakes after another took the job, changes nothing.
    async fn a_worker_that_lost_its_lease_is_fenced(place: Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "k").await;
        let zombie = store.claim(claim("zombie", 12), at(2)).await.unwrap().remove(0);
        assert_eq!(store.heartbeat((id, zombie.token), at(13)).await, Ok(Heartbeat::Held));
        store.finish_step((id, zombie.token), found(0, "kept"), at(4)).await.unwrap().unwrap();

        assert_eq!(store.reap(None, closing(JobStatus::Failed, 0), at(13)).await, Ok((0, 0)), "still leased");
        assert_eq!(store.reap(None, closing(JobStatus::Failed, 0), at(14)).await, Ok((1, 0)));
        let heir = store.claim(claim("heir", 30), at(14)).await.unwrap().remove(0);
        assert!(heir.token > zombie.token);
        assert_eq!(heir.steps, [1], "a finished step does not run again");

        assert_eq!(store.heartbeat((id, zombie.token), at(40)).await, Ok(Heartbeat::Lost));
        assert_eq!(store.finish_step((id, zombie.token), found(1, "late"), at(15)).await, Ok(Err(Fenced)));
        let late = store.close((id, zombie.token), closing(JobStatus::Succeeded, 2), at(15)).await;
        assert_eq!(late, Ok(Err(Fenced)));

        store.finish_step((id, heir.token), found(1, "mine"), at(16)).await.unwrap().unwrap();
        store.close((id, heir.token), closing(JobStatus::Succeeded, 2), at(17)).await.unwrap().unwrap();
        let results = store.step_results(id).await.unwrap();
        assert_eq!(results, [Some(b"kept".to_vec()), Some(b"mine".to_vec())]);
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().used, 2, "charged once");
        let twice = store.close((id, heir.token), closing(JobStatus::Failed, 0), at(18)).await;
        assert_eq!(twice, Ok(Err(Fenced)), "a terminal state never changes");
    }

    async fn a_restarted_worker_takes_back_its_leases_at_once(place: Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "k").await;
        store.claim(claim("host-1/boot-1", 1000), at(2)).await.unwrap();
        let gone = |owner: &str| Some(owner.to_owned());
        let closing = || closing(JobStatus::Failed, 0);
        assert_eq!(store.reap(gone("host-2/"), closing(), at(3)).await, Ok((0, 0)), "another's");
        assert_eq!(store.reap(gone("host-1/"), closing(), at(3)).await, Ok((1, 0)));
        assert_eq!(store.claim(claim("host-1/boot-2", 1000), at(3)).await.unwrap()[0].id, id);
    }

    async fn a_job_that_kills_its_worker_three_times_is_quarantined(place: Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "poison").await;
        for crash in 1..=3 {
            let now = crash * 100;
            assert_eq!(store.claim(claim("w", now + 10), at(now)).await.unwrap()[0].id, id, "crash {crash}");
            let reaped = store.reap(None, closing(JobStatus::Failed, 0), at(now + 11)).await;
            assert_eq!(reaped, Ok(if crash < 3 { (1, 0) } else { (0, 1) }), "crash {crash}");
        }
        assert_eq!(store.claim(claim("w", 900), at(800)).await, Ok(vec![]), "never again");
        let balance = store.balance(project, Mode::Live).await.unwrap();
        assert_eq!((balance.reserved, balance.used), (0, 0), "and not charged");
    }
}
