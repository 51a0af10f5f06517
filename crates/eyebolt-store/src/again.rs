//! Running again what failed of a job: all of it, or some steps or one task of a pipeline.

use std::collections::BTreeSet;

use eyebolt_types::{
    JobStatus, Mode, StepStatus,
    id::{JobId, KeyId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Cap, Caps, Overrun, Store, StoreError, batch,
    cap::Capped,
    control::state,
    database::{Transaction, Value},
    ledger, times,
};

/// What became of the wish to run a failed job again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It waits for a worker, or did so already: two wishes make one run.
    Pending,
    /// It did not fail, so that there is nothing to run again.
    NotFailed(JobStatus),
    /// What failed can't be run again: not at all, or no longer.
    Final,
    /// There is no room under a limit.
    Over(Overrun),
    /// The project has no such job.
    Missing,
}

/// Who runs a job again, and under which limits.
#[derive(Debug, Clone)]
pub struct Again {
    /// The key that asks: its own limits count where the job is its own, too.
    pub key: KeyId,
    /// The limits.
    pub caps: Option<Caps>,
    /// Until when the job is to end.
    pub deadline: Timestamp,
    /// What of a pipeline; `None`: it has none.
    pub parts: Option<Parts>,
}

/// What of a pipeline is run again, where it did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Places of steps.
    pub steps: Vec<u32>,
    /// Of the first of them no more than this task.
    pub task: Option<u32>,
}

/// What is opened again: each costs a unit, or as many as it may have parts.
#[derive(Default)]
struct Opened {
    steps: BTreeSet<i64>,
    tasks: Vec<(i64, i64)>,
    units: u64,
}

/// Of a job that succeeded `retryable_until` stays, so that whoever ends it again knows.
const AGAIN: &str = "UPDATE jobs SET status = 'pending', round = round + 1, crashes = 0, error = NULL, \
                     finished_at = NULL, \
                     retryable_until = CASE WHEN status = 'succeeded' THEN retryable_until END, document = NULL, document_digest = NULL, \
                     answer_status = NULL, answer_body = NULL, cancel_requested_at = NULL, not_before = $1, \
                     deadline_at = $2 WHERE id = $3 AND status IN ('failed', 'succeeded')";
const REOPEN: &str = "UPDATE steps SET status = 'pending', finished_at = NULL \
                      WHERE job_id = $1 AND status <> 'succeeded'";
const REOPEN_STEP: &str =
    "UPDATE steps SET status = 'pending', finished_at = NULL WHERE job_id = $1 AND position = $2";
const REOPEN_TASK: &str = "UPDATE tasks SET status = 'pending', finished_at = NULL \
                           WHERE job_id = $1 AND position = $2 AND number = $3 AND status <> 'succeeded'";
const COUNT: &str = "SELECT COUNT(*) FROM steps WHERE job_id = $1 AND status <> 'succeeded'";
const STEPS: &str = "SELECT position, status, units, tasks FROM steps WHERE job_id = $1";
const TASKS: &str = "SELECT position, number FROM tasks WHERE job_id = $1 AND status <> 'succeeded'";
const BAD_STEPS: &str =
    "SELECT position FROM steps WHERE job_id = $1 AND finished_at IS NOT NULL AND status <> 'succeeded'";
const BAD_TASKS: &str = "SELECT position, number FROM tasks WHERE job_id = $1 AND finished_at IS NOT NULL \
                         AND status <> 'succeeded'";
const UNEXPIRE: &str = "UPDATE idempotency_records SET expires_at = NULL WHERE job_id = $1";

impl Store {
    /// Runs again what failed of a job. What succeeded stays, and is not charged again. Of a pipeline that succeeded, what it
    /// went on without. Open batches wait for it where it is the job of an item.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn retry(
        &self,
        (project, mode, id): (ProjectId, Mode, JobId),
        again: Again,
        now: Timestamp,
    ) -> Result<Retry, StoreError> {
        self.database
            .write_locking(again.caps.map(|_| project), move |transaction| {
                let of_batch = batch::lock_others(transaction, (id, None))?;
                let done = retry(transaction, (project, mode, id), (&again, now))?;
                if of_batch && done == Retry::Pending {
                    batch::wait_for(transaction, id)?;
                }
                Ok(done)
            })
            .await
    }
}

/// The move itself. The project is locked before, where it has limits.
pub(crate) fn retry(
    transaction: &mut dyn Transaction,
    (project, mode, id): (ProjectId, Mode, JobId),
    (again, now): (&Again, Timestamp),
) -> Result<Retry, StoreError> {
    let Some((status, until, key)) = state(transaction, (project, mode, id))? else {
        return Ok(Retry::Missing);
    };
    let in_time = until.is_some_and(|until| until > now);
    match status {
        JobStatus::Pending | JobStatus::Processing => {
            // It may run without what is wanted here.
            let without = match &again.parts {
                Some(parts) => ended_badly(transaction, (id, parts))?,
                None => false,
            };
            return Ok(if without { Retry::NotFailed(status) } else { Retry::Pending });
        }
        JobStatus::Failed if in_time => {}
        JobStatus::Succeeded if in_time && again.parts.is_some() => {}
        JobStatus::Failed => return Ok(Retry::Final),
        ended => return Ok(Retry::NotFailed(ended)),
    }
    let opened = match &again.parts {
        None => None,
        Some(parts) => Some(opened(transaction, (id, parts))?),
    };
    if opened.as_ref().is_some_and(|opened| opened.steps.is_empty()) {
        return Ok(Retry::NotFailed(status));
    }
    let units = match &opened {
        None => unfinished(transaction, id)?,
        Some(opened) => opened.units,
    };
    let capped = |mut caps: Caps| {
        if key != Some(again.key) {
            caps.key = Cap::default();
        }
        Capped { job: id, project, key, mode, units, caps, now }
    };
    if let Some(over) = take(transaction, again.caps.map(capped))? {
        return Ok(Retry::Over(over));
    }
    run_again(transaction, (id, units, opened), (again.deadline, now))?;
    Ok(Retry::Pending)
}

/// Steps that are to be run, each of which costs a unit.
fn unfinished(transaction: &mut dyn Transaction, id: JobId) -> Result<u64, StoreError> {
    let row = transaction.query_one(COUNT, &[id.to_string().into()])?;
    Ok(row.map_or(Ok(0), |row| row.integer(0))?.unsigned_abs())
}

fn opened(transaction: &mut dyn Transaction, (id, parts): (JobId, &Parts)) -> Result<Opened, StoreError> {
    let job = || -> Vec<Value> { vec![id.to_string().into()] };
    let rows = transaction.query_all(&[(STEPS, job()), (TASKS, job())])?;
    let [steps, tasks] = rows.as_slice() else { return Err(StoreError::Conflict) };
    let mut opened = Opened::default();
    for row in tasks {
        let (position, number) = (row.integer(0)?, row.integer(1)?);
        let first = parts.steps.first().is_some_and(|first| i64::from(*first) == position);
        let wanted = parts.task.is_none_or(|task| !first || i64::from(task) == number);
        if wanted && parts.steps.iter().any(|step| i64::from(*step) == position) {
            opened.steps.insert(position);
            opened.tasks.push((position, number));
            opened.units += 1;
        }
    }
    for row in steps {
        let position = row.integer(0)?;
        let failed = row.parsed::<StepStatus>(1)? != StepStatus::Succeeded;
        // One whose parts are known runs by them alone, unless it failed without any of them.
        let by_parts = row.optional_integer(3)?.is_some_and(|tasks| tasks > 0);
        if failed && !by_parts && parts.steps.iter().any(|step| i64::from(*step) == position) {
            opened.steps.insert(position);
            opened.units += row.integer(2)?.unsigned_abs();
        }
    }
    Ok(opened)
}

/// Whether something that is wanted has ended, and not well.
fn ended_badly(transaction: &mut dyn Transaction, (id, parts): (JobId, &Parts)) -> Result<bool, StoreError> {
    let job = || -> Vec<Value> { vec![id.to_string().into()] };
    let rows = transaction.query_all(&[(BAD_STEPS, job()), (BAD_TASKS, job())])?;
    let [steps, tasks] = rows.as_slice() else { return Err(StoreError::Conflict) };
    let is_wanted = |position: i64| parts.steps.iter().any(|step| i64::from(*step) == position);
    for row in steps {
        if is_wanted(row.integer(0)?) {
            return Ok(true);
        }
    }
    for row in tasks {
        let (position, number) = (row.integer(0)?, row.integer(1)?);
        let first = parts.steps.first().is_some_and(|first| i64::from(*first) == position);
        if is_wanted(position) && parts.task.is_none_or(|task| !first || i64::from(task) == number) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes what the job needs of its limits, or nothing.
fn take(transaction: &mut dyn Transaction, capped: Option<Capped>) -> Result<Option<Overrun>, StoreError> {
    let Some(capped) = capped else { return Ok(None) };
    let answers = transaction.query_all(&capped.take())?;
    let Err((over, back)) = capped.judge(&answers)? else {
        transaction.query_all(&[capped.unclaim()])?;
        return Ok(None);
    };
    transaction.query_all(&back)?;
    Ok(Some(over))
}

fn run_again(
    transaction: &mut dyn Transaction,
    (id, units, opened): (JobId, u64, Option<Opened>),
    (deadline, now): (Timestamp, Timestamp),
) -> Result<(), StoreError> {
    let job = || -> Value { id.to_string().into() };
    transaction.execute(AGAIN, &[times::micros(now).into(), times::micros(deadline).into(), job()])?;
    let mut statements = match opened {
        None => vec![(REOPEN, vec![job()])],
        Some(opened) => {
            let steps = opened.steps.iter().map(|step| (REOPEN_STEP, vec![job(), (*step).into()]));
            let tasks = opened
                .tasks
                .iter()
                .map(|(step, task)| (REOPEN_TASK, vec![job(), (*step).into(), (*task).into()]));
            steps.chain(tasks).collect()
        }
    };
    statements.extend([(UNEXPIRE, vec![job()]), ledger::reserve((id, units), now)]);
    transaction.query_all(&statements).map(drop)
}
