//! What a client may do to a job of its own that has not ended: cancel it.

use eyebolt_types::{
    JobStatus, Mode,
    id::{JobId, KeyId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Lease, LeasedJob, Store, StoreError, database::Transaction, job::columns, run::all_leased, times,
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

const STATE: &str = "SELECT status, retryable_until, key_id FROM jobs WHERE id = $1 AND project_id = $2 AND mode = $3 FOR UPDATE";
const TAKE: &str = concat!(
    "UPDATE jobs SET status = 'processing', lease_owner = $1, lease_until = $2, lease_token = lease_token + 1, \
     cancel_requested_at = $3 WHERE id = $4 AND status = 'pending' RETURNING ",
    columns!()
);
const REQUEST: &str = "UPDATE jobs SET cancel_requested_at = COALESCE(cancel_requested_at, $1) WHERE id = $2 AND status = 'processing'";
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
}

/// Of a job: where it stands, until when it can be run again, whose key asked.
pub(crate) type State = (JobStatus, Option<Timestamp>, Option<KeyId>);

/// Locks a job of this project and mode, and says where it stands.
pub(crate) fn state(
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
