use eyebolt_store::{Balance, Closing, Fenced, Known, Retry, StepOutcome};
use eyebolt_types::{
    JobStatus, Mode, StepStatus,
    id::{JobId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accepted, again, broke, claim, closing, ended, found, half_failed, lease, running, stored},
};

fn whose(project: ProjectId, id: JobId) -> (ProjectId, Mode, JobId) {
    (project, Mode::Live, id)
}

on_both! {
    async fn what_failed_runs_again_and_what_succeeded_is_charged_once(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = ended(store, project, ("k", half_failed())).await;
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 0, used: 1 }));
        assert_eq!(store.retry(whose(project, id), again(900), at(10)).await, Ok(Retry::Pending));

        let job = stored(store, project, id).await;
        assert_eq!((job.status, job.round, job.deadline), (JobStatus::Pending, 2, at(900)));
        assert_eq!((&job.error, job.finished_at, job.retryable_until), (&None, None, None));
        let kept = &job.steps[0];
        assert_eq!((kept.status, kept.result.as_deref()), (StepStatus::Succeeded, Some(&b"things"[..])));
        let again = &job.steps[1];
        assert_eq!((again.status, again.attempts, again.finished_at), (StepStatus::Pending, 1, None));
        assert_eq!((store.document(id).await, store.answer(id).await), (Ok(None), Ok(None)));
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 1, used: 1 }));
        let known = store.idempotency_record((project, Mode::Live), b"k".to_vec(), at(2000)).await;
        let Ok(Some(Known::Record(record))) = known else { panic!("it can not expire now: {known:?}") };
        assert_eq!((record.expires_at, record.answer, record.retryable_until), (None, None, None));
        assert_eq!(store.next_claim().await, Ok(Some(at(10))));

        let lease = claim(store, lease("w", 60), 10, at(11)).await.unwrap().remove(0);
        assert_eq!(lease.token, 2);
        assert_eq!(store.close((id, 1), half_failed(), at(12)).await, Ok(Err(Fenced)), "its round is over");
        let second = StepOutcome { attempt: 2, ..found(1, "words") };
        let end = Closing { steps: vec![second], ..closing(JobStatus::Succeeded) };
        store.close((id, lease.token), end, at(12)).await.unwrap().unwrap();
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 0, used: 2 }));
        let job = stored(store, project, id).await;
        assert_eq!((job.status, job.steps[1].attempts), (JobStatus::Succeeded, 2));
    }

    async fn a_job_can_fail_and_be_retried_again_and_again(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = ended(store, project, ("k", closing(JobStatus::Failed))).await;
        for round in 2..=4 {
            assert_eq!(store.retry(whose(project, id), again(900), at(10)).await, Ok(Retry::Pending));
            assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 2, used: 0 }));
            let lease = claim(store, lease("w", 60), 10, at(11)).await.unwrap().remove(0);
            assert_eq!((lease.job.round, lease.token), (round, i64::from(round)));
            let steps = [0, 1].map(|step| StepOutcome { attempt: round, ..broke(step, true) });
            let end = Closing { steps: steps.into(), ..closing(JobStatus::Failed) };
            store.close((id, lease.token), end, at(12)).await.unwrap().unwrap();
            assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance::default()));
        }
        let steps = stored(store, project, id).await.steps;
        assert!(steps.iter().all(|step| (step.status, step.attempts) == (StepStatus::Failed, 4)));
    }

    // Matrix row 45.
    async fn two_retries_at_once_make_one_run(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let other = place.again();
        for index in 0..10 {
            let id = ended(store, project, (&index.to_string(), half_failed())).await;
            let (one, two) = tokio::join!(
                store.retry(whose(project, id), again(900), at(10)),
                other.retry(whose(project, id), again(900), at(10)),
            );
            assert_eq!((one, two), (Ok(Retry::Pending), Ok(Retry::Pending)));
            assert_eq!(stored(store, project, id).await.round, 2);
            assert_eq!(store.balance(project, Mode::Live).await.unwrap().reserved, 1, "once");
            let leased = claim(store, lease("w", 60), 10, at(11)).await.unwrap();
            assert_eq!(leased.iter().map(|leased| leased.job.id).collect::<Vec<_>>(), [id]);
            assert_eq!(store.retry(whose(project, id), again(999), at(12)).await, Ok(Retry::Pending), "it runs");
            assert_eq!(stored(store, project, id).await.deadline, at(900), "and is left alone");
            let end = Closing { steps: vec![found(1, "words")], ..closing(JobStatus::Succeeded) };
            store.close((id, 2), end, at(13)).await.unwrap().unwrap();
        }
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 0, used: 20 }));
    }

    async fn only_what_may_pass_is_run_again_and_only_in_time(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let never = Closing { retryable_until: None, ..closing(JobStatus::Failed) };
        let never = ended(store, project, ("never", never)).await;
        assert_eq!(store.retry(whose(project, never), again(900), at(10)).await, Ok(Retry::Final));
        let once = ended(store, project, ("once", closing(JobStatus::Failed))).await;
        let before = stored(store, project, once).await;
        assert_eq!(store.retry(whose(project, once), again(900), at(500)).await, Ok(Retry::Final), "too late");
        assert_eq!(stored(store, project, once).await, before);
        assert_eq!(store.retry(whose(project, once), again(900), at(499)).await, Ok(Retry::Pending));
    }

    async fn what_did_not_fail_is_not_run_again(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        for status in [JobStatus::Succeeded, JobStatus::Canceled, JobStatus::Expired] {
            let end = Closing { retryable_until: Some(at(500)), ..closing(status) };
            let id = ended(store, project, (status.name(), end)).await;
            let again = store.retry(whose(project, id), again(900), at(10)).await;
            assert_eq!(again, Ok(Retry::NotFailed(status)));
        }
        for id in [accepted(store, project, "waits").await, running(store, project, "runs").await.0] {
            let before = stored(store, project, id).await;
            assert_eq!(store.retry(whose(project, id), again(900), at(10)).await, Ok(Retry::Pending));
            assert_eq!(stored(store, project, id).await, before);
        }
    }

    async fn nobody_retries_the_job_of_another_project_or_mode(place: &Place) {
        let store = &place.store;
        let acme = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        let id = ended(store, acme, ("k", closing(JobStatus::Failed))).await;
        for foreign in [(other, Mode::Live, id), (acme, Mode::Test, id), whose(acme, JobId::new())] {
            assert_eq!(store.retry(foreign, again(900), at(10)).await, Ok(Retry::Missing));
        }
        assert_eq!(stored(store, acme, id).await.status, JobStatus::Failed);
    }

    async fn a_retry_begins_without_the_crashes_and_wishes_of_the_round_before(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = running(store, project, "k").await.0;
        store.cancel(whose(project, id), lease("c", 20), at(2)).await.unwrap();
        store.reap(None, lease("r", 99), at(21)).await.unwrap();
        let leased = claim(store, lease("w", 60), 10, at(22)).await.unwrap().remove(0);
        assert_eq!((leased.job.crashes, leased.job.cancel_requested), (1, true));
        store.close((id, 2), closing(JobStatus::Failed), at(23)).await.unwrap().unwrap();
        store.retry(whose(project, id), again(900), at(30)).await.unwrap();
        let job = stored(store, project, id).await;
        assert_eq!((job.crashes, job.cancel_requested), (0, false));
    }
}
