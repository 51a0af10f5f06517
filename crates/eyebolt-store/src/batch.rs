//! Batches: many images accepted under one name. Their items are rows that become jobs when their turn comes.
//!
//! `staging` writes a batch down as its request is read and accepts it; `feeding` makes jobs of its items; `joining` lets items
//! share the jobs that their keys stand for; `ending` cancels, ends, runs again and removes it.

mod ending;
mod feeding;
mod joining;
mod staging;

use eyebolt_types::{
    BatchCounts, BatchStatus, JobStatus, Mode,
    id::{BatchId, ImageId, JobId, KeyId, ProjectId},
};
use jiff::Timestamp;

pub use self::{
    ending::{BatchEnding, BatchRetry, EarlyEnd},
    feeding::{DueBatches, Fed, ItemJob, OpenBatch, WaitingItem},
    joining::Joined,
    staging::{BatchAcceptance, NewBatch, StagedImage, StagedItem, StoredImage},
};
use crate::{
    Document, Store, StoreError,
    database::{Row, Value},
    job, times,
};

pub(crate) use self::{
    feeding::ended as item_ended,
    joining::{lock_others, wait_for},
};

/// A batch that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Its name.
    pub id: BatchId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// The key that asked.
    pub key: KeyId,
    /// The request that was accepted.
    pub request_id: String,
    /// Where it stands.
    pub status: BatchStatus,
    /// Which of several goes first: the greater.
    pub priority: i64,
    /// What was asked for all items, as JSON.
    pub settings: String,
    /// How many items it has.
    pub total: u32,
    /// 1, and one more for each time that it was opened again after its end.
    pub round: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// When its last item ended.
    pub finished_at: Option<Timestamp>,
}

/// The idempotency key of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemKey {
    /// As its client wrote it, without quotes.
    pub text: String,
    /// Digest of what is asked of its image; empty where that was refused, since the key stays free then.
    pub fingerprint: Vec<u8>,
}

/// One item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredItem {
    /// Its place, from 0.
    pub position: u32,
    /// The client's name for it.
    pub custom_id: String,
    /// Its idempotency key, where it has one.
    pub key: Option<String>,
    /// Where it stands.
    pub status: JobStatus,
    /// Its image; none where that was refused.
    pub image: Option<ImageId>,
    /// Its job, once it has one.
    pub job: Option<JobId>,
    /// Why it failed, a problem as JSON.
    pub error: Option<String>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Which items of a batch are wanted.
#[derive(Debug, Clone, Copy)]
pub struct ItemFilter {
    /// Of which batch.
    pub batch: BatchId,
    /// Only in this state.
    pub status: Option<JobStatus>,
    /// Only behind this place; none: from the first one on.
    pub after: Option<u32>,
    /// At most so many.
    pub limit: u32,
}

/// Which batches of a project are wanted.
#[derive(Debug, Clone)]
pub struct BatchFilter {
    /// Whose.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// Only in this state.
    pub status: Option<BatchStatus>,
    /// Only those older than this one: the last of the page before.
    pub after: Option<BatchId>,
    /// At most so many.
    pub limit: u32,
}

/// The columns that [`stored`] reads.
macro_rules! columns {
    () => {
        "id, project_id, mode, key_id, request_id, CASE WHEN status = 'processing' AND ending = 'canceled' \
         THEN 'canceling' ELSE status END, priority, settings, total, round, created_at, expires_at, finished_at"
    };
}

/// The columns that [`item`] reads.
macro_rules! item_columns {
    () => {
        "position, custom_id, status, image_id, job_id, error, finished_at, idempotency_key"
    };
}

const BY_ID: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM batches WHERE id = $1 AND project_id = $2 AND mode = $3 AND status <> 'accepting'"
);
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM batches WHERE project_id = $1 AND mode = $2 AND id < $3 AND status <> 'accepting' \
     AND ($4 = '' OR (CASE WHEN status = 'processing' AND ending = 'canceled' THEN 'canceling' ELSE status END) = $4) \
     ORDER BY id DESC LIMIT $5"
);
const COUNTS: &str = "SELECT status, COUNT(*) FROM batch_items WHERE batch_id = $1 GROUP BY status";
const ITEMS: &str = concat!(
    "SELECT ",
    item_columns!(),
    " FROM batch_items WHERE batch_id = $1 AND position > $2 ORDER BY position LIMIT $3"
);
const ITEMS_IN: &str = concat!(
    "SELECT ",
    item_columns!(),
    " FROM batch_items WHERE batch_id = $1 AND status = $4 AND position > $2 ORDER BY position LIMIT $3"
);
const DOCUMENT: &str = "SELECT document, document_digest FROM jobs WHERE id = $1";

impl Store {
    /// A batch of this project and mode. Any other is as good as none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn batch(
        &self,
        (project, mode): (ProjectId, Mode),
        id: BatchId,
    ) -> Result<Option<(StoredBatch, BatchCounts)>, StoreError> {
        let key = vec![id.to_string().into(), project.to_string().into(), mode.name().into()];
        let answers = self.database.look(vec![(BY_ID, key), counted(id)]).await?;
        let [batch, counts] = answers.as_slice() else { return Err(StoreError::Conflict) };
        batch.first().map(|row| Ok((stored(row)?, counts_of(counts)?))).transpose()
    }

    /// Batches of a project, newest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn batches(&self, filter: BatchFilter) -> Result<Vec<(StoredBatch, BatchCounts)>, StoreError> {
        self.database
            .read(move |transaction| {
                let parameters = [
                    filter.project.to_string().into(),
                    filter.mode.name().into(),
                    filter.after.map_or_else(|| "batch_z".to_owned(), |id| id.to_string()).into(),
                    filter.status.map_or("", BatchStatus::name).into(),
                    i64::from(filter.limit).into(),
                ];
                let rows = transaction.query(LIST, &parameters)?;
                let batches = rows.iter().map(stored).collect::<Result<Vec<_>, _>>()?;
                let counted: Vec<_> = batches.iter().map(|batch| counted(batch.id)).collect();
                let counts = transaction.query_all(&counted)?;
                batches
                    .into_iter()
                    .zip(&counts)
                    .map(|(batch, counts)| Ok((batch, counts_of(counts)?)))
                    .collect()
            })
            .await
    }

    /// Items of a batch, in their order.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn batch_items(&self, filter: ItemFilter) -> Result<Vec<StoredItem>, StoreError> {
        let (sql, parameters) = items(filter);
        let rows = self.database.read(move |transaction| transaction.query(sql, &parameters)).await?;
        rows.iter().map(item).collect()
    }

    /// The same, each with what readers of its job get; none where its job has not ended, or is gone.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn batch_results(
        &self,
        filter: ItemFilter,
    ) -> Result<Vec<(StoredItem, Option<Document>)>, StoreError> {
        self.database
            .read(move |transaction| {
                let (sql, parameters) = items(filter);
                let found = transaction.query(sql, &parameters)?;
                let found = found.iter().map(item).collect::<Result<Vec<_>, _>>()?;
                let job = |item: &StoredItem| item.job.map_or_else(String::new, |job| job.to_string());
                let wanted: Vec<_> = found.iter().map(|item| (DOCUMENT, vec![job(item).into()])).collect();
                let documents = transaction.query_all(&wanted)?;
                let with = |(item, rows): (StoredItem, &Vec<Row>)| {
                    let document = rows.first().map_or(Ok(None), |row| job::document(row, 0))?;
                    Ok((item, document))
                };
                found.into_iter().zip(&documents).map(with).collect()
            })
            .await
    }
}

fn items(filter: ItemFilter) -> (&'static str, Vec<Value>) {
    let mut parameters = vec![
        filter.batch.to_string().into(),
        filter.after.map_or(-1, i64::from).into(),
        i64::from(filter.limit).into(),
    ];
    let Some(status) = filter.status else { return (ITEMS, parameters) };
    parameters.push(status.name().into());
    (ITEMS_IN, parameters)
}

fn counted(batch: BatchId) -> (&'static str, Vec<Value>) {
    (COUNTS, vec![batch.to_string().into()])
}

fn counts_of(rows: &[Row]) -> Result<BatchCounts, StoreError> {
    let mut counts = BatchCounts::default();
    for row in rows {
        let found = row.integer(1)? as u32;
        counts.total += found;
        let place = match row.parsed(0)? {
            JobStatus::Pending => &mut counts.pending,
            JobStatus::Processing => &mut counts.processing,
            JobStatus::Succeeded => &mut counts.succeeded,
            JobStatus::Failed => &mut counts.failed,
            JobStatus::Canceled => &mut counts.canceled,
            JobStatus::Expired => &mut counts.expired,
        };
        *place = found;
    }
    Ok(counts)
}

fn stored(row: &Row) -> Result<StoredBatch, StoreError> {
    Ok(StoredBatch {
        id: row.parsed(0)?,
        project: row.parsed(1)?,
        mode: row.parsed(2)?,
        key: row.parsed(3)?,
        request_id: row.text(4)?,
        status: row.parsed(5)?,
        priority: row.integer(6)?,
        settings: row.text(7)?,
        total: row.integer(8)? as u32,
        round: row.integer(9)? as u32,
        created_at: times::timestamp(row.integer(10)?)?,
        expires_at: times::timestamp(row.integer(11)?)?,
        finished_at: times::optional(row.optional_integer(12)?)?,
    })
}

fn item(row: &Row) -> Result<StoredItem, StoreError> {
    Ok(StoredItem {
        position: row.integer(0)? as u32,
        custom_id: row.text(1)?,
        status: row.parsed(2)?,
        image: row.optional_parsed(3)?,
        job: row.optional_parsed(4)?,
        error: row.optional_text(5)?,
        finished_at: times::optional(row.optional_integer(6)?)?,
        key: row.optional_text(7)?,
    })
}
