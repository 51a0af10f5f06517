//! Jobs that are answered from another one when they are accepted.

use eyebolt_store::{
    Acceptance, Balance, Charging, Closing, Document, Known, NewJob, StoreError, StoredAnswer, UsageKind,
};
use eyebolt_types::{Feature, JobStatus, Mode, StepStatus};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accepted, closing, job, lease, stored},
};

fn duplicate() -> Closing {
    Closing { charge: Charging::Duplicate, ..closing(JobStatus::Succeeded) }
}

on_both! {
    async fn an_answered_job_ends_as_it_is_accepted_and_costs_nothing(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let new = NewJob { lease: Some(lease("w", 20)), ..job(project, "again") };
        let accepted = store.accept_answered(new.clone(), duplicate(), at(2)).await;
        assert!(matches!(accepted, Ok(Acceptance::Accepted(_))), "{accepted:?}");

        let read = stored(store, project, new.id).await;
        assert_eq!((read.status, read.finished_at), (JobStatus::Succeeded, Some(at(2))));
        assert!(read.steps.iter().all(|step| step.status == StepStatus::Succeeded));
        assert_eq!(store.document(new.id).await, Ok(Some(Document::Inline(b"document".to_vec()))));
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance::default()));
        let lines = store.usage((project, Mode::Live), (at(0), at(60))).await.unwrap();
        let lines: Vec<_> =
            lines.iter().map(|line| (line.feature, line.kind, line.count, line.units)).collect();
        let features = [Feature::Objects, Feature::Text];
        assert_eq!(lines, features.map(|feature| (Some(feature), UsageKind::Duplicate, 1, 0)));
        assert_eq!(store.charges((at(0), String::new()), at(60), 10).await, Ok(vec![]), "none has a price");
    }

    async fn its_key_stands_for_its_answer_at_once(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let new = NewJob { lease: Some(lease("w", 20)), ..job(project, "again") };
        store.accept_answered(new.clone(), duplicate(), at(2)).await.unwrap();
        let repeated = NewJob { lease: Some(lease("w", 20)), ..job(project, "again") };
        let known = store.accept_answered(repeated.clone(), duplicate(), at(3)).await;
        let Ok(Acceptance::Known(Known::Record(record))) = known else { panic!("{known:?}") };
        let body = Document::Inline(b"document".to_vec());
        let answer = StoredAnswer { status: 200, request_id: "req_again".to_owned(), body };
        assert_eq!((record.job, record.answer), (new.id, Some(answer)));
        assert_eq!((record.status, record.expires_at), (JobStatus::Succeeded, Some(at(1000))));
        assert_eq!(store.job((project, Mode::Live), repeated.id).await, Ok(None), "nothing was done");
        let lines = store.usage((project, Mode::Live), (at(0), at(60))).await.unwrap();
        assert!(lines.len() == 2 && lines.iter().all(|line| line.count == 1), "and nothing noted: {lines:?}");
    }

    async fn an_answered_job_is_accepted_whole_or_not_at_all(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let taken = accepted(store, project, "first").await;
        let second = NewJob { id: taken, lease: Some(lease("w", 20)), ..job(project, "second") };
        let refused = store.accept_answered(second, duplicate(), at(2)).await;
        assert!(matches!(refused, Err(StoreError::Database { .. })), "{refused:?}");
        assert_eq!(stored(store, project, taken).await.status, JobStatus::Pending, "the first one goes on");
        let key = store.idempotency_record((project, Mode::Live), b"second".to_vec(), at(2)).await;
        assert_eq!(key, Ok(None));
        assert_eq!(store.usage((project, Mode::Live), (at(0), at(60))).await, Ok(vec![]));
    }
}
