//! What a client may do to a job of its own: cancel it, run again what failed.

use eyebolt_types::{
    JobStatus, Mode,
    id::{JobId, KeyId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Cap, Caps, Lease, LeasedJob, Overrun, Store, StoreError,
    cap::Capped,
    database::{Transaction, Value},
    job::columns,
    ledger,
    run::all_leased,
    times,
};

/// What became of the wish to cancel a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancellation {
    /// It waited: it is the caller's now, who must close it.
    Yours(Box<LeasedJob>),
    /// It runs: its worker will see the wish.
    Requested,
    /// It has ended so.
    Ended(JobStatus),
    /// The project has no such job.
    Missing,
}

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
#[derive(Debug, Clone, Copy)]
pub struct Again {
    /// The key that asks: its own limits count where the job is its own, too.
    pub key: KeyId,
    /// The limits.
    pub caps: Option<Caps>,
    /// Until when the job is to end.
    pub deadline: Timestamp,
}

const STATE: &str = "SELECT status, retryable_until, key_id FROM jobs WHERE id = $1 AND project_id = $2 AND mode = $3 FOR UPDATE";
const TAKE: &str = concat!(
    "UPDATE jobs SET status = 'processing', lease_owner = $1, lease_until = $2, lease_token = lease_token + 1, \
     cancel_requested_at = $3 WHERE id = $4 AND status = 'pending' RETURNING ",
    columns!()
);
const REQUEST: &str = "UPDATE jobs SET cancel_requested_at = COALESCE(cancel_requested_at, $1) WHERE id = $2 AND status = 'processing'";
const AGAIN: &str = "UPDATE jobs SET status = 'pending', round = round + 1, crashes = 0, error = NULL, \
                     finished_at = NULL, retryable_until = NULL, document = NULL, document_digest = NULL, \
                     answer_status = NULL, answer_body = NULL, cancel_requested_at = NULL, not_before = $1, \
                     deadline_at = $2 WHERE id = $3 AND status = 'failed'";
const REOPEN: &str = "UPDATE steps SET status = 'pending', finished_at = NULL \
                      WHERE job_id = $1 AND status <> 'succeeded'";
const COUNT: &str = "SELECT COUNT(*) FROM steps WHERE job_id = $1 AND status <> 'succeeded'";
const UNEXPIRE: &str = "UPDATE idempotency_records SET expires_at = NULL WHERE job_id = $1";

impl Store {
    /// Cancels a job that waits, or asks the worker of one that runs to stop. `lease`: under which the caller closes a
    /// job that waited.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn cancel(
        &self,
        (project, mode, id): (ProjectId, Mode, JobId),
        lease: Lease,
        now: Timestamp,
    ) -> Result<Cancellation, StoreError> {
        self.database
            .write(move |transaction| {
                let Some((status, ..)) = state(transaction, (project, mode, id))? else {
                    return Ok(Cancellation::Missing);
                };
                if status.is_terminal() {
                    return Ok(Cancellation::Ended(status));
                }
                let now = times::micros(now);
                let take = [
                    lease.owner.as_str().into(),
                    times::micros(lease.until).into(),
                    now.into(),
                    id.to_string().into(),
                ];
                let taken = transaction.query(TAKE, &take)?;
                if let Some(leased) = all_leased(transaction, &taken)?.pop() {
                    return Ok(Cancellation::Yours(Box::new(leased)));
                }
                transaction.execute(REQUEST, &[now.into(), id.to_string().into()])?;
                Ok(Cancellation::Requested)
            })
            .await
    }

    /// Runs again what failed of a job. Steps that succeeded stay, and are not charged again.
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
            .write(move |transaction| {
                if again.caps.is_some() {
                    transaction.query_all(&[Capped::lock(project)])?;
                }
                retry(transaction, (project, mode, id), (again, now))
            })
            .await
    }
}

/// Runs again what failed of a job. The project is locked before, where it has limits.
pub(crate) fn retry(
    transaction: &mut dyn Transaction,
    (project, mode, id): (ProjectId, Mode, JobId),
    (again, now): (Again, Timestamp),
) -> Result<Retry, StoreError> {
    let Some((status, until, key)) = state(transaction, (project, mode, id))? else {
        return Ok(Retry::Missing);
    };
    match status {
        JobStatus::Pending | JobStatus::Processing => return Ok(Retry::Pending),
        JobStatus::Failed if until.is_some_and(|until| until > now) => {}
        JobStatus::Failed => return Ok(Retry::Final),
        ended => return Ok(Retry::NotFailed(ended)),
    }
    let units = unfinished(transaction, id)?;
    let capped = |mut caps: Caps| {
        if key != Some(again.key) {
            caps.key = Cap::default();
        }
        Capped { job: id, project, key, mode, units, caps, now }
    };
    if let Some(over) = take(transaction, again.caps.map(capped))? {
        return Ok(Retry::Over(over));
    }
    run_again(transaction, (id, units), (again.deadline, now))?;
    Ok(Retry::Pending)
}

/// Steps that are to be run, each of which costs a unit.
fn unfinished(transaction: &mut dyn Transaction, id: JobId) -> Result<u64, StoreError> {
    let row = transaction.query_one(COUNT, &[id.to_string().into()])?;
    Ok(row.map_or(Ok(0), |row| row.integer(0))?.unsigned_abs())
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
    (id, unfinished): (JobId, u64),
    (deadline, now): (Timestamp, Timestamp),
) -> Result<(), StoreError> {
    let job = || -> Value { id.to_string().into() };
    transaction.execute(AGAIN, &[times::micros(now).into(), times::micros(deadline).into(), job()])?;
    let reserve = ledger::reserve((id, unfinished), now);
    transaction.query_all(&[(REOPEN, vec![job()]), (UNEXPIRE, vec![job()]), reserve])?;
    Ok(())
}

/// Of a job: where it stands, until when it can be run again, whose key asked.
type State = (JobStatus, Option<Timestamp>, Option<KeyId>);

fn state(
    transaction: &mut dyn Transaction,
    (project, mode, id): (ProjectId, Mode, JobId),
) -> Result<Option<State>, StoreError> {
    let key = [id.to_string().into(), project.to_string().into(), mode.name().into()];
    let row = transaction.query_one(STATE, &key)?;
    let state = |row: crate::database::Row| {
        Ok((row.parsed(0)?, times::optional(row.optional_integer(1)?)?, row.optional_parsed(2)?))
    };
    row.map(state).transpose()
}
