//! Batches and their items as readers get them.

use eyebolt_store::{StoredBatch, StoredItem};
use eyebolt_types::{
    BatchCounts, BatchLinks, BatchStatus, ErrorCode, JobStatus, Mode, Problem,
    id::{BatchId, ImageId, JobId},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Asked;
use crate::{ApiError, jobs::document};

/// Many images under one name, and where they stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Batch)]
pub struct BatchView {
    /// Its name.
    pub id: BatchId,
    /// Always `batch`.
    pub object: String,
    /// Where it stands.
    pub status: BatchStatus,
    /// Real or sandbox.
    pub mode: Mode,
    /// How many items stand where.
    pub counts: BatchCounts,
    /// Which of the project's batches goes first: the greater.
    pub priority: i64,
    /// The part of its items that may fail before the others are canceled.
    pub max_failure_rate: f64,
    /// Where its end is told, beside the project's webhook endpoints.
    pub webhook_url: Option<String>,
    /// 1, and one more for each time that its failed items were run again after its end.
    pub round: u32,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends at the latest.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When its last item ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Where to go from here.
    pub links: BatchLinks,
}

impl BatchView {
    /// Of a batch as it is stored.
    pub(crate) fn of(batch: &StoredBatch, counts: BatchCounts) -> Result<Self, ApiError> {
        let asked: Asked = document::read(&batch.settings)?;
        Ok(Self {
            id: batch.id,
            object: "batch".to_owned(),
            status: batch.status,
            mode: batch.mode,
            counts,
            priority: batch.priority,
            max_failure_rate: asked.max_failure_rate,
            webhook_url: asked.webhook_url,
            round: batch.round,
            created_at: batch.created_at,
            expires_at: batch.expires_at,
            finished_at: batch.finished_at,
            links: BatchLinks::of(batch.id),
        })
    }
}

/// A page of batches.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchList {
    /// Always `list`.
    pub object: String,
    /// Newest first.
    pub data: Vec<BatchView>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// The `cursor` of the next page, where there is one.
    pub next_cursor: Option<String>,
}

/// One image of a batch, and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchItemView {
    /// Always `batch_item`.
    pub object: String,
    /// The client's name for it.
    pub custom_id: String,
    /// The key that its job is known by, where it has one.
    pub idempotency_key: Option<String>,
    /// Its place in the batch, from 0: the cursor behind it.
    pub position: u32,
    /// Where it stands.
    pub status: JobStatus,
    /// Its image; none where that was refused.
    pub image_id: Option<ImageId>,
    /// Its job, once it has one: read it for what was found.
    pub job_id: Option<JobId>,
    /// Why there is no answer.
    pub error: Option<Problem>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

impl BatchItemView {
    /// Of an item as it is stored. One that ended with its batch says so.
    pub(crate) fn of(item: StoredItem) -> Result<Self, ApiError> {
        let with_batch = |code, detail: &str| item.error.is_none().then(|| Problem::new(code, detail));
        let own = item.error.as_deref().map(document::read).transpose()?;
        let error = match item.status {
            JobStatus::Canceled => {
                own.or_else(|| with_batch(ErrorCode::JobCanceled, "The item was canceled with its batch."))
            }
            JobStatus::Expired => own.or_else(|| {
                with_batch(ErrorCode::JobExpired, "The item was not begun before the batch's time was over.")
            }),
            _ => own,
        };
        Ok(Self {
            object: "batch_item".to_owned(),
            custom_id: item.custom_id,
            idempotency_key: item.key,
            position: item.position,
            status: item.status,
            image_id: item.image,
            job_id: item.job,
            error,
            finished_at: item.finished_at,
        })
    }
}

/// A page of items.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchItemList {
    /// Always `list`.
    pub object: String,
    /// In the order of the batch.
    pub data: Vec<BatchItemView>,
    /// Whether there are more.
    pub has_more: bool,
    /// The `cursor` of the next page, where there is one.
    pub next_cursor: Option<String>,
}
