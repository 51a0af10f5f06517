//! What a client does with a job that it knows: read it, wait for it, cancel it, run again what failed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_store::{
    Cancellation, Document, JobFilter, ListedJob, Principal, Retry, Signal, StoreError, StoredJob, UsageLine,
};
use eyebolt_types::{
    ErrorCode, Job, JobStatus, Mode,
    id::{JobId, ProjectId},
};
use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::{Jobs, Room, Stop, Waiter, document, pipeline::Part, waiting::Told};
use crate::ApiError;

/// A job as it is read.
#[derive(Debug)]
pub(crate) enum Read {
    /// It has ended: the document, byte for byte the same for everybody.
    Ended(Bytes),
    /// It has not.
    Running(Box<Job>),
}

/// Which jobs are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    pub(crate) status: Option<JobStatus>,
    pub(crate) created_from: Option<Timestamp>,
    pub(crate) created_before: Option<Timestamp>,
    pub(crate) after: Option<JobId>,
    pub(crate) limit: u32,
}

impl Jobs {
    /// A job of the caller's project and mode.
    ///
    /// # Errors
    /// `job_not_found`.
    pub(crate) async fn stored(&self, caller: &Principal, id: JobId) -> Result<StoredJob, ApiError> {
        let found = self.0.tools.store.job((caller.project, caller.mode), id).await?;
        found.ok_or_else(missing)
    }

    /// A job, after its end or after `patience`.
    ///
    /// # Errors
    /// `job_not_found`.
    pub(crate) async fn read(
        &self,
        caller: &Principal,
        id: JobId,
        patience: Duration,
    ) -> Result<Read, ApiError> {
        // Registered before the look, so that an end between both is not missed.
        let waiter = self.0.waiters.register(id);
        let job = self.stored(caller, id).await?;
        if job.status.is_terminal() || patience.is_zero() {
            return self.shown(job).await;
        }
        self.await_end(waiter, patience).await;
        self.shown(self.stored(caller, id).await?).await
    }

    async fn shown(&self, job: StoredJob) -> Result<Read, ApiError> {
        if !job.status.is_terminal() {
            return Ok(Read::Running(Box::new(document::so_far(&job)?)));
        }
        if let Some(document) = self.0.tools.store.document(job.id).await? {
            return Ok(Read::Ended(self.0.bytes(job.id, document).await?));
        }
        // Between the two looks it was removed, or begun again.
        let again = self.0.tools.store.job((job.project, job.mode), job.id).await?;
        Ok(Read::Running(Box::new(document::so_far(&again.ok_or_else(missing)?)?)))
    }

    /// Waits for an end that this process tells, or that the database shows: another process may run the job.
    pub(crate) async fn await_end(
        &self,
        mut waiter: Waiter,
        patience: Duration,
    ) -> Option<Arc<super::Ended>> {
        let job = waiter.job();
        let waited = async {
            loop {
                tokio::select! {
                    told = waiter.told() => match told? {
                        Told::Ended(ended) => return Some(ended),
                        Told::Look | Told::Nothing => {}
                    },
                    () = self.left_waiting(job) => return None,
                    () = sleep(ELSEWHERE) => {}
                }
                if self.0.has_ended(job).await {
                    return None;
                }
            }
        };
        timeout(patience, waited).await.ok().flatten()
    }

    /// Resolves where this process stops and will not begin the job any more.
    async fn left_waiting(&self, job: JobId) {
        self.stopped().await;
        self.0.until(|running| !running.contains_key(&job)).await;
    }

    /// Jobs of the caller, newest first; and whether there are more.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn list(
        &self,
        caller: &Principal,
        page: Page,
    ) -> Result<(Vec<ListedJob>, bool), ApiError> {
        let filter = JobFilter {
            project: caller.project,
            mode: caller.mode,
            status: page.status,
            created_from: page.created_from,
            created_before: page.created_before,
            after: page.after,
            limit: page.limit + 1,
        };
        let mut jobs = self.0.tools.store.jobs(filter).await?;
        let more = jobs.len() > page.limit as usize;
        jobs.truncate(page.limit as usize);
        Ok((jobs, more))
    }

    /// The day now (UTC).
    pub(crate) fn today(&self) -> jiff::civil::Date {
        jiff::tz::Offset::UTC.to_datetime(self.0.now()).date()
    }

    /// What the caller's project used in a time, and what its jobs hold now.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn usage(
        &self,
        caller: &Principal,
        time: (Timestamp, Timestamp),
    ) -> Result<(Vec<UsageLine>, i64), ApiError> {
        self.0.flush_replays().await;
        let store = &self.0.tools.store;
        let lines = store.usage((caller.project, caller.mode), time).await?;
        Ok((lines, store.balance(caller.project, caller.mode).await?.reserved))
    }

    /// Cancels a job. One that runs ends at the next place between two steps; the answer does not wait for it.
    ///
    /// # Errors
    /// `job_not_found`; `job_not_cancelable` where it has ended otherwise.
    pub(crate) async fn cancel(&self, caller: &Principal, id: JobId) -> Result<StoredJob, ApiError> {
        let (jobs, caller) = (self.clone(), caller.clone());
        self.to_its_end(async move { jobs.cancel_now(&caller, id).await }).await
    }

    async fn cancel_now(&self, caller: &Principal, id: JobId) -> Result<StoredJob, ApiError> {
        self.want_canceled((caller.project, caller.mode, id)).await?;
        let job = self.stored(caller, id).await?;
        match job.status {
            // It came to its end while the wish was on its way.
            status if status.is_terminal() && status != JobStatus::Canceled => {
                Err(ended(ErrorCode::JobNotCancelable, status, "has ended"))
            }
            _ => Ok(job),
        }
    }

    /// Cancels a job that waits, and lets one that runs know.
    ///
    /// # Errors
    /// `job_not_found`; `job_not_cancelable` where it has ended otherwise.
    pub(crate) async fn want_canceled(&self, whose: (ProjectId, Mode, JobId)) -> Result<(), ApiError> {
        let (room, id) = (&self.0, whose.2);
        match room.tools.store.cancel(whose, room.lease(), room.now()).await? {
            Cancellation::Missing => return Err(missing()),
            Cancellation::Ended(JobStatus::Canceled) => {}
            Cancellation::Ended(status) => {
                return Err(ended(ErrorCode::JobNotCancelable, status, "has ended"));
            }
            Cancellation::Requested => {
                if let Some(running) = room.running().get(&id) {
                    running.stop.send_replace(Some(Stop::Cancel));
                } else {
                    room.tools.store.tell(Signal::Cancel(id));
                }
            }
            Cancellation::Yours(leased) => {
                room.end(&leased, super::end::End::Canceled, super::end::Found::default()).await?;
            }
        }
        Ok(())
    }

    /// Runs again what failed of a job, or of a part of it.
    ///
    /// # Errors
    /// `job_not_found`, `step_not_found`; `job_not_retryable` where nothing failed for a passing reason, or too long ago;
    /// `job_running` where it runs for something else; a limit of jobs at once or of the month.
    pub(crate) async fn retry(
        &self,
        caller: &Principal,
        (id, part): (JobId, &Part),
    ) -> Result<StoredJob, ApiError> {
        let (room, whose) = (&self.0, (caller.project, caller.mode, id));
        let (now, quotas) = (room.now(), &room.tools.quotas);
        let again = self.again(caller, (id, part)).await?;
        let retried = room.tools.store.retry(whose, again, now).await?;
        crate::failpoint::hit("after_retry");
        match retried {
            Retry::Missing => Err(missing()),
            Retry::Over(overrun) => Err(quotas
                .over(caller, overrun, room.until_an_end(caller))
                .map_or_else(super::submit::unlimited, ApiError::from)),
            Retry::NotFailed(status) => Err(nothing_failed(status, part)),
            Retry::Final => {
                let detail = "The job failed for a reason that does not pass, or too long ago.";
                let mut error = ApiError::new(ErrorCode::JobNotRetryable, detail);
                error.problem_mut().params.insert("status".to_owned(), "failed".into());
                Err(error)
            }
            Retry::Pending => {
                room.wake();
                self.stored(caller, id).await
            }
        }
    }
}

/// How often a job is looked up that another process may run.
const ELSEWHERE: Duration = Duration::from_millis(500);

impl Room {
    async fn has_ended(&self, job: JobId) -> bool {
        matches!(self.tools.store.document(job).await, Ok(Some(_)))
    }

    /// The bytes of a document.
    pub(super) async fn bytes(&self, job: JobId, document: Document) -> Result<Bytes, ApiError> {
        let name = match document {
            Document::Inline(bytes) => return Ok(bytes.into()),
            Document::Blob(name) => name,
        };
        let what = match self.tools.blobs.get(&name).await {
            Err(StoreError::Corrupt { what }) => what,
            read => return Ok(read?),
        };
        if self.tools.store.document(job).await? != Some(Document::Blob(name)) {
            // Removed for its age between the row and the file.
            return Err(missing());
        }
        tracing::error!(%job, what, "a stored answer is corrupt");
        let detail = format!("The stored answer of {job} can't be read.");
        let mut error = ApiError::new(ErrorCode::StoredResponseCorrupt, detail);
        error.problem_mut().params.insert("job".to_owned(), job.to_string().into());
        Err(error)
    }
}

/// The caller's project has no such job in its mode.
pub(crate) fn missing() -> ApiError {
    ApiError::new(ErrorCode::JobNotFound, "There is no such job.")
}

/// Nothing of what was meant failed, or it is not known yet.
fn nothing_failed(status: JobStatus, part: &Part) -> ApiError {
    let anew = "send the image with reprocess: true and a new Idempotency-Key to run it anew";
    let detail = match (status, part.step.is_some(), part.task.is_some()) {
        (JobStatus::Pending | JobStatus::Processing, ..) => return running(status, "It runs, and not for this."),
        (JobStatus::Succeeded | JobStatus::Failed, _, true) => "Nothing of this part failed. A whole step is done once \
            more, in a new job, by {\"reprocess\": true} at POST /v1/jobs/{id}/steps/{step}:retry."
            .to_owned(),
        (JobStatus::Succeeded | JobStatus::Failed, true, false) => "Nothing of this step failed, or of those that need \
            it. {\"reprocess\": true} in this request, with a new Idempotency-Key, does it once more in a new job."
            .to_owned(),
        (JobStatus::Succeeded, ..) => format!("The job did not fail: it succeeded; {anew}."),
        (JobStatus::Failed, ..) => format!("Nothing of the job can be run again; {anew}."),
        (JobStatus::Canceled, ..) => format!("The job was canceled; {anew}."),
        (JobStatus::Expired, ..) => format!("The job expired; {anew}."),
    };
    let mut error = ApiError::new(ErrorCode::JobNotRetryable, detail);
    error.problem_mut().params.insert("status".to_owned(), status.name().into());
    error
}

/// What is wanted can be had once the job has ended.
pub(super) fn running(status: JobStatus, detail: &str) -> ApiError {
    let mut error = ApiError::new(ErrorCode::JobRunning, detail);
    error.problem_mut().params.insert("status".to_owned(), status.name().into());
    error
}

fn ended(code: ErrorCode, status: JobStatus, what: &str) -> ApiError {
    let how = match status {
        JobStatus::Succeeded => "succeeded",
        JobStatus::Failed => "failed",
        JobStatus::Canceled => "was canceled",
        JobStatus::Expired => "expired",
        JobStatus::Pending | JobStatus::Processing => "runs",
    };
    let mut error = ApiError::new(code, format!("The job {what}: it {how}."));
    error.problem_mut().params.insert("status".to_owned(), status.name().into());
    error
}
