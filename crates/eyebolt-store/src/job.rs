//! Jobs as they are read.

use eyebolt_types::{
    Class, Feature, JobStatus, Mode, StepStatus,
    id::{ImageId, JobId, KeyId, ProjectId, StepId},
};
use jiff::Timestamp;

use crate::{
    Store, StoreError, StoredTask,
    database::{Row, Transaction},
    task, times,
};

/// A job with its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJob {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// The key that asked.
    pub key: Option<KeyId>,
    /// The request that was accepted.
    pub request_id: String,
    /// Where it stands.
    pub status: JobStatus,
    /// How urgent it is.
    pub class: Class,
    /// What was asked, as JSON.
    pub request: String,
    /// The image, as JSON.
    pub input: String,
    /// The image's name.
    pub image: ImageId,
    /// Whether the image was seen before, as JSON.
    pub dedup: String,
    /// Why it failed, a problem as JSON.
    pub error: Option<String>,
    /// How many workers died while they ran it.
    pub crashes: u32,
    /// 1, and one more for each retry after it had failed.
    pub round: u32,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// Somebody wants it to end.
    pub cancel_requested: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Until when what failed can be run again.
    pub retryable_until: Option<Timestamp>,
    /// What is done, in this order.
    pub steps: Vec<StoredStep>,
    /// The parts of its steps, as far as they are known: of a pipeline alone.
    pub tasks: Vec<StoredTask>,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStep {
    /// Its place.
    pub position: u32,
    /// Its name.
    pub id: StepId,
    /// What is asked.
    pub feature: Feature,
    /// The snapshot that answers, resolved at acceptance.
    pub model: Option<String>,
    /// Units that it costs at most.
    pub units: u64,
    /// How many parts it has, once that is known: of a pipeline alone.
    pub tasks: Option<u32>,
    /// What its work is known by, once it is in hand: of a pipeline alone.
    pub key: Option<Vec<u8>>,
    /// Where it stands.
    pub status: StepStatus,
    /// How often it ended, well or not.
    pub attempts: u32,
    /// What it found, while the job runs or may be retried.
    pub result: Option<Vec<u8>>,
    /// Why its last attempt failed, a problem as JSON.
    pub error: Option<String>,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended for good.
    pub finished_at: Option<Timestamp>,
}

/// What readers of an ended job get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// The bytes.
    Inline(Vec<u8>),
    /// A blob of this name.
    Blob(String),
}

/// The columns that [`stored`] reads, in its order.
macro_rules! columns {
    () => {
        "id, project_id, mode, key_id, request_id, status, request, input, image_id, dedup, error, crashes, round, \
         deadline_at, cancel_requested_at, created_at, started_at, finished_at, retryable_until, lease_token, \
         class"
    };
}
pub(crate) use columns;

/// The place of `lease_token` among them.
pub(crate) const TOKEN: usize = 19;

const BY_ID: &str =
    concat!("SELECT ", columns!(), " FROM jobs WHERE id = $1 AND project_id = $2 AND mode = $3");
const STEPS: &str = "SELECT position, id, feature, model, status, attempts, result, error, started_at, finished_at, \
                     units, tasks, work_key FROM steps WHERE job_id = $1 ORDER BY position";
const DOCUMENT: &str = "SELECT document, document_digest FROM jobs WHERE id = $1";

impl Store {
    /// A job of this project and mode. Any other is as good as none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn job(
        &self,
        (project, mode): (ProjectId, Mode),
        id: JobId,
    ) -> Result<Option<StoredJob>, StoreError> {
        self.database
            .read(move |transaction| {
                let key = [id.to_string().into(), project.to_string().into(), mode.name().into()];
                let Some(row) = transaction.query_one(BY_ID, &key)? else { return Ok(None) };
                let job = all_stored(transaction, &[row])?.pop();
                let whole = job.as_ref().is_none_or(|job| !job.steps.is_empty());
                // One that has no steps may have been removed between both looks.
                Ok(if whole || transaction.query_one(BY_ID, &key)?.is_some() { job } else { None })
            })
            .await
    }

    /// What readers of an ended job get; `None` while it runs.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn document(&self, job: JobId) -> Result<Option<Document>, StoreError> {
        let row =
            self.database.read(move |transaction| transaction.query_one(DOCUMENT, &[job.to_string().into()]));
        row.await?.as_ref().map_or(Ok(None), |row| document(row, 0))
    }
}

/// The document in this column and the next.
pub(crate) fn document(row: &Row, column: usize) -> Result<Option<Document>, StoreError> {
    if let Some(bytes) = row.optional_blob(column)? {
        return Ok(Some(Document::Inline(bytes)));
    }
    Ok(row.optional_text(column + 1)?.map(Document::Blob))
}

/// Rows of [`columns`] and the jobs' steps.
pub(crate) fn all_stored(
    transaction: &mut dyn Transaction,
    rows: &[Row],
) -> Result<Vec<StoredJob>, StoreError> {
    let ids = rows.iter().map(|row| Ok((STEPS, vec![row.text(0)?.into()])));
    let steps = transaction.query_all(&ids.collect::<Result<Vec<_>, StoreError>>()?)?;
    let jobs = rows.iter().zip(&steps).map(|(row, steps)| {
        let fanned_out = steps.iter().map(|step| step.optional_integer(11)).collect::<Result<Vec<_>, _>>()?;
        Ok((row.text(0)?, fanned_out.iter().any(Option::is_some)))
    });
    let tasks = task::tasks(transaction, &jobs.collect::<Result<Vec<_>, StoreError>>()?)?;
    let parts = steps.iter().zip(tasks);
    rows.iter().zip(parts).map(|(row, parts)| stored(row, parts)).collect()
}

fn stored(row: &Row, (steps, tasks): (&Vec<Row>, Vec<StoredTask>)) -> Result<StoredJob, StoreError> {
    Ok(StoredJob {
        id: row.parsed(0)?,
        project: row.parsed(1)?,
        mode: row.parsed(2)?,
        key: row.optional_parsed(3)?,
        request_id: row.text(4)?,
        status: row.parsed(5)?,
        class: row.parsed(20)?,
        request: row.text(6)?,
        input: row.text(7)?,
        image: row.parsed(8)?,
        dedup: row.text(9)?,
        error: row.optional_text(10)?,
        crashes: row.integer(11)? as u32,
        round: row.integer(12)? as u32,
        deadline: times::timestamp(row.integer(13)?)?,
        cancel_requested: row.optional_integer(14)?.is_some(),
        created_at: times::timestamp(row.integer(15)?)?,
        started_at: times::optional(row.optional_integer(16)?)?,
        finished_at: times::optional(row.optional_integer(17)?)?,
        retryable_until: times::optional(row.optional_integer(18)?)?,
        steps: steps.iter().map(step).collect::<Result<_, _>>()?,
        tasks,
    })
}

fn step(row: &Row) -> Result<StoredStep, StoreError> {
    Ok(StoredStep {
        position: row.integer(0)? as u32,
        id: row.parsed(1)?,
        feature: row.parsed(2)?,
        model: row.optional_text(3)?,
        status: row.parsed(4)?,
        attempts: row.integer(5)? as u32,
        result: row.optional_blob(6)?,
        error: row.optional_text(7)?,
        started_at: times::optional(row.optional_integer(8)?)?,
        finished_at: times::optional(row.optional_integer(9)?)?,
        units: row.integer(10)?.unsigned_abs(),
        tasks: row.optional_integer(11)?.map(|tasks| tasks as u32),
        key: row.optional_blob(12)?,
    })
}
