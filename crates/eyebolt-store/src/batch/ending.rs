//! How a batch ends: by itself, by somebody's wish, or since its time is over; how it is opened again, and how it is removed.

use eyebolt_types::{
    BatchStatus, Mode,
    id::{BatchId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    NewEvent, Removed, Store, StoreError, SweepPlace,
    database::{Row, Transaction, Value},
    event, retention, times,
};

/// Why a batch is to end before all of its items have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyEnd {
    /// Somebody wants it.
    Canceled,
    /// Its time is over.
    Expired,
    /// Too many of its items failed.
    Failed,
}

impl EarlyEnd {
    /// As what the batch ends, and its items that wait.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Canceled => ("canceled", "canceled"),
            Self::Expired => ("expired", "expired"),
            Self::Failed => ("failed", "canceled"),
        }
    }
}

/// The end of a batch.
#[derive(Debug, Clone)]
pub struct BatchEnding {
    /// Its name.
    pub id: BatchId,
    /// The round that ends.
    pub round: u32,
    /// As what.
    pub status: BatchStatus,
    /// What is told of it.
    pub event: NewEvent,
    /// Until when its key stands for it.
    pub expires_at: Timestamp,
}

/// What became of the wish to run failed items again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchRetry {
    /// So many wait for their turn again.
    Waiting(u64),
    /// None of them failed for a reason that passes, or too long ago.
    Nothing,
    /// It is about to end.
    Ending,
    /// The project has no such batch.
    Missing,
}

const LOCK: &str = "SELECT status, ending, round, total FROM batches WHERE id = $1 AND project_id = $2 AND mode = $3 \
                    AND status <> 'accepting' FOR UPDATE";
const LOCK_OPEN: &str = "SELECT id FROM batches WHERE id = $1 AND status = 'processing' FOR UPDATE";
const END: &str =
    "UPDATE batches SET ending = $1 WHERE id = $2 AND status = 'processing' AND ending IS NULL RETURNING id";
const END_ITEMS: &str = "UPDATE batch_items SET status = $1, finished_at = $2 WHERE batch_id = $3 AND status = 'pending' AND job_id IS NULL";
/// What waits to run again is what its job is.
const END_AGAIN: &str = "UPDATE batch_items SET status = COALESCE((SELECT j.status FROM jobs j WHERE j.id = job_id), 'failed'), \
                         error = (SELECT j.error FROM jobs j WHERE j.id = job_id), finished_at = $1 \
                         WHERE batch_id = $2 AND status = 'pending' AND job_id IS NOT NULL";
/// What waits for a job of somebody else waits no more; that job goes on, and this item has nothing to do with its end.
const LEAVE: &str = "UPDATE batch_items SET status = $1, finished_at = $2, job_id = NULL WHERE batch_id = $3 \
                     AND status = 'processing' AND joined = 1";
const CLOSE: &str = "UPDATE batches SET status = $1, finished_at = $2 WHERE id = $3 AND status = 'processing' \
                     AND round = $4 AND NOT EXISTS (SELECT 1 FROM batch_items i WHERE i.batch_id = $3 \
                     AND i.status IN ('pending', 'processing')) RETURNING project_id";
const EXPIRE_KEY: &str = "UPDATE idempotency_records SET expires_at = $1 WHERE job_id = $2";
const AGAIN: &str = "UPDATE batch_items SET status = 'pending', error = NULL, finished_at = NULL WHERE batch_id = $1 \
                     AND status = 'failed' AND job_id IS NOT NULL AND EXISTS (SELECT 1 FROM jobs j \
                     WHERE j.id = batch_items.job_id AND j.status = 'failed' AND j.retryable_until > $2)";
/// As whoever ends them locks: before their items.
const LOCK_RUNNING: &str = "SELECT id FROM jobs WHERE status IN ('pending', 'processing') AND id IN \
                            (SELECT i.job_id FROM batch_items i WHERE i.batch_id = $1 AND i.status = 'failed' \
                            AND i.job_id IS NOT NULL) ORDER BY id FOR UPDATE";
/// Its job was run again by itself after the batch had ended: from now on the batch waits for it.
const RUNNING: &str = "UPDATE batch_items SET status = 'processing', error = NULL, finished_at = NULL WHERE batch_id = $1 \
                       AND status = 'failed' AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = batch_items.job_id \
                       AND j.status IN ('pending', 'processing'))";
/// What failed before, for good, is no reason to stop what runs again.
const REOPEN: &str = "UPDATE batches SET status = 'processing', ending = NULL, finished_at = NULL, round = round + 1, \
                      max_failures = total, expires_at = $1 WHERE id = $2";
const PROLONG: &str = "UPDATE batches SET expires_at = $1 WHERE id = $2 AND expires_at < $1";
const OLD: &str = "SELECT id, finished_at FROM batches WHERE finished_at IS NOT NULL AND finished_at < $1 \
                   AND (finished_at, id) > ($2, $3) ORDER BY finished_at, id LIMIT $4 FOR UPDATE SKIP LOCKED";
/// Nobody sees it from now on; its rows go with what was never accepted.
const HIDE: &str = "UPDATE batches SET status = 'accepting', ending = 'removing', created_at = 0, finished_at = NULL \
                    WHERE id = $1";
const ENDING: &str = "SELECT ending FROM batches WHERE id = $1";

impl Store {
    /// Lets a batch end early: its items that wait have ended with this, for their turn or for a job of somebody else; those
    /// that wait to run again are what their jobs are, and no other is begun. `false` where it ends already.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn end_batch_early(
        &self,
        id: BatchId,
        ending: EarlyEnd,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.database
            .write(move |transaction| {
                let (batch, items) = ending.names();
                if transaction.query_one(END, &[batch.into(), id.to_string().into()])?.is_none() {
                    return Ok(false);
                }
                let end = || -> Vec<Value> { vec![times::micros(now).into(), id.to_string().into()] };
                let first = [vec![items.into()], end()].concat();
                transaction.query_all(&[(END_ITEMS, first.clone()), (END_AGAIN, end()), (LEAVE, first)])?;
                Ok(true)
            })
            .await
    }

    /// As what a batch is to end that ends early.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn batch_ending(&self, id: BatchId) -> Result<Option<BatchStatus>, StoreError> {
        let row =
            self.database.read(move |transaction| transaction.query_one(ENDING, &[id.to_string().into()]));
        row.await?.map_or(Ok(None), |row| row.optional_parsed(0))
    }

    /// Ends a batch whose items have all ended. `false` where they have not, or somebody else did it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn close_batch(&self, end: BatchEnding, now: Timestamp) -> Result<bool, StoreError> {
        let closed = self
            .database
            .write(move |transaction| {
                let id = end.id.to_string();
                // A statement of its own: what follows sees whatever whoever held the lock has done.
                if transaction.query_one(LOCK_OPEN, &[id.as_str().into()])?.is_none() {
                    return Ok(None);
                }
                let close = [
                    end.status.name().into(),
                    times::micros(now).into(),
                    id.as_str().into(),
                    i64::from(end.round).into(),
                ];
                let Some(row) = transaction.query_one(CLOSE, &close)? else { return Ok(None) };
                let mut rest = vec![(EXPIRE_KEY, vec![times::micros(end.expires_at).into(), id.into()])];
                rest.extend(event::write_of_batch(&end.event, end.id, now));
                transaction.query_all(&rest)?;
                row.parsed(0).map(Some)
            })
            .await?;
        Ok(closed.map(|project: ProjectId| self.tell_event(project)).is_some())
    }

    /// Lets the failed items of a batch wait for their turn again, where their jobs can be run again. A batch that has ended
    /// is open again, until then.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn retry_batch(
        &self,
        (project, mode, id): (ProjectId, Mode, BatchId),
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<BatchRetry, StoreError> {
        self.database
            .write(move |transaction| {
                let name = || -> Value { id.to_string().into() };
                let key = [name(), project.to_string().into(), mode.name().into()];
                let Some(row) = transaction.query_one(LOCK, &key)? else { return Ok(BatchRetry::Missing) };
                let open = row.text(0)? == "processing";
                if open && row.optional_text(1)?.is_some() {
                    return Ok(BatchRetry::Ending);
                }
                let waiting = transaction.execute(AGAIN, &[name(), times::micros(now).into()])?;
                if waiting == 0 {
                    return Ok(BatchRetry::Nothing);
                }
                if !open && !transaction.query(LOCK_RUNNING, &[name()])?.is_empty() {
                    transaction.execute(RUNNING, &[name()])?;
                }
                let until = times::micros(expires_at).into();
                transaction.execute(if open { PROLONG } else { REOPEN }, &[until, name()])?;
                transaction.execute(EXPIRE_KEY, &[Value::Null, name()])?;
                Ok(BatchRetry::Waiting(waiting))
            })
            .await
    }

    /// Removes batches that ended before then, at most so many, the oldest first. One whose key still stands for it is passed
    /// over. Nobody sees them any more; their items go piece by piece, by [`Store::remove_staged`], their jobs by themselves.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remove_batches(
        &self,
        ended_before: Timestamp,
        (after, limit): (Option<SweepPlace>, u32),
        now: Timestamp,
    ) -> Result<Removed, StoreError> {
        self.database
            .write(move |transaction| {
                let rows = transaction.query(OLD, &retention::batch(ended_before, after.as_ref(), limit))?;
                let mut removed = retention::looked_at(&rows, limit)?;
                let hidden = unpromised(transaction, &rows, now)?;
                removed.count = hidden.len() as u64;
                let hide: Vec<_> = hidden.into_iter().map(|id| (HIDE, vec![id.into()])).collect();
                transaction.query_all(&hide)?;
                Ok(removed)
            })
            .await
    }
}

/// Those whose key does not stand for them any more.
fn unpromised(
    transaction: &mut dyn Transaction,
    rows: &[Row],
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let ids = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
    let promised: Vec<_> = ids.iter().map(|id| retention::promised(id, now)).collect();
    let promised = transaction.query_all(&promised)?;
    Ok(ids.into_iter().zip(&promised).filter(|(_, promised)| promised.is_empty()).map(|(id, _)| id).collect())
}
