//! Items become jobs when their turn comes: each once, whichever server is faster, and in the transaction that accepts the job.

use eyebolt_types::{
    Mode,
    id::{BatchId, ImageId, JobId, KeyId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Acceptance, Again, Closing, ItemKey, Known, NewJob, Overrun, Retry, Store, StoreError,
    accepting::Accepting,
    again,
    batch::{lock_others, wait_for},
    closing::Ending,
    control::state,
    database::{Row, Statement, Transaction, Value, drive},
    times,
};

/// A batch that has items to be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBatch {
    /// Its name.
    pub id: BatchId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// The key that asked.
    pub key: KeyId,
    /// The request that asked.
    pub request_id: String,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// An item that waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingItem {
    /// Its place.
    pub position: u32,
    /// What is asked, as JSON, with its models.
    pub request: String,
    /// What is known of its image, as JSON.
    pub checked: String,
    /// The image.
    pub image: ImageId,
    /// Digest of the image.
    pub sha256: Vec<u8>,
    /// Size of the file.
    pub bytes: u64,
    /// The job that is to be run again.
    pub job: Option<JobId>,
    /// Its idempotency key, where it has one.
    pub key: Option<ItemKey>,
}

/// The job that an item is to become.
#[derive(Debug, Clone)]
pub struct ItemJob {
    /// Of which batch.
    pub batch: BatchId,
    /// Which item.
    pub position: u32,
    /// The job, under the item's key where that has one.
    pub job: NewJob,
}

/// What became of an item whose turn it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// Its job is durable; this is its image.
    Job(ImageId),
    /// Its job runs again.
    Again,
    /// Nothing is left to do: another server was faster, or the batch is to end.
    Taken,
    /// There is no room under a limit; it waits on.
    Over(Overrun),
    /// Its key was used before; it waits on.
    Known(Known),
}

/// What the open batches want done, apart from their items' work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueBatches {
    /// Their time is over.
    pub overdue: Vec<BatchId>,
    /// Too many of their items failed.
    pub hopeless: Vec<BatchId>,
    /// Jobs of batches that are to end, which have not ended: a hundred at most.
    pub unwanted: Vec<(JobId, ProjectId, Mode)>,
    /// Batches whose items have all ended.
    pub done: Vec<(BatchId, ProjectId, Mode)>,
}

/// A few of each key: one with thousands hides nobody's.
const OPEN: &str = "SELECT id, project_id, mode, key_id, request_id, expires_at FROM \
                    (SELECT id, project_id, mode, key_id, request_id, expires_at, priority, created_at, ROW_NUMBER() OVER \
                    (PARTITION BY key_id ORDER BY priority DESC, created_at, id) AS place FROM batches b \
                    WHERE status = 'processing' AND ending IS NULL AND EXISTS (SELECT 1 FROM batch_items i \
                    WHERE i.batch_id = b.id AND i.status = 'pending')) AS o \
                    WHERE place <= 20 ORDER BY priority DESC, created_at, id";
const IN_LINE: &str =
    "SELECT COUNT(*) FROM jobs WHERE status = 'pending' AND project_id = $1 AND class = 'batch'";
const WAITING: &str = "SELECT i.position, i.request, i.checked, i.image_id, m.sha256, m.bytes, i.job_id, \
                       i.idempotency_key, i.fingerprint \
                       FROM batch_items i JOIN images m ON m.id = i.image_id \
                       WHERE i.batch_id = $1 AND i.status = 'pending' ORDER BY i.position LIMIT $2";
/// Skipping what is locked: another server is about to take it.
const TAKE: &str = "UPDATE batch_items SET status = 'processing', job_id = $1 WHERE batch_id = $2 AND position = \
                    (SELECT i.position FROM batch_items i WHERE i.batch_id = $2 AND i.position = $3 \
                    AND i.status = 'pending' AND i.job_id IS NULL FOR UPDATE SKIP LOCKED) \
                    AND EXISTS (SELECT 1 FROM batches b WHERE b.id = $2 AND b.status = 'processing' \
                    AND b.ending IS NULL) RETURNING position";
const GIVE_BACK: &str =
    "UPDATE batch_items SET status = 'pending', job_id = NULL WHERE batch_id = $1 AND position = $2";
const TAKE_AGAIN: &str = "UPDATE batch_items SET status = 'processing' WHERE batch_id = $2 AND position = \
                          (SELECT i.position FROM batch_items i WHERE i.batch_id = $2 AND i.position = $3 \
                          AND i.status = 'pending' AND i.job_id = $1 FOR UPDATE SKIP LOCKED) \
                          AND EXISTS (SELECT 1 FROM batches b WHERE b.id = $2 AND b.status = 'processing' \
                          AND b.ending IS NULL) RETURNING position";
const WAIT_ON: &str = "UPDATE batch_items SET status = 'pending' WHERE batch_id = $1 AND position = $2";
const REFUSE: &str = "UPDATE batch_items SET status = 'failed', error = $3, finished_at = $4 \
                      WHERE batch_id = $1 AND position = $2 AND status = 'pending' AND job_id IS NULL";
/// The job can't be run again: the item is what its job is.
pub(super) const SETTLE: &str = "UPDATE batch_items SET status = COALESCE((SELECT j.status FROM jobs j WHERE j.id = job_id), 'failed'), \
                      error = (SELECT j.error FROM jobs j WHERE j.id = job_id), finished_at = $3 \
                      WHERE batch_id = $1 AND position = $2";
const ENDED: &str = "UPDATE batch_items SET status = $1, error = $2, finished_at = $3 WHERE job_id = $4";
const OVERDUE: &str =
    "SELECT id FROM batches WHERE status = 'processing' AND ending IS NULL AND expires_at <= $1 LIMIT 100";
const HOPELESS: &str = "SELECT id FROM batches b WHERE status = 'processing' AND ending IS NULL AND max_failures < total \
                        AND (SELECT COUNT(*) FROM batch_items i WHERE i.batch_id = b.id AND i.status = 'failed') \
                        > max_failures LIMIT 100";
/// The jobs of a batch that expires do so by themselves. What it joined belongs to somebody else.
const UNWANTED: &str = "SELECT i.job_id, b.project_id, b.mode FROM batches b CROSS JOIN batch_items i \
                        WHERE i.batch_id = b.id AND i.status = 'processing' AND b.status = 'processing' \
                        AND i.joined = 0 AND b.ending IN ('canceled', 'failed') LIMIT 100";
const DONE: &str = "SELECT id, project_id, mode FROM batches b WHERE status = 'processing' AND NOT EXISTS \
                    (SELECT 1 FROM batch_items i WHERE i.batch_id = b.id AND i.status IN ('pending', 'processing')) \
                    LIMIT 100";

impl Store {
    /// Batches with items that wait, the most urgent first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn open_batches(&self) -> Result<Vec<OpenBatch>, StoreError> {
        let rows = self.database.read(|transaction| transaction.query(OPEN, &[])).await?;
        let open = |row: &Row| {
            Ok(OpenBatch {
                id: row.parsed(0)?,
                project: row.parsed(1)?,
                mode: row.parsed(2)?,
                key: row.parsed(3)?,
                request_id: row.text(4)?,
                expires_at: times::timestamp(row.integer(5)?)?,
            })
        };
        rows.iter().map(open).collect()
    }

    /// How many jobs of batches of a project wait for a worker.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn batch_jobs_in_line(&self, project: ProjectId) -> Result<u64, StoreError> {
        let parameters = [project.to_string().into()];
        let row = self.database.read(move |transaction| transaction.query_one(IN_LINE, &parameters)).await?;
        Ok(row.map_or(Ok(0), |row| row.integer(0))?.unsigned_abs())
    }

    /// Items of a batch that wait for their turn, the first ones.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn waiting_items(&self, batch: BatchId, limit: u32) -> Result<Vec<WaitingItem>, StoreError> {
        let parameters = [batch.to_string().into(), i64::from(limit).into()];
        let rows = self.database.read(move |transaction| transaction.query(WAITING, &parameters)).await?;
        let waiting = |row: &Row| {
            Ok(WaitingItem {
                position: row.integer(0)? as u32,
                request: row.text(1)?,
                checked: row.text(2)?,
                image: row.parsed(3)?,
                sha256: row.blob(4)?,
                bytes: row.integer(5)?.unsigned_abs(),
                job: row.optional_parsed(6)?,
                key: item_key(row)?,
            })
        };
        rows.iter().map(waiting).collect()
    }

    /// Makes a job of an item that waits. `closing`: it is answered already, as in [`Store::accept_answered`].
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn feed(
        &self,
        item: ItemJob,
        closing: Option<Closing>,
        now: Timestamp,
    ) -> Result<Fed, StoreError> {
        let project = item.job.project;
        // Before the item: whoever accepts a job of the project locks in this order.
        let locks = item.job.caps.map(|_| project);
        let told = closing.is_some();
        let fed = self
            .database
            .write_locking(locks, move |transaction| feed(transaction, (&item, closing.as_ref()), now))
            .await?;
        if told && matches!(fed, Fed::Job(_)) {
            self.tell_event(project);
        }
        Ok(fed)
    }

    /// Fails an item that waits and can never be a job. `problem`: why, as JSON. `false` where it does not wait any more.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn refuse_item(
        &self,
        (batch, position): (BatchId, u32),
        problem: String,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.database
            .write(move |transaction| {
                let row = [
                    batch.to_string().into(),
                    i64::from(position).into(),
                    problem.as_str().into(),
                    times::micros(now).into(),
                ];
                Ok(transaction.execute(REFUSE, &row)? == 1)
            })
            .await
    }

    /// Runs the job of an item again that waits for it. Where that can't be, the item is again what its job is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn feed_again(
        &self,
        (batch, position): (&OpenBatch, u32),
        (job, again): (JobId, Again),
        now: Timestamp,
    ) -> Result<Fed, StoreError> {
        let (id, whose) = (batch.id, (batch.project, batch.mode, job));
        self.database
            .write_locking(again.caps.map(|_| whose.0), move |transaction| {
                let of_others = lock_others(transaction, (job, Some(id)))?;
                // Before the item, as whoever ends a job locks.
                let _ = state(transaction, whose)?;
                let place = [id.to_string().into(), i64::from(position).into()];
                let take = [&[job.to_string().into()], place.as_slice()].concat();
                if transaction.query_one(TAKE_AGAIN, &take)?.is_none() {
                    return Ok(Fed::Taken);
                }
                match again::retry(transaction, whose, (&again, now))? {
                    Retry::Pending => {
                        if of_others {
                            wait_for(transaction, job)?;
                        }
                        Ok(Fed::Again)
                    }
                    Retry::Over(over) if over.may_pass() => {
                        transaction.execute(WAIT_ON, &place)?;
                        Ok(Fed::Over(over))
                    }
                    Retry::Over(_) | Retry::NotFailed(_) | Retry::Final | Retry::Missing => {
                        let settled = [place.as_slice(), &[times::micros(now).into()]].concat();
                        transaction.execute(SETTLE, &settled)?;
                        Ok(Fed::Taken)
                    }
                }
            })
            .await
    }

    /// What the open batches want done.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn due_batches(&self, now: Timestamp) -> Result<DueBatches, StoreError> {
        let asked: Vec<Statement> = vec![
            (OVERDUE, vec![times::micros(now).into()]),
            (HOPELESS, Vec::new()),
            (UNWANTED, Vec::new()),
            (DONE, Vec::new()),
        ];
        let answers = self.database.look(asked).await?;
        let [overdue, hopeless, unwanted, done] = answers.as_slice() else {
            return Err(StoreError::Conflict);
        };
        let ids = |rows: &[Row]| rows.iter().map(|row| row.parsed(0)).collect::<Result<_, StoreError>>();
        let whose = |row: &Row| Ok::<_, StoreError>((row.parsed(1)?, row.parsed(2)?));
        let job = |row: &Row| whose(row).and_then(|(project, mode)| Ok((row.parsed(0)?, project, mode)));
        let batch = |row: &Row| whose(row).and_then(|(project, mode)| Ok((row.parsed(0)?, project, mode)));
        Ok(DueBatches {
            overdue: ids(overdue)?,
            hopeless: ids(hopeless)?,
            unwanted: unwanted.iter().map(job).collect::<Result<_, _>>()?,
            done: done.iter().map(batch).collect::<Result<_, _>>()?,
        })
    }
}

fn feed(
    transaction: &mut dyn Transaction,
    (item, closing): (&ItemJob, Option<&Closing>),
    now: Timestamp,
) -> Result<Fed, StoreError> {
    let job = &item.job;
    let place: [Value; 2] = [item.batch.to_string().into(), i64::from(item.position).into()];
    let take = [&[job.id.to_string().into()], place.as_slice()].concat();
    if transaction.query_one(TAKE, &take)?.is_none() {
        return Ok(Fed::Taken);
    }
    match drive(transaction, &mut Accepting::new(job.clone(), now))? {
        Acceptance::Accepted(image) => {
            if let Some(closing) = closing {
                let _ = drive(transaction, &mut Ending::new((job.id, 1), closing.clone(), now))?;
            }
            Ok(Fed::Job(image))
        }
        Acceptance::Over(over) => {
            transaction.execute(GIVE_BACK, &place)?;
            Ok(Fed::Over(over))
        }
        Acceptance::Known(known) => {
            transaction.execute(GIVE_BACK, &place)?;
            Ok(Fed::Known(known))
        }
    }
}

fn item_key(row: &Row) -> Result<Option<ItemKey>, StoreError> {
    let Some(text) = row.optional_text(7)? else { return Ok(None) };
    Ok(Some(ItemKey { text, fingerprint: row.optional_blob(8)?.unwrap_or_default() }))
}

/// Items end with their job: its own one, and those that joined it.
pub(crate) fn ended(job: JobId, closing: &Closing, now: Timestamp) -> Statement {
    let row = vec![
        closing.status.name().into(),
        closing.error.clone().into(),
        times::micros(now).into(),
        job.to_string().into(),
    ];
    (ENDED, row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans;

    #[test]
    fn no_look_reads_all_items_or_all_batches() {
        let looks = [OPEN, IN_LINE, WAITING, TAKE, TAKE_AGAIN, ENDED, OVERDUE, HOPELESS, UNWANTED, DONE];
        let plans = plans(&looks);
        // What is open is few, and of that the first ones are taken.
        let open =
            |line: &str| line.contains("batches_open") || line.contains("(subquery") || line == "SCAN o";
        let scan = |line: &&String| line.starts_with("SCAN") && !open(line);
        assert_eq!(plans.iter().find(scan), None, "{plans:#?}");
    }
}
