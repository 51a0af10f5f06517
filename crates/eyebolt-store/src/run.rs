//! Running jobs: a worker leases them, keeps the lease alive, commits each step and closes the job. The lease's token
//! only grows; who writes with an older one has lost the job, and changes nothing (fencing).

use eyebolt_types::{
    JobStatus,
    id::{JobId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Store, StoreError, StoredAnswer,
    database::{Row, Transaction},
    ledger, times,
};

/// Crashes of its worker after which a job is quarantined.
const MAX_CRASHES: i64 = 3;

/// A claim to be made.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who claims: a name of this process's run, never used again.
    pub owner: String,
    /// Jobs at most.
    pub limit: u32,
    /// How long the lease holds without a heartbeat.
    pub lease_until: Timestamp,
}

/// A job that this worker may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedJob {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub project: ProjectId,
    /// The fencing token: greater than every earlier one of this job.
    pub token: i64,
    /// What was asked, as JSON.
    pub request: String,
    /// The image, as JSON.
    pub input: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// Positions of the steps that are not finished.
    pub steps: Vec<u32>,
}

/// What a heartbeat found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// The lease goes on.
    Held,
    /// It goes on, and somebody wants the job to be canceled.
    CancelRequested,
    /// The job is somebody else's, or ended.
    Lost,
}

/// How one step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutcome {
    /// Its place.
    pub position: u32,
    /// Who answered.
    pub model: Option<String>,
    /// The result, or the problem as JSON.
    pub result: Result<Vec<u8>, String>,
    /// When it began.
    pub started_at: Timestamp,
}

/// How a job ends.
#[derive(Debug, Clone)]
pub struct Closing {
    /// A terminal state.
    pub status: JobStatus,
    /// Why it failed: a problem as JSON.
    pub error: Option<String>,
    /// Units to be charged.
    pub used: u64,
    /// What retries are answered with.
    pub answer: StoredAnswer,
    /// Until when they are.
    pub expires_at: Timestamp,
}

/// The lease was lost: nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced;

const CLAIM: &str = "UPDATE jobs SET status = 'processing', lease_owner = $1, lease_until = $2, \
     lease_token = lease_token + 1, started_at = COALESCE(started_at, $3) \
     WHERE id IN (SELECT id FROM jobs WHERE status = 'pending' AND not_before <= $3 ORDER BY not_before, id LIMIT $4 \
     FOR UPDATE SKIP LOCKED) \
     RETURNING id, project_id, lease_token, request, input, created_at, deadline_at";
const UNFINISHED: &str =
    "SELECT position FROM steps WHERE job_id = $1 AND finished_at IS NULL ORDER BY position";
const HEARTBEAT: &str = "UPDATE jobs SET lease_until = $1 WHERE id = $2 AND lease_token = $3 \
                         AND status = 'processing' RETURNING cancel_requested_at";
const HELD: &str = "SELECT id FROM jobs WHERE id = $1 AND lease_token = $2 AND status = 'processing' \
                    FOR UPDATE";
const STEP: &str = "UPDATE steps SET status = $1, attempts = attempts + 1, model = $2, result = $3, error = $4, \
                    started_at = $5, finished_at = $6 WHERE job_id = $7 AND position = $8 AND finished_at IS NULL";
const CLOSE: &str = "UPDATE jobs SET status = $1, error = $2, finished_at = $3, lease_owner = NULL, \
                     lease_until = NULL WHERE id = $4 AND lease_token = $5 AND status = 'processing'";
const ANSWER: &str = "UPDATE idempotency_records SET expires_at = $1, answer_status = $2, answer_headers = $3, \
                      answer_body = $4 WHERE job_id = $5";
const RESULT: &str = "SELECT status, result FROM steps WHERE job_id = $1 ORDER BY position";
const LOST: &str = "UPDATE jobs SET status = 'pending', crashes = crashes + 1, not_before = $1, lease_owner = NULL, \
                    lease_until = NULL WHERE status = 'processing' AND crashes < $2 \
                    AND (lease_until < $1 OR lease_owner LIKE $3) RETURNING id";
const POISON: &str = "SELECT id, lease_token FROM jobs WHERE status = 'processing' AND crashes >= $2 \
                      AND (lease_until < $1 OR lease_owner LIKE $3) FOR UPDATE SKIP LOCKED";

impl Store {
    /// Leases pending jobs, oldest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim(&self, claim: Claim, now: Timestamp) -> Result<Vec<LeasedJob>, StoreError> {
        self.database
            .write(move |transaction| {
                let parameters = [
                    claim.owner.as_str().into(),
                    times::micros(claim.lease_until).into(),
                    times::micros(now).into(),
                    i64::from(claim.limit).into(),
                ];
                let rows = transaction.query(CLAIM, &parameters)?;
                let mut jobs =
                    rows.iter().map(|row| leased(transaction, row)).collect::<Result<Vec<_>, _>>()?;
                // Rows come back in any order.
                jobs.sort_by_key(|job| (job.created_at, job.id));
                Ok(jobs)
            })
            .await
    }

    /// Keeps a lease alive.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn heartbeat(
        &self,
        (job, token): (JobId, i64),
        lease_until: Timestamp,
    ) -> Result<Heartbeat, StoreError> {
        self.database
            .write(move |transaction| {
                let parameters = [times::micros(lease_until).into(), job.to_string().into(), token.into()];
                Ok(match transaction.query_one(HEARTBEAT, &parameters)? {
                    None => Heartbeat::Lost,
                    Some(row) if row.optional_integer(0)?.is_some() => Heartbeat::CancelRequested,
                    Some(_) => Heartbeat::Held,
                })
            })
            .await
    }

    /// Writes what a step found. A step that is finished stays as it is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn finish_step(
        &self,
        (job, token): (JobId, i64),
        outcome: StepOutcome,
        now: Timestamp,
    ) -> Result<Result<(), Fenced>, StoreError> {
        self.database
            .write(move |transaction| {
                if transaction.query_one(HELD, &[job.to_string().into(), token.into()])?.is_none() {
                    return Ok(Err(Fenced));
                }
                let status = if outcome.result.is_ok() { JobStatus::Succeeded } else { JobStatus::Failed };
                let parameters = [
                    status.name().into(),
                    outcome.model.clone().into(),
                    outcome.result.as_ref().ok().cloned().into(),
                    outcome.result.as_ref().err().cloned().into(),
                    times::micros(outcome.started_at).into(),
                    times::micros(now).into(),
                    job.to_string().into(),
                    i64::from(outcome.position).into(),
                ];
                transaction.execute(STEP, &parameters)?;
                Ok(Ok(()))
            })
            .await
    }

    /// Results of a job's steps, in their order: none where a step has not succeeded.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn step_results(&self, job: JobId) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let rows =
            self.database.read(move |transaction| transaction.query(RESULT, &[job.to_string().into()]));
        rows.await?.iter().map(|row| row.optional_blob(1)).collect()
    }

    /// Ends a job: its state, its price and the answer to retries, at once or not at all.
    ///
    /// # Errors
    /// Where the database fails.
    ///
    /// # Panics
    /// Where the state is not a terminal one.
    pub async fn close(
        &self,
        (job, token): (JobId, i64),
        closing: Closing,
        now: Timestamp,
    ) -> Result<Result<(), Fenced>, StoreError> {
        assert!(closing.status.is_terminal(), "a job ends in a terminal state");
        self.database.write(move |transaction| end(transaction, (job, token), &closing, now)).await
    }

    /// Gives jobs back whose worker is gone: whose lease is over, or whose owner's name begins with `gone`. `closing`
    /// is how jobs end that killed their worker too often. Returns how many were given back, and how many ended.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn reap(
        &self,
        gone: Option<String>,
        closing: Closing,
        now: Timestamp,
    ) -> Result<(usize, usize), StoreError> {
        self.database
            .write(move |transaction| {
                // An owner's name is never empty, so that this matches nobody.
                let gone = gone.as_ref().map_or_else(String::new, |prefix| format!("{prefix}%"));
                let parameters =
                    || [times::micros(now).into(), (MAX_CRASHES - 1).into(), gone.as_str().into()];
                let poison = transaction.query(POISON, &parameters())?;
                for row in &poison {
                    let _ = end(transaction, (row.parsed(0)?, row.integer(1)?), &closing, now)?;
                }
                Ok((transaction.query(LOST, &parameters())?.len(), poison.len()))
            })
            .await
    }
}

fn end(
    transaction: &mut dyn Transaction,
    (job, token): (JobId, i64),
    closing: &Closing,
    now: Timestamp,
) -> Result<Result<(), Fenced>, StoreError> {
    let id = job.to_string();
    let parameters = [
        closing.status.name().into(),
        closing.error.clone().into(),
        times::micros(now).into(),
        id.as_str().into(),
        token.into(),
    ];
    if transaction.execute(CLOSE, &parameters)? == 0 {
        return Ok(Err(Fenced));
    }
    let answer = [
        times::micros(closing.expires_at).into(),
        i64::from(closing.answer.status).into(),
        closing.answer.headers.as_str().into(),
        closing.answer.body.as_slice().into(),
        id.as_str().into(),
    ];
    transaction.execute(ANSWER, &answer)?;
    ledger::settle(transaction, (&id, closing.used), now)?;
    Ok(Ok(()))
}

fn leased(transaction: &mut dyn Transaction, row: &Row) -> Result<LeasedJob, StoreError> {
    let id: JobId = row.parsed(0)?;
    let steps = transaction.query(UNFINISHED, &[id.to_string().into()])?;
    Ok(LeasedJob {
        id,
        project: row.parsed(1)?,
        token: row.integer(2)?,
        request: row.text(3)?,
        input: row.text(4)?,
        created_at: times::timestamp(row.integer(5)?)?,
        deadline: times::timestamp(row.integer(6)?)?,
        steps: steps.iter().map(|row| Ok(row.integer(0)? as u32)).collect::<Result<_, StoreError>>()?,
    })
}
