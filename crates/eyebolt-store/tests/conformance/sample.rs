//! Jobs to be accepted and ended: of two steps that cost a unit each.

use std::time::Duration;

use eyebolt_store::{
    Acceptance, Again, Answer, Charging, Closing, Document, Idempotency, Lease, LeasedJob, NewEvent,
    NewImage, NewJob, NewStep, StepOutcome, Store, StoreError, StoredJob, TakenOver,
};
use eyebolt_types::{
    Class, EventType, Feature, JobStatus, Mode,
    id::{EventId, ImageId, JobId, KeyId, ProjectId, StepId},
};

use jiff::Timestamp;

use crate::place::at;

pub(crate) const PROBLEM: &str = r#"{"title":"broken"}"#;

/// A job known by this key, of an image that all such jobs have.
pub(crate) fn job(project: ProjectId, key: &str) -> NewJob {
    NewJob {
        id: JobId::new(),
        project,
        mode: Mode::Live,
        key: None,
        request_id: format!("req_{key}"),
        request: r#"{"features":["objects","text"]}"#.to_owned(),
        input: r#"{"width":1}"#.to_owned(),
        image: image(7),
        dedup: r#"{"duplicate":false}"#.to_owned(),
        operation: None,
        steps: [Feature::Objects, Feature::Text].map(step).into(),
        class: Class::Standard,
        predicted: Duration::from_millis(20),
        deadline: at(600),
        idempotency: Some(Idempotency {
            key_hash: key.as_bytes().to_vec(),
            fingerprint: b"what".to_vec(),
            body: None,
        }),
        lease: None,
        taken_over: TakenOver::default(),
        caps: None,
    }
}

/// A retry by a key that has no limits, until then.
pub(crate) fn again(deadline: i64) -> Again {
    Again { key: KeyId::new(), caps: None, deadline: at(deadline), parts: None }
}

fn step(feature: Feature) -> NewStep {
    NewStep { id: StepId::new(), feature, model: Some(format!("{}-1", feature.name())), units: 1 }
}

/// A small image of that content.
pub(crate) fn image(content: u8) -> NewImage {
    NewImage { id: ImageId::new(), sha256: [content; 32], bytes: 3, content: Some(vec![content; 3]) }
}

/// A large one: a file beside the rows.
pub(crate) fn large_image(content: u8) -> NewImage {
    NewImage { bytes: 1 << 20, content: None, ..image(content) }
}

/// Accepts a job under this key.
pub(crate) async fn accepted(store: &Store, project: ProjectId, key: &str) -> JobId {
    let job = job(project, key);
    let id = job.id;
    accept(store, job).await;
    id
}

pub(crate) async fn accept(store: &Store, job: NewJob) {
    let accepted = store.accept(job, at(1)).await;
    assert!(matches!(accepted, Ok(Acceptance::Accepted(_))), "{accepted:?}");
}

/// Accepts a job that runs at once, until 20 seconds; its lease.
pub(crate) async fn running(store: &Store, project: ProjectId, key: &str) -> (JobId, i64) {
    let job = NewJob { lease: Some(lease("w", 20)), ..job(project, key) };
    let id = job.id;
    accept(store, job).await;
    (id, 1)
}

/// Accepts a job and ends it after 3 seconds.
pub(crate) async fn ended(store: &Store, project: ProjectId, (key, closing): (&str, Closing)) -> JobId {
    let lease = running(store, project, key).await;
    store.close(lease, closing, at(3)).await.unwrap().unwrap();
    lease.0
}

/// A job that must be there.
pub(crate) async fn stored(store: &Store, project: ProjectId, id: JobId) -> StoredJob {
    store.job((project, Mode::Live), id).await.unwrap().expect("the job is there")
}

pub(crate) fn lease(owner: &str, until: i64) -> Lease {
    Lease { owner: owner.to_owned(), until: at(until) }
}

/// Leases what waits in any line, at most so many of each.
pub(crate) async fn claim(
    store: &Store,
    lease: Lease,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<LeasedJob>, StoreError> {
    let lines = store.lines(now).await?.into_iter().map(|waiting| (waiting.line, limit));
    Ok(store.claim(lease, lines.collect(), now).await?.concat())
}

/// The first attempt, with a result.
pub(crate) fn found(position: u32, what: &str) -> StepOutcome {
    let result = Ok(what.as_bytes().to_vec());
    StepOutcome {
        position,
        attempt: 1,
        model: None,
        result,
        last: true,
        started_at: at(2),
        finished_at: at(3),
    }
}

/// The first attempt, which failed: the last one, or not.
pub(crate) fn broke(position: u32, last: bool) -> StepOutcome {
    let result = Err(PROBLEM.to_owned());
    StepOutcome { position, attempt: 1, model: None, result, last, started_at: at(2), finished_at: at(3) }
}

/// An end that costs what its steps did: both succeeded, both failed for a reason that may pass, or nothing was done.
pub(crate) fn closing(status: JobStatus) -> Closing {
    let failed = status == JobStatus::Failed;
    let (steps, charge) = match status {
        JobStatus::Succeeded => (vec![found(0, "things"), found(1, "words")], Charging::Steps),
        JobStatus::Failed => (vec![broke(0, true), broke(1, true)], Charging::Steps),
        _ => (vec![], Charging::Nothing),
    };
    let own_body = (status != JobStatus::Succeeded).then(|| PROBLEM.as_bytes().to_vec());
    let answered = if status == JobStatus::Succeeded { 200 } else { 422 };
    Closing {
        status,
        error: failed.then(|| PROBLEM.to_owned()),
        steps,
        document: Document::Inline(b"document".to_vec()),
        answer: Some(Answer { status: answered, body: own_body }),
        expires_at: at(1000),
        retryable_until: failed.then(|| at(500)),
        charge,
        content: None,
        event: event(status),
    }
}

/// What is told of an end, by an id that all such ends have.
pub(crate) fn event(status: JobStatus) -> NewEvent {
    let kind = EventType::of_end(status).unwrap_or(EventType::JobSucceeded);
    let id = EventId::of([status as u8; 16]);
    NewEvent { id, kind, version: 1, data: format!("{{\"type\":\"{kind}\"}}"), told_at: None, batch: None }
}

/// A failure of the second step alone: the first one succeeded.
pub(crate) fn half_failed() -> Closing {
    Closing { steps: vec![found(0, "things"), broke(1, true)], ..closing(JobStatus::Failed) }
}
