//! What a used idempotency key stands for.

use eyebolt_store::{Idempotency, Known, Principal, Record, Replays, StoredAnswer};
use eyebolt_types::{Dedup, ErrorCode, JobStatus, id::JobId};
use jiff::Timestamp;

use super::{
    Ended, Jobs, Room,
    end::dedup_status,
    pipeline::Part,
    submit::{Replay, Submitted},
};
use crate::{ApiError, idempotency::IdempotencyKey};

impl Jobs {
    /// The kept answer to a request of which all but the body is known, and the body by what was declared of it. Whatever
    /// else the key stands for, the body tells.
    ///
    /// # Errors
    /// Where the answer can't be read.
    pub(crate) async fn replay_unread(
        &self,
        caller: &Principal,
        key: &IdempotencyKey,
        body: &[u8],
    ) -> Result<Option<Replay>, ApiError> {
        let Some(Known::Record(record)) = self.key(caller, key).await? else { return Ok(None) };
        let again = record.retryable_until.is_some_and(|until| until > self.0.now());
        match record.answer {
            Some(answer) if !again && record.body.as_deref() == Some(body) => {
                self.replay(caller, record.job, answer).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What a used key stands for.
    pub(super) async fn known(
        &self,
        caller: &Principal,
        known: Known,
        idempotency: &Idempotency,
    ) -> Result<Submitted, ApiError> {
        let room = &self.0;
        let record = match known {
            Known::Record(record) => record,
            Known::Batch(record) => return Err(reused(record.created_at)),
            Known::Expired(since) => return Err(expired(since)),
        };
        if record.fingerprint != idempotency.fingerprint {
            return Err(reused(record.created_at));
        }
        let again = record.retryable_until.is_some_and(|until| until > room.now());
        if record.status == JobStatus::Failed && again {
            // It failed for a reason that may have passed: what is not finished runs again.
            let waiter = room.waiters.register(record.job);
            match self.retry(caller, (record.job, &Part::default())).await {
                Ok(_) => return Ok(Submitted::Joined(waiter)),
                // A twin runs it, or ran it to its end meanwhile.
                Err(error)
                    if matches!(error.problem().code, ErrorCode::JobNotRetryable | ErrorCode::JobRunning) => {
                }
                Err(error) => return Err(error),
            }
            let Some(answer) = room.answer_of(caller, record.job).await? else {
                return Ok(Submitted::Joined(waiter));
            };
            return self.replay(caller, record.job, answer).await.map(Submitted::Replay);
        }
        self.answered(caller, record).await
    }

    async fn answered(&self, caller: &Principal, record: Record) -> Result<Submitted, ApiError> {
        let room = &self.0;
        let job = record.job;
        let Some(answer) = record.answer else {
            // Registered first: an end between the two looks is not missed.
            let waiter = room.waiters.register(job);
            let Some(answer) = room.answer_of(caller, job).await? else {
                return Ok(Submitted::Joined(waiter));
            };
            return self.replay(caller, job, answer).await.map(Submitted::Replay);
        };
        self.replay(caller, job, answer).await.map(Submitted::Replay)
    }

    async fn replay(&self, caller: &Principal, job: JobId, answer: StoredAnswer) -> Result<Replay, ApiError> {
        let room = &self.0;
        room.count_replay(Replays { project: caller.project, mode: caller.mode, key: caller.key });
        let (ended, request_id) = room.ended(job, answer).await?;
        Ok(Replay { ended, request_id, job })
    }

    /// What was answered when a job ended, and to which request.
    ///
    /// # Errors
    /// Where it can't be read.
    pub(crate) async fn kept_answer(&self, job: JobId) -> Result<Option<(Ended, String)>, ApiError> {
        let Some(answer) = self.0.tools.store.answer(job).await? else { return Ok(None) };
        Ok(Some(self.0.ended(job, answer).await?))
    }

    /// What a key stands for.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn key(
        &self,
        caller: &Principal,
        key: &IdempotencyKey,
    ) -> Result<Option<Known>, ApiError> {
        let whose = (caller.project, caller.mode);
        Ok(self.0.tools.store.idempotency_record(whose, key.hash(), self.0.now()).await?)
    }
}

impl Room {
    async fn ended(&self, job: JobId, answer: StoredAnswer) -> Result<(Ended, String), ApiError> {
        let body = self.bytes(job, answer.body).await?;
        let told = told_of(&body);
        let code = (answer.status >= 400).then_some(told.code).flatten();
        let dedup = told.dedup.as_ref().map(dedup_status);
        Ok((Ended { status: answer.status, body, code, dedup }, answer.request_id))
    }

    /// The answer that is kept of a job, where it has ended by now.
    async fn answer_of(&self, caller: &Principal, job: JobId) -> Result<Option<StoredAnswer>, ApiError> {
        let stored = self.tools.store.job((caller.project, caller.mode), job).await?;
        if !stored.is_some_and(|job| job.status.is_terminal()) {
            return Ok(None);
        }
        Ok(self.tools.store.answer(job).await?)
    }
}

/// What of a body that is kept as bytes is told in headers too.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct ToldOf {
    /// Of a problem.
    code: Option<ErrorCode>,
    /// Of a job.
    dedup: Option<Dedup>,
}

fn told_of(body: &[u8]) -> ToldOf {
    serde_json::from_slice(body).unwrap_or_default()
}

/// The key stands for something else.
pub(crate) fn reused(since: Timestamp) -> ApiError {
    let detail = format!("The key was first used at {since} for another request.");
    with(ErrorCode::IdempotencyKeyReused, &detail, ("first_used_at", since))
}

/// What the key stands for is no longer kept.
pub(crate) fn expired(since: Timestamp) -> ApiError {
    let detail = format!("The answer to this key was kept until {since}.");
    with(ErrorCode::IdempotencyKeyExpired, &detail, ("expired_at", since))
}

fn with(code: ErrorCode, detail: &str, (name, time): (&str, Timestamp)) -> ApiError {
    let mut error = ApiError::new(code, detail);
    error.problem_mut().params.insert(name.to_owned(), time.to_string().into());
    error
}
