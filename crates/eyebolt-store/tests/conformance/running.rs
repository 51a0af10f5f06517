use eyebolt_store::{Cancellation, Closing, Fenced, Heartbeat, StepOutcome};
use eyebolt_types::{JobStatus, Mode, StepStatus};

use crate::{
    place::{Place, at, on_both, project},
    sample::{PROBLEM, accepted, broke, claim, closing, found, lease, running, stored},
};

on_both! {
    async fn jobs_are_claimed_once_oldest_first(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let mut all = Vec::new();
        for index in 0..25 {
            all.push(accepted(store, project, &index.to_string()).await);
        }
        let mut leased = Vec::new();
        for _ in 0..3 {
            leased.extend(claim(store, lease("w", 20), 10, at(2)).await.unwrap());
        }
        assert_eq!(leased.iter().map(|leased| leased.job.id).collect::<Vec<_>>(), all);
        let first = &leased[0];
        assert_eq!((first.token, first.job.status), (1, JobStatus::Processing));
        assert_eq!(first.job.started_at, Some(at(2)));
        assert_eq!(claim(store, lease("w", 20), 10, at(2)).await, Ok(vec![]));
    }

    async fn a_hundred_jobs_go_to_eight_workers_once_each(place: &Place) {
        let project = project(&place.store).await.id;
        for index in 0..100 {
            accepted(&place.store, project, &index.to_string()).await;
        }
        let workers = (0..8).map(|worker| {
            let store = place.store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let more = claim(&store, lease(&worker.to_string(), 20), 10, at(2)).await.unwrap();
                    if more.is_empty() {
                        return mine;
                    }
                    mine.extend(more.into_iter().map(|leased| leased.job.id));
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

    // Matrix row 25: whose lease is over, and who wakes after another took the job, changes nothing; what was
    // committed before stays.
    async fn a_worker_that_lost_its_lease_is_fenced_and_its_steps_stay(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "k").await;
        let zombie = claim(store, lease("zombie", 12), 10, at(2)).await.unwrap().remove(0);
        assert_eq!(store.heartbeat(vec![(id, zombie.token)], at(13)).await, Ok(vec![Heartbeat::Held]));
        store.finish_step((id, zombie.token), found(0, "kept")).await.unwrap().unwrap();

        assert_eq!(store.reap(None, lease("r", 99), at(13)).await.unwrap().given_back, 0, "still leased");
        assert_eq!(store.reap(None, lease("r", 99), at(14)).await.unwrap().given_back, 1);
        assert_eq!(store.finish_step((id, zombie.token), found(1, "late")).await, Ok(Err(Fenced)));
        let heir = claim(store, lease("heir", 30), 10, at(14)).await.unwrap().remove(0);
        assert!(heir.token > zombie.token);
        let kept = &heir.job.steps[0];
        assert_eq!((kept.status, kept.result.as_deref()), (StepStatus::Succeeded, Some(&b"kept"[..])));
        assert_eq!((heir.job.steps[1].status, heir.job.steps[1].attempts), (StepStatus::Pending, 0));

        assert_eq!(store.heartbeat(vec![(id, zombie.token)], at(40)).await, Ok(vec![Heartbeat::Lost]));
        assert_eq!(store.finish_step((id, zombie.token), found(1, "late")).await, Ok(Err(Fenced)));
        assert_eq!(store.release((id, zombie.token), vec![found(1, "late")], at(15)).await, Ok(Err(Fenced)));
        assert_eq!(stored(store, project, id).await, heir.job, "nothing was changed");
        assert_eq!(store.reap(None, lease("r", 99), at(31)).await.unwrap().given_back, 1, "nor the lease");
    }

    async fn a_finished_step_never_changes(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lease = running(store, project, "k").await;
        store.finish_step(lease, found(0, "first")).await.unwrap().unwrap();
        let step = async |position: usize| stored(store, project, lease.0).await.steps.remove(position);
        let first = step(0).await;
        assert_eq!((first.attempts, first.started_at, first.finished_at), (1, Some(at(2)), Some(at(3))));
        for later in [found(0, "second"), broke(0, true), broke(0, false)] {
            store.finish_step(lease, later).await.unwrap().unwrap();
            assert_eq!(step(0).await, first);
        }
        for _ in 0..2 {
            store.finish_step(lease, broke(1, false)).await.unwrap().unwrap();
        }
        assert_eq!(step(1).await.attempts, 1, "a write that is repeated counts once");
        store.finish_step(lease, StepOutcome { attempt: 2, ..broke(1, true) }).await.unwrap().unwrap();
        let failed = step(1).await;
        assert_eq!(failed.attempts, 2);
        assert_eq!((failed.status, failed.error.as_deref()), (StepStatus::Failed, Some(PROBLEM)));
        store.finish_step(lease, found(1, "late")).await.unwrap().unwrap();
        assert_eq!(step(1).await, failed);
    }

    async fn who_answered_is_kept_where_the_outcome_tells(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lease = running(store, project, "k").await;
        let other = Some("objects-2".to_owned());
        let outcome = StepOutcome { model: other.clone(), ..found(0, "things") };
        store.finish_step(lease, outcome).await.unwrap().unwrap();
        store.finish_step(lease, found(1, "words")).await.unwrap().unwrap();
        let steps = stored(store, project, lease.0).await.steps;
        let models: Vec<_> = steps.into_iter().map(|step| step.model).collect();
        assert_eq!(models, [other, Some("text-1".to_owned())]);
    }

    async fn a_job_is_given_back_for_later_with_what_was_tried(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lost = running(store, project, "k").await;
        store.release(lost, vec![broke(0, false), found(1, "words")], at(50)).await.unwrap().unwrap();
        let job = stored(store, project, lost.0).await;
        assert_eq!((job.status, job.crashes), (JobStatus::Pending, 0), "no crash");
        let tried = &job.steps[0];
        assert_eq!((tried.status, tried.attempts, tried.finished_at), (StepStatus::Pending, 1, None));
        assert_eq!((tried.error.as_deref(), tried.started_at), (Some(PROBLEM), Some(at(2))));
        assert_eq!(job.steps[1].status, StepStatus::Succeeded);

        assert_eq!(store.next_claim().await, Ok(Some(at(50))));
        assert_eq!(claim(store, lease("w", 90), 10, at(49)).await, Ok(vec![]), "its time has not come");
        assert_eq!(store.release(lost, vec![], at(10)).await, Ok(Err(Fenced)), "once");
        assert_eq!(store.next_claim().await, Ok(Some(at(50))));
        let again = claim(store, lease("w", 90), 10, at(50)).await.unwrap().remove(0);
        assert_eq!((again.token, again.job.started_at), (2, Some(at(1))));
        assert_eq!(store.next_claim().await, Ok(None));

        let second = StepOutcome { attempt: 2, ..found(0, "things") };
        let end = Closing { steps: vec![second], ..closing(JobStatus::Succeeded) };
        store.close((lost.0, 2), end, at(51)).await.unwrap().unwrap();
        let steps = stored(store, project, lost.0).await.steps;
        assert_eq!(steps.iter().map(|step| step.attempts).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((steps[0].status, steps[0].error.as_deref()), (StepStatus::Succeeded, None));
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().used, 2);
    }

    async fn the_next_claim_is_the_earliest(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let later = running(store, project, "later").await;
        let sooner = running(store, project, "sooner").await;
        store.release(later, vec![], at(80)).await.unwrap().unwrap();
        store.release(sooner, vec![], at(70)).await.unwrap().unwrap();
        assert_eq!(store.next_claim().await, Ok(Some(at(70))));
        let claimed = claim(store, lease("w", 90), 1, at(80)).await.unwrap();
        assert_eq!(claimed[0].job.id, sooner.0, "whose time came first");
        assert_eq!(store.next_claim().await, Ok(Some(at(80))));
    }

    async fn a_heartbeat_answers_for_each_lease_in_order(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let held = running(store, project, "held").await;
        let unwanted = running(store, project, "unwanted").await;
        let ended = running(store, project, "ended").await;
        let forgotten = running(store, project, "forgotten").await;
        let wish = store.cancel((project, Mode::Live, unwanted.0), lease("c", 20), at(2)).await;
        assert_eq!(wish, Ok(Cancellation::Requested));
        store.close(ended, closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
        let foreign = (held.0, 2);
        let beat = store.heartbeat(vec![ended, held, foreign, unwanted], at(40)).await.unwrap();
        assert_eq!(beat, [Heartbeat::Lost, Heartbeat::Held, Heartbeat::Lost, Heartbeat::CancelRequested]);
        assert_eq!(store.heartbeat(vec![], at(40)).await, Ok(vec![]));

        assert_eq!(store.reap(None, lease("r", 99), at(40)).await.unwrap().given_back, 1);
        assert_eq!(stored(store, project, forgotten.0).await.status, JobStatus::Pending);
        assert_eq!(store.reap(None, lease("r", 99), at(41)).await.unwrap().given_back, 2, "each to its time");
    }
}
