//! Running jobs: a worker leases them, keeps the leases alive and commits each step. The lease's token only grows; who
//! writes with an older one has lost the job, and changes nothing (fencing).

use std::time::Duration;

use eyebolt_types::{
    Class, StepStatus,
    id::{JobId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Lease, Store, StoreError, StoredJob,
    database::{Row, Statement, Transaction},
    job::{self, columns},
    times,
};

/// A job that this worker may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedJob {
    /// The job.
    pub job: StoredJob,
    /// The fencing token: greater than every earlier one of this job.
    pub token: i64,
    /// Digest of the image.
    pub sha256: Vec<u8>,
    /// The image, where it is small; otherwise it is a blob.
    pub content: Option<Vec<u8>>,
}

/// Where jobs wait: those of a project that are equally urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Line {
    /// Whose.
    pub project: ProjectId,
    /// How urgent.
    pub class: Class,
}

/// How many wait in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Which line.
    pub line: Line,
    /// So many jobs.
    pub count: u64,
    /// How long a worker will be busy with all of them.
    pub predicted: Duration,
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

/// How one attempt at a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutcome {
    /// Its place.
    pub position: u32,
    /// Which attempt it was, from 1 on: a write that is repeated counts nothing twice.
    pub attempt: u32,
    /// Who answered.
    pub model: Option<String>,
    /// The result, or the problem as JSON.
    pub result: Result<Vec<u8>, String>,
    /// Whether there will be no other attempt: always so for a result.
    pub last: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// The lease was lost: nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced;

const CLAIM: &str = concat!(
    "UPDATE jobs SET status = 'processing', lease_owner = $1, lease_until = $2, \
     lease_token = lease_token + 1, started_at = COALESCE(started_at, $3) \
     WHERE id IN (SELECT id FROM jobs WHERE status = 'pending' AND project_id = $4 AND class = $5 \
     AND not_before <= $3 ORDER BY not_before, id LIMIT $6 FOR UPDATE SKIP LOCKED) \
     RETURNING ",
    columns!()
);
const IMAGE: &str = "SELECT sha256, content FROM images WHERE id = $1";
const KEPT: &str = "SELECT sha256, content FROM images WHERE id = $1 AND removed_at IS NULL";
const HEARTBEAT: &str = "UPDATE jobs SET lease_until = $1 WHERE id = $2 AND lease_token = $3 \
                         AND status = 'processing' RETURNING cancel_requested_at";
#[cfg(not(feature = "torture"))]
const HELD: &str =
    "SELECT id FROM jobs WHERE id = $1 AND lease_token = $2 AND status = 'processing' FOR UPDATE";
const STEP: &str = "UPDATE steps SET status = $1, attempts = $2, model = COALESCE($3, model), result = $4, \
                    error = $5, started_at = $6, finished_at = $7 \
                    WHERE job_id = $8 AND position = $9 AND finished_at IS NULL";
const RELEASE: &str = "UPDATE jobs SET status = 'pending', not_before = $1, lease_owner = NULL, lease_until = NULL \
                       WHERE id = $2 AND lease_token = $3 AND status = 'processing'";
const NEWEST: &str = "SELECT max(created_at) FROM jobs WHERE status = 'pending'";
const LINES: &str = "SELECT project_id, class, COUNT(*), CAST(SUM(predicted_us) AS BIGINT) FROM jobs \
                     WHERE status = 'pending' AND not_before <= $1 GROUP BY project_id, class";
const NEXT: &str = "SELECT MIN(not_before) FROM jobs WHERE status = 'pending'";

impl Store {
    /// Leases pending jobs whose time has come, of each line the oldest first, at most as many as are wanted of it. Those
    /// of each line, in the order of the lines.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim(
        &self,
        lease: Lease,
        wanted: Vec<(Line, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Vec<LeasedJob>>, StoreError> {
        self.database
            .write(move |transaction| {
                let claim = |(line, limit): &(Line, u32)| {
                    let parameters = vec![
                        lease.owner.as_str().into(),
                        times::micros(lease.until).into(),
                        times::micros(now).into(),
                        line.project.to_string().into(),
                        line.class.name().into(),
                        i64::from(*limit).into(),
                    ];
                    (CLAIM, parameters)
                };
                let lines = transaction.query_all(&wanted.iter().map(claim).collect::<Vec<_>>())?;
                let mut jobs = all_leased(transaction, &lines.concat())?;
                let of_lines = lines.iter().map(|rows| {
                    let rest = jobs.split_off(rows.len());
                    let mut of_line = std::mem::replace(&mut jobs, rest);
                    // Rows come back in any order.
                    of_line.sort_by_key(|leased| (leased.job.created_at, leased.job.id));
                    of_line
                });
                Ok(of_lines.collect())
            })
            .await
    }

    /// The lines in which pending jobs wait whose time has come.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn lines(&self, now: Timestamp) -> Result<Vec<Waiting>, StoreError> {
        let waiting = |row: &Row| {
            let line = Line { project: row.parsed(0)?, class: row.parsed(1)? };
            let predicted = Duration::from_micros(row.integer(3)?.unsigned_abs());
            Ok(Waiting { line, count: row.integer(2)?.unsigned_abs(), predicted })
        };
        let rows = self
            .database
            .read(move |transaction| transaction.query(LINES, &[times::micros(now).into()]))
            .await?;
        rows.iter().map(waiting).collect()
    }

    /// When the next pending job may be claimed, where there is one.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn next_claim(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = self.database.read(|transaction| transaction.query_one(NEXT, &[])).await?;
        times::optional(row.map_or(Ok(None), |row| row.optional_integer(0))?)
    }

    /// When the newest job was accepted that waits: no server's clock may begin before.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn newest_pending(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = self.database.read(|transaction| transaction.query_one(NEWEST, &[])).await?;
        times::optional(row.map_or(Ok(None), |row| row.optional_integer(0))?)
    }

    /// The image of a job: its digest, and its bytes where they are small. `None`: it is kept no longer.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn image_of(&self, job: &StoredJob) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>, StoreError> {
        let image = job.image.to_string();
        let row =
            self.database.read(move |transaction| transaction.query_one(KEPT, &[image.as_str().into()]));
        row.await?.map(|row| Ok((row.blob(0)?, row.optional_blob(1)?))).transpose()
    }

    /// Keeps leases alive; an answer for each, in their order.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn heartbeat(
        &self,
        leases: Vec<(JobId, i64)>,
        until: Timestamp,
    ) -> Result<Vec<Heartbeat>, StoreError> {
        let beat = move |(job, token): &(JobId, i64)| {
            (HEARTBEAT, vec![times::micros(until).into(), job.to_string().into(), (*token).into()])
        };
        let answer = |rows: Vec<Row>| {
            Ok(match rows.first() {
                None => Heartbeat::Lost,
                Some(row) if row.optional_integer(0)?.is_some() => Heartbeat::CancelRequested,
                Some(_) => Heartbeat::Held,
            })
        };
        self.database
            .write(move |transaction| {
                let beats: Vec<_> = leases.iter().map(beat).collect();
                transaction.query_all(&beats)?.into_iter().map(answer).collect()
            })
            .await
    }

    /// Writes what an attempt at a step found. A step that is finished stays as it is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn finish_step(
        &self,
        lease: (JobId, i64),
        outcome: StepOutcome,
    ) -> Result<Result<(), Fenced>, StoreError> {
        self.database
            .write(move |transaction| {
                if !held(transaction, lease)? {
                    return Ok(Err(Fenced));
                }
                transaction.query_all(&[write_step((lease.0, true), &outcome)])?;
                Ok(Ok(()))
            })
            .await
    }

    /// Gives a job back, to be claimed from `not_before` on; with what became of the steps that were tried.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn release(
        &self,
        (job, token): (JobId, i64),
        tried: Vec<StepOutcome>,
        not_before: Timestamp,
    ) -> Result<Result<(), Fenced>, StoreError> {
        self.database
            .write(move |transaction| {
                let parameters = [times::micros(not_before).into(), job.to_string().into(), token.into()];
                if transaction.execute(RELEASE, &parameters)? == 0 {
                    return Ok(Err(Fenced));
                }
                let steps: Vec<_> = tried.iter().map(|outcome| write_step((job, true), outcome)).collect();
                transaction.query_all(&steps)?;
                Ok(Ok(()))
            })
            .await
    }
}

/// Whether the token is still the job's last, and the job has not ended.
pub(crate) fn held(
    transaction: &mut dyn Transaction,
    (job, token): (JobId, i64),
) -> Result<bool, StoreError> {
    #[cfg(feature = "torture")]
    const HELD: &str = concat!(
        "SELECT id FROM jobs WHERE id = $1 AND ((lease_token = $2 AND status = 'processing') OR ",
        "CAST($3 AS BIGINT) = 1) FOR UPDATE"
    );
    #[cfg(feature = "torture")]
    let parameters = [job.to_string().into(), token.into(), i64::from(crate::defect::has("no_fence")).into()];
    #[cfg(not(feature = "torture"))]
    let parameters = [job.to_string().into(), token.into()];
    Ok(transaction.query_one(HELD, &parameters)?.is_some())
}

/// Writes how an attempt ended; its result only where `keep` says so.
pub(crate) fn write_step((job, keep): (JobId, bool), outcome: &StepOutcome) -> Statement {
    let status = match (&outcome.result, outcome.last) {
        (Ok(_), _) => StepStatus::Succeeded,
        (Err(_), true) => StepStatus::Failed,
        (Err(_), false) => StepStatus::Pending,
    };
    let finished = outcome.last || outcome.result.is_ok();
    let parameters = [
        status.name().into(),
        i64::from(outcome.attempt).into(),
        outcome.model.clone().into(),
        outcome.result.as_ref().ok().filter(|_| keep).cloned().into(),
        outcome.result.as_ref().err().cloned().into(),
        times::micros(outcome.started_at).into(),
        finished.then(|| times::micros(outcome.finished_at)).into(),
        job.to_string().into(),
        i64::from(outcome.position).into(),
    ];
    (STEP, parameters.into())
}

/// Rows of [`columns`], just leased.
pub(crate) fn all_leased(
    transaction: &mut dyn Transaction,
    rows: &[Row],
) -> Result<Vec<LeasedJob>, StoreError> {
    let jobs = job::all_stored(transaction, rows)?;
    let images: Vec<_> = jobs.iter().map(|job| (IMAGE, vec![job.image.to_string().into()])).collect();
    let images = transaction.query_all(&images)?;
    jobs.into_iter()
        .zip(rows.iter().zip(&images))
        .map(|(job, (row, image))| leased(job, row, image))
        .collect()
}

fn leased(job: StoredJob, row: &Row, image: &[Row]) -> Result<LeasedJob, StoreError> {
    let image = image
        .first()
        .ok_or_else(|| StoreError::Corrupt { what: format!("{} has no image {}", job.id, job.image) })?;
    Ok(LeasedJob {
        job,
        token: row.integer(job::TOKEN)?,
        sha256: image.blob(0)?,
        content: image.optional_blob(1)?,
    })
}
