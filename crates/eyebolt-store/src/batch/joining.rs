//! Jobs that several items share, since a key stands for one job: whoever came first made it, the others join it.

use eyebolt_types::{
    JobStatus, Mode,
    id::{BatchId, JobId, ProjectId},
};
use jiff::Timestamp;

use super::feeding::SETTLE;
use crate::{
    Store, StoreError,
    control::state,
    database::{Transaction, Value},
    times,
};

/// What became of an item whose key stands for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// The job has ended, and the item with it.
    Ended,
    /// The job runs: its end will be the item's.
    Waits,
    /// The job failed for a reason that may have passed: the item waits for its turn to run it again.
    Again,
    /// Nothing was done: another server was faster, the batch is to end, or the job is gone.
    Nothing,
}

/// Skipping what is locked: another server is about to take it.
const JOIN: &str = "UPDATE batch_items SET status = $4, job_id = $1, joined = 1 WHERE batch_id = $2 AND position = \
                    (SELECT i.position FROM batch_items i WHERE i.batch_id = $2 AND i.position = $3 \
                    AND i.status = 'pending' AND i.job_id IS NULL FOR UPDATE SKIP LOCKED) \
                    AND EXISTS (SELECT 1 FROM batches b WHERE b.id = $2 AND b.status = 'processing' \
                    AND b.ending IS NULL) RETURNING position";
/// Before the job: whoever opens or ends a batch decides by what its jobs are.
const LOCK_BATCHES: &str = "SELECT id FROM batches WHERE id IN (SELECT i.batch_id FROM batch_items i WHERE i.job_id = $1 \
                            AND i.batch_id <> $2) ORDER BY id FOR UPDATE";
/// Open batches wait for it; those that have ended stay as they are, and what is to end waits for no job of somebody else.
const WAIT_FOR: &str = "UPDATE batch_items SET status = 'processing', error = NULL, finished_at = NULL WHERE job_id = $1 \
                        AND EXISTS (SELECT 1 FROM batches b WHERE b.id = batch_items.batch_id AND b.status = 'processing' \
                        AND (batch_items.joined = 0 OR b.ending IS NULL))";

impl Store {
    /// Lets an item that waits for its turn share the job that its key stands for.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn join_item(
        &self,
        (batch, position): (BatchId, u32),
        whose: (ProjectId, Mode, JobId),
        now: Timestamp,
    ) -> Result<Joined, StoreError> {
        self.database
            .write(move |transaction| {
                // Before the item, as whoever ends a job locks: an end is either seen here, or sees the item.
                let Some((status, until, _)) = state(transaction, whose)? else { return Ok(Joined::Nothing) };
                let again = status == JobStatus::Failed && until.is_some_and(|until| until > now);
                let joined = match status {
                    _ if again => Joined::Again,
                    status if status.is_terminal() => Joined::Ended,
                    _ => Joined::Waits,
                };
                let place = || -> Vec<Value> { vec![batch.to_string().into(), i64::from(position).into()] };
                let waiting = if again { JobStatus::Pending } else { JobStatus::Processing };
                let join = [vec![whose.2.to_string().into()], place(), vec![waiting.name().into()]].concat();
                if transaction.query_one(JOIN, &join)?.is_none() {
                    return Ok(Joined::Nothing);
                }
                if joined == Joined::Ended {
                    let settle = [place(), vec![times::micros(now).into()]].concat();
                    transaction.execute(SETTLE, &settle)?;
                }
                Ok(joined)
            })
            .await
    }
}

/// Locks the batches of which a job is an item's, apart from this one, before the job is run again. Whether there are any.
pub(crate) fn lock_others(
    transaction: &mut dyn Transaction,
    (job, but): (JobId, Option<BatchId>),
) -> Result<bool, StoreError> {
    let but = but.map_or_else(String::new, |batch| batch.to_string());
    Ok(!transaction.query(LOCK_BATCHES, &[job.to_string().into(), but.into()])?.is_empty())
}

/// Lets open batches wait for a job that runs again.
pub(crate) fn wait_for(transaction: &mut dyn Transaction, job: JobId) -> Result<(), StoreError> {
    transaction.execute(WAIT_FOR, &[job.to_string().into()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans;

    #[test]
    fn no_look_reads_all_items_or_all_batches() {
        let plans = plans(&[JOIN, LOCK_BATCHES, WAIT_FOR]);
        assert!(!plans.iter().any(|line| line.starts_with("SCAN")), "{plans:#?}");
    }
}
