//! Pipelines under way: steps whose parts are tasks. What was found and the tasks that follow from it are written together,
//! so that a crash leaves both or neither; so are the last task and the end of its step.

use eyebolt_types::{Feature, StepStatus, id::JobId};
use jiff::Timestamp;

use crate::{
    Fenced, Store, StoreError, StoredStep,
    database::{Row, Statement, Transaction, Value},
    run::held,
    times,
};

/// A part of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// The place of its step.
    pub position: u32,
    /// Its own among the parts of the step.
    pub number: u32,
    /// What its work is known by.
    pub key: Vec<u8>,
    /// The part, as JSON.
    pub region: String,
    /// What is asked.
    pub feature: Feature,
    /// The snapshot that answers.
    pub model: Option<String>,
    /// Where it stands.
    pub status: StepStatus,
    /// How often it ended, well or not.
    pub attempts: u32,
    /// What it found.
    pub result: Option<Vec<u8>>,
    /// Why its last attempt failed, a problem as JSON.
    pub error: Option<String>,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended for good.
    pub finished_at: Option<Timestamp>,
}

/// What a move of a pipeline writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advance {
    /// Steps and tasks that came to an end, or failed for now.
    pub ends: Vec<WorkEnd>,
    /// Steps whose parts are known now.
    pub fan_outs: Vec<FanOut>,
}

/// How an attempt at a step or a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkEnd {
    /// The place of the step; and of the task, where it is one.
    pub place: (u32, Option<u32>),
    /// Where it stands now: pending, where there will be another attempt.
    pub status: StepStatus,
    /// How often it was tried by now, this attempt included: a write that is repeated counts nothing twice.
    pub attempts: u32,
    /// What was asked.
    pub feature: Feature,
    /// Who answered.
    pub model: Option<String>,
    /// What it found.
    pub result: Option<Vec<u8>>,
    /// The problem, as JSON.
    pub error: Option<String>,
    /// What its work is known by, where that is not written already.
    pub key: Option<Vec<u8>>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// The parts of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOut {
    /// The place of the step.
    pub position: u32,
    /// What its work is known by.
    pub key: Vec<u8>,
    /// The parts, by number: those of a step that has no such tasks yet.
    pub tasks: Vec<StoredTask>,
}

/// Steps of another job, with their parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// The steps, at the same places.
    pub steps: Vec<StoredStep>,
    /// Their parts.
    pub tasks: Vec<StoredTask>,
}

impl TakenOver {
    /// Writes them into a job that has just been accepted.
    pub(crate) fn statements(&self, job: JobId) -> Vec<Statement> {
        let tasks_of = |step: &StoredStep| {
            let own = self.tasks.iter().filter(|task| task.position == step.position);
            own.cloned().collect::<Vec<_>>()
        };
        let mut statements = Vec::new();
        for step in &self.steps {
            let (tasks, key) = (tasks_of(step), step.key.clone().unwrap_or_default());
            let ends = tasks.iter().filter_map(StoredTask::end).collect();
            if step.tasks.is_some() {
                let fan_outs = vec![FanOut { position: step.position, key, tasks }];
                statements.extend(self::statements(job, &Advance { ends: Vec::new(), fan_outs }));
            }
            statements.extend(self::statements(job, &Advance { ends, fan_outs: Vec::new() }));
            let end = WorkEnd {
                place: (step.position, None),
                status: step.status,
                attempts: 0,
                feature: step.feature,
                model: step.model.clone(),
                result: step.result.clone(),
                error: None,
                key: step.key.clone(),
                started_at: step.started_at,
                ended_at: step.finished_at.unwrap_or_default(),
            };
            statements.push(write(job, &end));
        }
        statements
    }
}

impl StoredTask {
    /// How it ended, where it did.
    fn end(&self) -> Option<WorkEnd> {
        Some(WorkEnd {
            place: (self.position, Some(self.number)),
            status: self.status,
            attempts: 0,
            feature: self.feature,
            model: self.model.clone(),
            result: self.result.clone(),
            error: self.error.clone(),
            key: None,
            started_at: self.started_at,
            ended_at: self.finished_at?,
        })
    }
}

const STEP: &str = "UPDATE steps SET status = $1, attempts = $2, feature = $3, \
                    model = COALESCE($4, model), result = $5, error = $6, work_key = COALESCE($7, work_key), \
                    started_at = COALESCE($8, started_at), finished_at = $9 \
                    WHERE job_id = $10 AND position = $11 AND finished_at IS NULL";
const TASK: &str = "UPDATE tasks SET status = $1, attempts = $2, feature = $3, \
                    model = COALESCE($4, model), result = $5, error = $6, work_key = COALESCE($7, work_key), \
                    started_at = COALESCE($8, started_at), finished_at = $9 \
                    WHERE job_id = $10 AND position = $11 AND number = $12 AND finished_at IS NULL";
const KNOWN: &str =
    "UPDATE steps SET tasks = $1, work_key = $2 WHERE job_id = $3 AND position = $4 AND tasks IS NULL";
const NEW: &str = "INSERT INTO tasks (job_id, position, number, work_key, region, feature, model, status) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (job_id, position, number) DO NOTHING";
pub(crate) const TASKS: &str = "SELECT position, number, work_key, region, feature, model, status, attempts, result, error, \
                                started_at, finished_at FROM tasks WHERE job_id = $1 ORDER BY position, number";
pub(crate) const CANCEL: &str = "UPDATE tasks SET status = 'canceled', finished_at = CAST($2 AS BIGINT) \
                                 WHERE job_id = $1 AND finished_at IS NULL";
pub(crate) const REMOVE: &str = "DELETE FROM tasks WHERE job_id = $1";

impl Store {
    /// Writes what an attempt at a pipeline found. What is finished stays as it is, and no task is made twice.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn advance(
        &self,
        lease: (JobId, i64),
        advance: Advance,
    ) -> Result<Result<(), Fenced>, StoreError> {
        #[cfg(feature = "torture")]
        let advance = crate::defect::late_parts(lease.0, advance);
        self.database
            .write(move |transaction| {
                if !held(transaction, lease)? {
                    return Ok(Err(Fenced));
                }
                transaction.query_all(&statements(lease.0, &advance))?;
                Ok(Ok(()))
            })
            .await
    }
}

fn statements(job: JobId, advance: &Advance) -> Vec<Statement> {
    let mut statements: Vec<_> = advance.ends.iter().map(|end| write(job, end)).collect();
    for fan_out in &advance.fan_outs {
        let known = [
            (fan_out.tasks.len() as i64).into(),
            fan_out.key.as_slice().into(),
            job.to_string().into(),
            i64::from(fan_out.position).into(),
        ];
        statements.push((KNOWN, known.into()));
        statements.extend(fan_out.tasks.iter().map(|task| insert(job, task)));
    }
    statements
}

fn write(job: JobId, end: &WorkEnd) -> Statement {
    let finished = end.status != StepStatus::Pending;
    let mut parameters: Vec<Value> = vec![
        end.status.name().into(),
        i64::from(end.attempts).into(),
        end.feature.name().into(),
        end.model.clone().into(),
        end.result.clone().into(),
        end.error.clone().into(),
        end.key.clone().into(),
        end.started_at.map(times::micros).into(),
        finished.then(|| times::micros(end.ended_at)).into(),
        job.to_string().into(),
        i64::from(end.place.0).into(),
    ];
    let Some(number) = end.place.1 else { return (STEP, parameters) };
    parameters.push(i64::from(number).into());
    (TASK, parameters)
}

fn insert(job: JobId, task: &StoredTask) -> Statement {
    let row = [
        job.to_string().into(),
        i64::from(task.position).into(),
        i64::from(task.number).into(),
        task.key.as_slice().into(),
        task.region.as_str().into(),
        task.feature.name().into(),
        task.model.clone().into(),
        StepStatus::Pending.name().into(),
    ];
    (NEW, row.into())
}

/// The tasks of each job whose rows of steps say that there are some.
pub(crate) fn tasks(
    transaction: &mut dyn Transaction,
    jobs: &[(String, bool)],
) -> Result<Vec<Vec<StoredTask>>, StoreError> {
    let asked: Vec<Statement> = jobs
        .iter()
        .filter(|(_, fanned_out)| *fanned_out)
        .map(|(id, _)| (TASKS, vec![id.as_str().into()]))
        .collect();
    // Most jobs have none: then nothing is asked.
    let mut found = if asked.is_empty() { Vec::new() } else { transaction.query_all(&asked)? }.into_iter();
    let of = |(_, fanned_out): &(String, bool)| {
        let rows = if *fanned_out { found.next().unwrap_or_default() } else { Vec::new() };
        rows.iter().map(task).collect()
    };
    jobs.iter().map(of).collect()
}

fn task(row: &Row) -> Result<StoredTask, StoreError> {
    Ok(StoredTask {
        position: row.integer(0)? as u32,
        number: row.integer(1)? as u32,
        key: row.blob(2)?,
        region: row.text(3)?,
        feature: row.parsed(4)?,
        model: row.optional_text(5)?,
        status: row.parsed(6)?,
        attempts: row.integer(7)? as u32,
        result: row.optional_blob(8)?,
        error: row.optional_text(9)?,
        started_at: times::optional(row.optional_integer(10)?)?,
        finished_at: times::optional(row.optional_integer(11)?)?,
    })
}
