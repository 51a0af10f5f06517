//! How a job ends, and what whoever asked is answered.

use bytes::Bytes;
use eyebolt_store::{
    Answer, Closing, Document, LeasedJob, MAX_INLINE_DOCUMENT, NewEvent, Signal, StepOutcome, StoredJob,
    document_blob,
};
use eyebolt_types::{
    AnalyzeRequest, Dedup, DedupStatus, ErrorCode, EventData, EventType, Job, JobEvent, JobStatus, Problem,
    Results, Step, StepStatus, id::JobId,
};
use jiff::Timestamp;

use super::{
    Room,
    document::{self, Outline, State},
    pipeline, signed,
    waiting::Ended,
};
use crate::{
    ApiError,
    analysis::{Remarks, StepEnd},
    events, webhooks,
};

/// How a job ends.
#[derive(Debug, Clone)]
pub(super) enum End {
    Succeeded,
    Failed(Box<Problem>),
    Canceled,
    Expired,
}

impl End {
    fn status(&self) -> JobStatus {
        match self {
            Self::Succeeded => JobStatus::Succeeded,
            Self::Failed(_) => JobStatus::Failed,
            Self::Canceled => JobStatus::Canceled,
            Self::Expired => JobStatus::Expired,
        }
    }

    /// What is told instead of the job. It names the request that was accepted, so that it is the same each time.
    fn problem(&self, job: &StoredJob) -> Option<Problem> {
        let problem = match self {
            Self::Succeeded => return None,
            Self::Failed(problem) => (**problem).clone(),
            Self::Canceled => Problem::new(ErrorCode::JobCanceled, "The job was canceled."),
            Self::Expired => {
                let detail = format!("The job was not finished before {}.", job.deadline);
                Problem::new(ErrorCode::JobExpired, detail).with("deadline", job.deadline.to_string())
            }
        };
        let mut problem = problem.with("job", job.id.to_string());
        problem.request_id = Some(job.request_id.clone());
        problem.instance = Some("/v1/analyze".to_owned());
        Some(problem)
    }
}

/// What the last attempt found: of a job that was never tried, nothing.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Steps that were not committed before.
    pub(super) ends: Vec<StepEnd>,
    /// Steps that were.
    pub(super) committed: Vec<StepEnd>,
    pub(super) remarks: Remarks,
    /// Whether the image was seen before; `None`: as was known at acceptance.
    pub(super) dedup: Option<Dedup>,
}

impl Room {
    /// Ends a job, and tells everybody who waits. A store that fails is asked again, since what was found would be lost
    /// otherwise; meanwhile the lease holds.
    pub(super) async fn end(&self, leased: &LeasedJob, end: End, found: Found) -> Result<(), ApiError> {
        // It succeeded before: whatever came of the wish to do more of it takes nothing away.
        if leased.job.retryable_until.is_some() && !matches!(end, End::Succeeded) {
            return Box::pin(self.end_as_before(leased)).await;
        }
        let (job, now) = (&leased.job, self.now());
        let outline = Outline::of(job)?;
        let of_pipeline = outline.pipeline.is_some();
        let retryable = matches!(&end, End::Failed(problem) if problem.retryable)
            || matches!(&end, End::Succeeded if of_pipeline && went_on_without(job));
        let retryable_until = retryable.then(|| now + signed(self.rules.jobs.retryable));
        let problem = end.problem(job);
        let code = problem.as_ref().map(|problem| problem.code);
        let charge = document::charging((job.round, of_pipeline), (end.status(), code), DedupStatus::None);
        let state = State {
            status: end.status(),
            finished_at: Some(now),
            error: problem,
            retryable_until,
            charging: charge,
        };
        let succeeded = matches!(end, End::Succeeded);
        let content = found.remarks.content.as_ref().filter(|_| succeeded);
        let content = content.and_then(|content| Self::remember(job, content));
        let outcomes = found.ends.iter().filter_map(|end| outcome(job, end, true)).collect();
        let whole = assemble((job, outline), found, state)?;
        let (told, answer) = answer(&whole);
        let closing = Closing {
            status: whole.status,
            error: whole.error.as_ref().map(document::write),
            steps: outcomes,
            document: self.keep_document(job.id, &whole, &told).await?,
            answer: Some(answer),
            expires_at: now + signed(self.rules.idempotency.retention),
            retryable_until,
            charge,
            content,
            event: event(job, &whole, now),
        };
        let batch = closing.event.batch;
        crate::failpoint::hit("before_close");
        let lease = (job.id, leased.token);
        let closed = self.persistently(|| self.tools.store.close(lease, closing.clone(), now)).await?;
        crate::failpoint::hit("after_close");
        if closed.is_err() {
            tracing::warn!(job = %job.id, token = leased.token, "fenced: another worker has the job");
            return Ok(());
        }
        tracing::info!(job = %job.id, status = whole.status.name(), "ended");
        self.metrics.job_ended(whole.status);
        self.waiters.tell(job.id, told);
        if batch.is_some() {
            self.item_ended.notify_one();
        }
        self.tools.store.tell(Signal::Ended(job.id));
        Ok(())
    }

    /// The document, or the name of the blob that holds it.
    pub(super) async fn keep_document(
        &self,
        id: JobId,
        job: &Job,
        told: &Ended,
    ) -> Result<Document, ApiError> {
        let body = if told.status == 200 { told.body.clone() } else { bytes_of(job) };
        if body.len() <= MAX_INLINE_DOCUMENT {
            return Ok(Document::Inline(body.to_vec()));
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let name = document_blob(id, digest.as_ref());
        self.persistently(|| self.tools.blobs.put(&name, body.clone())).await?;
        Ok(Document::Blob(name))
    }
}

/// Whether something failed that may be missing.
fn went_on_without(job: &StoredJob) -> bool {
    let steps = job.steps.iter().map(|step| step.status);
    steps.chain(job.tasks.iter().map(|task| task.status)).any(|status| status == StepStatus::Skipped)
}

fn assemble((job, mut outline): (&StoredJob, Outline), found: Found, state: State) -> Result<Job, ApiError> {
    outline.warnings.extend(found.remarks.warnings);
    if let Some(dedup) = found.dedup {
        outline.dedup = dedup;
    }
    if outline.pipeline.is_some() {
        return pipeline::shown(job, outline, state);
    }
    let ends: Vec<_> = found.committed.iter().chain(&found.ends).collect();
    let given_up = matches!(state.status, JobStatus::Canceled | JobStatus::Expired);
    let unfinished = if given_up { StepStatus::Canceled } else { StepStatus::Failed };
    let steps = job.steps.iter().map(|step| {
        let end = ends.iter().find(|end| end.feature == step.feature && step.finished_at.is_none());
        let (mut shown, found): (Step, Option<Results>) = match end {
            Some(end) => document::of_end(step, end),
            None => document::of_row(step)?,
        };
        if matches!(shown.status, StepStatus::Pending | StepStatus::Processing) {
            shown.status = unfinished;
        }
        Ok((shown, found))
    });
    let steps = steps.collect::<Result<Vec<_>, ApiError>>()?;
    Ok(outline.job(steps, state))
}

/// What is told now, and kept for retries: a job that succeeded, or the problem of any other.
pub(super) fn answer(job: &Job) -> (Ended, Answer) {
    let dedup = Some(dedup_status(&job.dedup));
    match &job.error {
        None => {
            let told = Ended { status: 200, body: bytes_of(job), code: None, dedup };
            (told, Answer { status: 200, body: None })
        }
        Some(problem) => {
            let body = bytes_of(problem);
            let kept = Answer { status: problem.status, body: Some(body.to_vec()) };
            (Ended { status: problem.status, body, code: Some(problem.code), dedup }, kept)
        }
    }
}

/// What is told of a job's end.
pub(super) fn event(job: &StoredJob, ended: &Job, now: Timestamp) -> NewEvent {
    let kind = EventType::of_end(ended.status).expect("a job ends in a terminal state");
    let data = EventData::Job(Box::new(JobEvent::of(ended, job.round, &job.request_id)));
    let made = events::made((kind, &job.id.to_string(), job.round), data, now);
    let asked: Option<AnalyzeRequest> = document::read(&job.request).ok();
    let told_at = asked.and_then(|asked| webhooks::told_at(&asked.webhook_url?));
    NewEvent { told_at, batch: document::batch_of(job), ..made }
}

fn bytes_of(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).expect("words of the API are plain data").into()
}

/// The header `Dedup-Status`: a Token and, where there is one, the job that had the image (RFC 9651).
pub(crate) fn dedup_status(dedup: &Dedup) -> String {
    let status = dedup.status.name();
    match (&dedup.of, dedup.kind) {
        (Some(of), Some(kind)) => format!("{status};of=\"{of}\";kind={}", kind.name()),
        _ => status.to_owned(),
    }
}

/// The outcome of a step in the store's words; `None` where the job has no such step.
pub(super) fn outcome(job: &StoredJob, end: &StepEnd, last: bool) -> Option<StepOutcome> {
    let step = job.steps.iter().find(|step| step.feature == end.feature)?;
    let result = match &end.result {
        Ok(results) => Ok(bytes_of(results).to_vec()),
        Err(problem) => Err(document::write(problem)),
    };
    Some(StepOutcome {
        position: step.position,
        attempt: step.attempts + 1,
        model: end.model.clone(),
        result,
        last,
        started_at: end.started_at,
        finished_at: end.finished_at,
    })
}

/// The failed end of a step that never ended by itself.
pub(super) fn failed_step(step: &eyebolt_store::StoredStep, problem: &Problem, now: Timestamp) -> StepEnd {
    StepEnd {
        feature: step.feature,
        model: step.model.clone(),
        result: Err(problem.clone()),
        started_at: now,
        finished_at: now,
    }
}
