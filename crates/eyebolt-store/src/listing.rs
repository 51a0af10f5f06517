//! Jobs as a list shows them: a page of a hundred is read without what any of them found.

use eyebolt_types::{
    Feature, JobStatus, Mode, StepStatus,
    id::{ImageId, JobId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Store, StoreError,
    database::{Row, Statement, Transaction},
    times,
};

/// A job without what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedJob {
    /// Its name.
    pub id: JobId,
    /// Real or sandbox.
    pub mode: Mode,
    /// Where it stands.
    pub status: JobStatus,
    /// The image, as JSON.
    pub input: String,
    /// The image's name.
    pub image: ImageId,
    /// Whether the image was seen before, as JSON.
    pub dedup: String,
    /// Why it failed, a problem as JSON.
    pub error: Option<String>,
    /// 1, and one more for each retry after it had failed.
    pub round: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Until when what failed can be run again.
    pub retryable_until: Option<Timestamp>,
    /// What its steps ask, in their order.
    pub features: Vec<Feature>,
    /// A unit for each step that succeeded; in place of a step with parts, for each part that did. What was taken over from
    /// another job counts for nothing.
    pub succeeded: u64,
}

/// Which jobs of a project are wanted.
#[derive(Debug, Clone)]
pub struct JobFilter {
    /// Whose.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// Only in this state.
    pub status: Option<JobStatus>,
    /// Only those accepted then or later.
    pub created_from: Option<Timestamp>,
    /// Only those accepted before.
    pub created_before: Option<Timestamp>,
    /// Only those older than this one: the last of the page before.
    pub after: Option<JobId>,
    /// At most so many.
    pub limit: u32,
}

const LIST: &str = "SELECT id, mode, status, input, image_id, dedup, error, round, created_at, started_at, finished_at, \
                    retryable_until FROM jobs WHERE project_id = $1 AND mode = $2 AND id < $3 \
                    AND ($4 = '' OR status = $4) AND created_at >= $5 AND created_at < $6 ORDER BY id DESC LIMIT $7";
const STEPS: &str = "SELECT s.feature, s.status, s.units, CASE WHEN s.tasks IS NOT NULL THEN (SELECT COUNT(*) FROM tasks t \
                     WHERE t.job_id = s.job_id AND t.position = s.position AND t.status = 'succeeded') END \
                     FROM steps s WHERE s.job_id = $1 ORDER BY s.position";
const THERE: &str = "SELECT id FROM jobs WHERE id = $1";

impl Store {
    /// Jobs of a project, newest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<ListedJob>, StoreError> {
        self.database
            .read(move |transaction| {
                let parameters = [
                    filter.project.to_string().into(),
                    filter.mode.name().into(),
                    filter.after.map_or_else(|| "job_z".to_owned(), |id| id.to_string()).into(),
                    filter.status.map_or("", JobStatus::name).into(),
                    filter.created_from.map_or(i64::MIN, times::micros).into(),
                    filter.created_before.map_or(i64::MAX, times::micros).into(),
                    i64::from(filter.limit).into(),
                ];
                let rows = transaction.query(LIST, &parameters)?;
                listed(transaction, &rows)
            })
            .await
    }
}

/// Rows of [`LIST`] and the jobs' steps, without the jobs that were removed between both looks.
fn listed(transaction: &mut dyn Transaction, rows: &[Row]) -> Result<Vec<ListedJob>, StoreError> {
    let ids = rows.iter().map(|row| Ok((STEPS, vec![row.text(0)?.into()])));
    let steps = transaction.query_all(&ids.collect::<Result<Vec<Statement>, StoreError>>()?)?;
    let mut jobs = Vec::with_capacity(rows.len());
    for (row, steps) in rows.iter().zip(&steps) {
        if !steps.is_empty() || transaction.query_one(THERE, &[row.text(0)?.into()])?.is_some() {
            jobs.push(job(row, steps)?);
        }
    }
    Ok(jobs)
}

fn job(row: &Row, steps: &[Row]) -> Result<ListedJob, StoreError> {
    Ok(ListedJob {
        id: row.parsed(0)?,
        mode: row.parsed(1)?,
        status: row.parsed(2)?,
        input: row.text(3)?,
        image: row.parsed(4)?,
        dedup: row.text(5)?,
        error: row.optional_text(6)?,
        round: row.integer(7)? as u32,
        created_at: times::timestamp(row.integer(8)?)?,
        started_at: times::optional(row.optional_integer(9)?)?,
        finished_at: times::optional(row.optional_integer(10)?)?,
        retryable_until: times::optional(row.optional_integer(11)?)?,
        features: steps.iter().map(|step| step.parsed(0)).collect::<Result<_, _>>()?,
        succeeded: steps.iter().map(succeeded).sum::<Result<u64, StoreError>>()?,
    })
}

fn succeeded(step: &Row) -> Result<u64, StoreError> {
    if step.integer(2)? == 0 {
        return Ok(0);
    }
    let of_step = step.parsed::<StepStatus>(1)? == StepStatus::Succeeded;
    Ok(step.optional_integer(3)?.map_or(u64::from(of_step), i64::unsigned_abs))
}
