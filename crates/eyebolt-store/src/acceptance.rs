//! Accepting a job: its key, itself, its steps and the reservation of its price, in one transaction or not at all.

use eyebolt_types::{
    Feature, JobStatus, Mode,
    id::{JobId, KeyId, ProjectId, StepId},
};
use jiff::Timestamp;

use crate::{
    Store, StoreError,
    database::{Row, Transaction},
    ledger, times,
};

/// A job to be accepted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// The key that asked.
    pub key: Option<KeyId>,
    /// What was asked, as JSON.
    pub request: String,
    /// The image, as JSON.
    pub input: String,
    /// What is to be done, in this order.
    pub steps: Vec<NewStep>,
    /// What it costs at most: reserved now.
    pub units: u64,
    /// When it ends at the latest.
    pub deadline: Timestamp,
    /// What a retry is known by.
    pub idempotency: Option<Idempotency>,
}

/// One step of a job to be accepted.
#[derive(Debug, Clone)]
pub struct NewStep {
    /// Its name.
    pub id: StepId,
    /// What is asked.
    pub feature: Feature,
}

/// What a retry is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Digest of the idempotency key.
    pub key_hash: Vec<u8>,
    /// Digest of what was asked.
    pub fingerprint: Vec<u8>,
}

/// What became of a request to accept a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// The job is durable.
    Accepted,
    /// The key has a job already: nothing was done.
    Known(Record),
}

/// What an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its job.
    pub job: JobId,
    /// Digest of what was asked then.
    pub fingerprint: Vec<u8>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// Until when it is kept; none while its job runs.
    pub expires_at: Option<Timestamp>,
    /// The answer to be given again, once there is one.
    pub answer: Option<StoredAnswer>,
}

/// An answer, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The headers that belong to it, as JSON.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Where a key of that hash stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Free: never seen, or forgotten.
    Free,
    /// It has a job.
    By(Record),
}

const RESERVE_KEY: &str = "INSERT INTO idempotency_records (project_id, mode, key_hash, fingerprint, job_id, created_at) \
                           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project_id, mode, key_hash) DO NOTHING";
const RECORD: &str = "SELECT job_id, fingerprint, created_at, expires_at, answer_status, answer_headers, answer_body \
                      FROM idempotency_records WHERE project_id = $1 AND mode = $2 AND key_hash = $3";
const FORGET: &str = "DELETE FROM idempotency_records WHERE project_id = $1 AND mode = $2 AND key_hash = $3 \
                      AND expires_at <= $4";
const JOB: &str = "INSERT INTO jobs (id, project_id, mode, key_id, status, request, input, not_before, deadline_at, \
                   created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const STEP: &str = "INSERT INTO steps (job_id, position, id, feature, status) VALUES ($1, $2, $3, $4, $5)";

impl Store {
    /// Accepts a job, unless its key has one already: of two at once, one is accepted and the other learns of it.
    ///
    /// # Errors
    /// Where the database fails; then nothing was accepted, or a repeat with the key tells.
    pub async fn accept(&self, job: NewJob, now: Timestamp) -> Result<Acceptance, StoreError> {
        self.database
            .write(move |transaction| {
                if let Some(known) = reserve_key(transaction, &job, now)? {
                    return Ok(Acceptance::Known(known));
                }
                insert(transaction, &job, now)?;
                ledger::reserve(transaction, &job, now)?;
                Ok(Acceptance::Accepted)
            })
            .await
    }

    /// What a key stands for.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn idempotency_record(
        &self,
        (project, mode): (ProjectId, Mode),
        key_hash: Vec<u8>,
        now: Timestamp,
    ) -> Result<Claimed, StoreError> {
        let found = self.database.read(move |transaction| {
            let key = [project.to_string().into(), mode.name().into(), key_hash.as_slice().into()];
            transaction.query_one(RECORD, &key)
        });
        let record = found.await?.as_ref().map(record).transpose()?;
        let kept = record.filter(|record| record.expires_at.is_none_or(|expires| expires > now));
        Ok(kept.map_or(Claimed::Free, Claimed::By))
    }
}

/// Takes the key for this job; or tells whose it is.
fn reserve_key(
    transaction: &mut dyn Transaction,
    job: &NewJob,
    now: Timestamp,
) -> Result<Option<Record>, StoreError> {
    let Some(Idempotency { key_hash, fingerprint }) = &job.idempotency else { return Ok(None) };
    let key = || [job.project.to_string().into(), job.mode.name().into(), key_hash.as_slice().into()];
    let now = times::micros(now);
    let [project, mode, hash] = key();
    transaction.execute(FORGET, &[project, mode, hash, now.into()])?;
    let [project, mode, hash] = key();
    let row = [project, mode, hash, fingerprint.as_slice().into(), job.id.to_string().into(), now.into()];
    if transaction.execute(RESERVE_KEY, &row)? == 1 {
        return Ok(None);
    }
    let known = transaction.query_one(RECORD, &key())?;
    // The winner's transaction ended between the two statements, and its record went with it.
    known.as_ref().map(record).transpose()?.map(Some).ok_or(StoreError::Conflict)
}

fn insert(transaction: &mut dyn Transaction, job: &NewJob, now: Timestamp) -> Result<(), StoreError> {
    let row = [
        job.id.to_string().into(),
        job.project.to_string().into(),
        job.mode.name().into(),
        job.key.map(|key| key.to_string()).into(),
        JobStatus::Pending.name().into(),
        job.request.as_str().into(),
        job.input.as_str().into(),
        times::micros(now).into(),
        times::micros(job.deadline).into(),
        times::micros(now).into(),
    ];
    transaction.execute(JOB, &row)?;
    for (position, step) in job.steps.iter().enumerate() {
        let row = [
            job.id.to_string().into(),
            (position as i64).into(),
            step.id.to_string().into(),
            step.feature.name().into(),
            JobStatus::Pending.name().into(),
        ];
        transaction.execute(STEP, &row)?;
    }
    Ok(())
}

fn record(row: &Row) -> Result<Record, StoreError> {
    let answer = match row.optional_integer(4)? {
        None => None,
        Some(status) => Some(StoredAnswer {
            status: u16::try_from(status)
                .map_err(|_| StoreError::Corrupt { what: format!("an answer of status {status}") })?,
            headers: row.text(5)?,
            body: row.blob(6)?,
        }),
    };
    Ok(Record {
        job: row.parsed(0)?,
        fingerprint: row.blob(1)?,
        created_at: times::timestamp(row.integer(2)?)?,
        expires_at: times::optional(row.optional_integer(3)?)?,
        answer,
    })
}
