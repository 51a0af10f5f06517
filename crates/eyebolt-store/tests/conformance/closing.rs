use eyebolt_store::{
    Answer, Balance, Charging, Closing, Document, Fenced, Known, Store, StoredAnswer, StoredJob,
};
use eyebolt_types::{
    JobStatus, Mode, StepStatus,
    id::{JobId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{PROBLEM, broke, claim, closing, ended, found, half_failed, lease, running, stored},
};

/// All that can be read of a job known by the key `k`.
type Whole = (StoredJob, Option<Document>, Option<StoredAnswer>, Option<Known>, Balance);

async fn whole(store: &Store, project: ProjectId, id: JobId) -> Whole {
    (
        stored(store, project, id).await,
        store.document(id).await.unwrap(),
        store.answer(id).await.unwrap(),
        store.idempotency_record((project, Mode::Live), b"k".to_vec(), at(60)).await.unwrap(),
        store.balance(project, Mode::Live).await.unwrap(),
    )
}

fn statuses(job: &StoredJob) -> Vec<StepStatus> {
    job.steps.iter().map(|step| step.status).collect()
}

on_both! {
    async fn a_job_that_succeeded_has_a_document_which_answers_retries(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lease = running(store, project, "k").await;
        store.finish_step(lease, found(0, "things")).await.unwrap().unwrap();
        let rest = Closing { steps: vec![found(1, "words")], ..closing(JobStatus::Succeeded) };
        store.close(lease, rest, at(3)).await.unwrap().unwrap();

        let (job, document, answer, known, balance) = whole(store, project, lease.0).await;
        assert_eq!((job.status, job.finished_at), (JobStatus::Succeeded, Some(at(3))));
        assert_eq!(job.error, None);
        assert_eq!(statuses(&job), [StepStatus::Succeeded; 2]);
        assert!(job.steps.iter().all(|step| step.result.is_none()), "results are in the document alone");
        let body = Document::Inline(b"document".to_vec());
        assert_eq!(document.as_ref(), Some(&body));
        assert_eq!(answer, Some(StoredAnswer { status: 200, request_id: "req_k".to_owned(), body }));
        let Some(Known::Record(record)) = known else { panic!("{known:?}") };
        assert_eq!((record.status, record.expires_at), (JobStatus::Succeeded, Some(at(1000))));
        assert_eq!(record.answer, answer);
        assert_eq!(balance, Balance { reserved: 0, used: 2 });
    }

    async fn a_large_document_is_a_blob_and_so_is_the_answer(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let blob = Document::Blob("documents/job/digest".to_owned());
        let end = Closing { document: blob.clone(), ..closing(JobStatus::Succeeded) };
        let id = ended(store, project, ("k", end)).await;
        let (_, document, answer, ..) = whole(store, project, id).await;
        assert_eq!((document, answer.map(|answer| answer.body)), (Some(blob.clone()), Some(blob.clone())));

        let own = Some(Answer { status: 504, body: Some(b"own".to_vec()) });
        let end = Closing { document: blob.clone(), answer: own, ..closing(JobStatus::Expired) };
        let id = ended(store, project, ("other", end)).await;
        assert_eq!(store.document(id).await, Ok(Some(blob)));
        let answer = store.answer(id).await.unwrap().unwrap();
        assert_eq!((answer.status, answer.body), (504, Document::Inline(b"own".to_vec())));
    }

    async fn a_job_that_failed_answers_with_its_problem_and_is_charged_for_what_succeeded(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = ended(store, project, ("k", half_failed())).await;
        let (job, document, answer, known, balance) = whole(store, project, id).await;
        assert_eq!((job.status, job.error.as_deref()), (JobStatus::Failed, Some(PROBLEM)));
        assert_eq!((job.finished_at, job.retryable_until), (Some(at(3)), Some(at(500))));
        assert_eq!(statuses(&job), [StepStatus::Succeeded, StepStatus::Failed]);
        assert_eq!(job.steps[0].result.as_deref(), Some(&b"things"[..]), "a retry needs it");
        assert_eq!((job.steps[1].error.as_deref(), job.steps[1].finished_at), (Some(PROBLEM), Some(at(3))));
        assert_eq!(document, Some(Document::Inline(b"document".to_vec())));
        let body = Document::Inline(PROBLEM.as_bytes().to_vec());
        assert_eq!(answer, Some(StoredAnswer { status: 422, request_id: "req_k".to_owned(), body }));
        let Some(Known::Record(record)) = known else { panic!("{known:?}") };
        assert_eq!((record.retryable_until, record.expires_at), (Some(at(500)), Some(at(1000))));
        assert_eq!(balance, Balance { reserved: 0, used: 1 });
    }

    async fn a_job_without_an_answer_keeps_none(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let end = Closing { answer: None, ..closing(JobStatus::Failed) };
        let id = ended(store, project, ("k", end)).await;
        let (_, document, answer, known, balance) = whole(store, project, id).await;
        assert_eq!((document.is_some(), answer), (true, None));
        assert!(matches!(known, Some(Known::Record(record)) if record.answer.is_none()));
        assert_eq!(balance, Balance::default());
    }

    async fn what_was_done_of_a_canceled_or_expired_job_is_not_charged(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        for (key, status) in [("canceled", JobStatus::Canceled), ("expired", JobStatus::Expired)] {
            let lease = running(store, project, key).await;
            store.finish_step(lease, found(0, "things")).await.unwrap().unwrap();
            store.close(lease, closing(status), at(3)).await.unwrap().unwrap();
            let job = stored(store, project, lease.0).await;
            assert_eq!(job.status, status);
            assert_eq!(statuses(&job), [StepStatus::Succeeded, StepStatus::Canceled]);
            assert_eq!((job.steps[1].finished_at, job.steps[1].attempts), (Some(at(3)), 0));
            assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance::default()), "{status:?}");
        }
    }

    // Matrix row 25.
    async fn a_late_end_changes_nothing(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let late = running(store, project, "k").await;
        let other = Closing { document: Document::Inline(b"late".to_vec()), ..closing(JobStatus::Succeeded) };
        assert_eq!(store.reap(None, lease("r", 99), at(21)).await.unwrap().given_back, 1);
        let waiting = whole(store, project, late.0).await;
        assert_eq!(store.close(late, other.clone(), at(22)).await, Ok(Err(Fenced)), "it waits");
        assert_eq!(whole(store, project, late.0).await, waiting);

        let heir = claim(store, lease("heir", 60), 10, at(23)).await.unwrap().remove(0);
        let leased = whole(store, project, late.0).await;
        assert_eq!(store.close(late, other.clone(), at(24)).await, Ok(Err(Fenced)), "it is another's");
        assert_eq!(whole(store, project, late.0).await, leased);

        store.close((late.0, heir.token), half_failed(), at(25)).await.unwrap().unwrap();
        let done = whole(store, project, late.0).await;
        assert_eq!(done.0.status, JobStatus::Failed);
        for token in [late.1, heir.token] {
            let end = store.close((late.0, token), other.clone(), at(26)).await;
            assert_eq!(end, Ok(Err(Fenced)), "it has ended");
            let step = store.finish_step((late.0, token), broke(1, true)).await;
            assert_eq!(step, Ok(Err(Fenced)));
        }
        assert_eq!(whole(store, project, late.0).await, done);
    }

    async fn what_failed_can_be_free_of_charge(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let end = Closing { charge: Charging::Nothing, retryable_until: None, ..half_failed() };
        ended(store, project, ("k", end)).await;
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance::default()));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "terminal state")]
async fn a_job_does_not_end_as_pending() {
    let place = Place::sqlite();
    let lease = running(&place.store, project(&place.store).await.id, "k").await;
    let _ = place.store.close(lease, closing(JobStatus::Pending), at(3)).await;
}
