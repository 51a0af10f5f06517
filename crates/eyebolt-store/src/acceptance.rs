//! Accepting a job: its key, its image, itself, its steps and the reservation of its price, in one transaction or not
//! at all.

use eyebolt_types::{
    Feature, JobStatus, Mode, StepStatus,
    id::{ImageId, JobId, KeyId, ProjectId, StepId},
};
use jiff::Timestamp;

use crate::{
    Closing, ContentKey, Store, StoreError, StoredStep, closing, content,
    database::{Statement, Transaction},
    ledger,
    record::{self, Known},
    times,
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
    /// The request that asked.
    pub request_id: String,
    /// What was asked, as JSON.
    pub request: String,
    /// What is known of the image, as JSON.
    pub input: String,
    /// The image.
    pub image: NewImage,
    /// Whether the image was seen before, as JSON.
    pub dedup: String,
    /// Digest of what is asked, where the image is to be known when it comes again.
    pub operation: Option<[u8; 32]>,
    /// What is to be done, in this order. Each costs a unit, reserved now.
    pub steps: Vec<NewStep>,
    /// When it ends at the latest.
    pub deadline: Timestamp,
    /// What a retry is known by.
    pub idempotency: Option<Idempotency>,
    /// Whoever accepts it runs it at once, under token 1.
    pub lease: Option<Lease>,
}

/// Who runs a job, and until when without a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// A name of this process's run, never used again.
    pub owner: String,
    /// The end of the lease.
    pub until: Timestamp,
}

/// The image of a job to be accepted.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Digest of its bytes: what it is known by inside the project and mode.
    pub sha256: [u8; 32],
    /// Size of the file.
    pub bytes: u64,
    /// The file, where it is small; otherwise it is a blob already.
    pub content: Option<Vec<u8>>,
}

/// One step of a job to be accepted.
#[derive(Debug, Clone)]
pub struct NewStep {
    /// Its name.
    pub id: StepId,
    /// What is asked.
    pub feature: Feature,
    /// The snapshot that answers.
    pub model: Option<String>,
}

impl NewStep {
    /// The step as it stands after acceptance, at its place.
    pub fn pending(self, position: u32) -> StoredStep {
        StoredStep {
            position,
            id: self.id,
            feature: self.feature,
            model: self.model,
            status: StepStatus::Pending,
            attempts: 0,
            result: None,
            error: None,
            started_at: None,
            finished_at: None,
        }
    }
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
    /// The job is durable, and this is the name of its image.
    Accepted(ImageId),
    /// The key was used before: nothing was done.
    Known(Known),
}

const IMAGE: &str = "INSERT INTO images (id, project_id, mode, sha256, bytes, content, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project_id, mode, sha256) DO NOTHING";
const JOB: &str = "INSERT INTO jobs (id, project_id, mode, key_id, request_id, status, request, input, image_id, dedup, \
                   not_before, deadline_at, created_at, lease_owner, lease_until, lease_token, started_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, \
                   (SELECT id FROM images WHERE project_id = $2 AND mode = $3 AND sha256 = $9), \
                   $10, $11, $12, $13, $14, $15, $16, $17) RETURNING image_id";
const STEP: &str =
    "INSERT INTO steps (job_id, position, id, feature, model, status) VALUES ($1, $2, $3, $4, $5, $6)";

impl Store {
    /// Accepts a job, unless its key was used before: of two at once, one is accepted and the other learns of it.
    ///
    /// # Errors
    /// Where the database fails; then nothing was accepted, or a repeat with the key tells.
    pub async fn accept(&self, job: NewJob, now: Timestamp) -> Result<Acceptance, StoreError> {
        self.database.write(move |transaction| accept(transaction, &job, now)).await
    }

    /// Accepts a job that is answered already, from another job's results: it costs nothing. It must have a lease.
    ///
    /// # Errors
    /// As [`Store::accept`].
    pub async fn accept_answered(
        &self,
        job: NewJob,
        closing: Closing,
        now: Timestamp,
    ) -> Result<Acceptance, StoreError> {
        self.database
            .write(move |transaction| {
                let accepted = accept(transaction, &job, now)?;
                if let Acceptance::Accepted(_) = accepted {
                    let _ = closing::close(transaction, (job.id, 1), &closing, now)?;
                }
                Ok(accepted)
            })
            .await
    }
}

fn accept(transaction: &mut dyn Transaction, job: &NewJob, now: Timestamp) -> Result<Acceptance, StoreError> {
    #[cfg(feature = "torture")]
    if crate::defect::has("late_key") {
        crate::defect::keep_key(job);
    }
    #[cfg(feature = "torture")]
    let job = &NewJob {
        idempotency: job.idempotency.clone().filter(|_| !crate::defect::has("late_key")),
        ..job.clone()
    };
    if let Some(idempotency) = &job.idempotency
        && let Some(known) = record::reserve(transaction, job, idempotency, now)?
    {
        return Ok(Acceptance::Known(known));
    }
    let mut rows = vec![insert_image(job, now), insert_job(job, now)];
    rows.extend(job.steps.iter().zip(0..).map(|(step, position)| insert_step(job.id, step, position)));
    if let Some(operation) = job.operation {
        let key = ContentKey { project: job.project, mode: job.mode, operation, job: job.id };
        rows.push(content::remember_bytes(&key, &job.image.sha256, now));
    }
    rows.push(ledger::reserve((job.id, job.steps.len() as u64), now));
    let written = transaction.query_all(&rows)?;
    let image = written.get(1).and_then(|rows| rows.first()).ok_or(StoreError::Conflict)?;
    Ok(Acceptance::Accepted(image.parsed(0)?))
}

fn insert_image(job: &NewJob, now: Timestamp) -> Statement {
    let image = &job.image;
    let row = [
        ImageId::new().to_string().into(),
        job.project.to_string().into(),
        job.mode.name().into(),
        image.sha256.as_slice().into(),
        (image.bytes as i64).into(),
        image.content.clone().into(),
        times::micros(now).into(),
    ];
    (IMAGE, row.into())
}

fn insert_job(job: &NewJob, now: Timestamp) -> Statement {
    let leased = job.lease.as_ref();
    let status = if leased.is_some() { JobStatus::Processing } else { JobStatus::Pending };
    let row = [
        job.id.to_string().into(),
        job.project.to_string().into(),
        job.mode.name().into(),
        job.key.map(|key| key.to_string()).into(),
        job.request_id.as_str().into(),
        status.name().into(),
        job.request.as_str().into(),
        job.input.as_str().into(),
        job.image.sha256.as_slice().into(),
        job.dedup.as_str().into(),
        times::micros(now).into(),
        times::micros(job.deadline).into(),
        times::micros(now).into(),
        leased.map(|lease| lease.owner.as_str()).into(),
        leased.map(|lease| times::micros(lease.until)).into(),
        i64::from(leased.is_some()).into(),
        leased.map(|_| times::micros(now)).into(),
    ];
    (JOB, row.into())
}

fn insert_step(job: JobId, step: &NewStep, position: i64) -> Statement {
    let row = [
        job.to_string().into(),
        position.into(),
        step.id.to_string().into(),
        step.feature.name().into(),
        step.model.clone().into(),
        StepStatus::Pending.name().into(),
    ];
    (STEP, row.into())
}
