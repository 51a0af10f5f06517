//! The room "batches": many images are accepted under one name, and become jobs when their turn comes.
//!
//! `accept` and `staging` write a batch down while its body is read, so that neither its length nor a crash matters: nobody sees a batch
//! before all of it is there. `work` makes jobs of items, a few at a time, and ends batches; all of it is read from rows, so
//! whichever server is there goes on. What an item's job finds ends the item in the job's own transaction.

mod accept;
mod fingerprint;
mod settings;
mod staging;
mod view;
mod work;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use eyebolt_store::{
    BatchFilter, BatchRetry, Blobs, Document, EarlyEnd, ItemFilter, Principal, Store, StoreError, StoredItem,
};
use eyebolt_types::{
    BatchStatus, Clock, ErrorCode, JobStatus, Mode,
    id::{BatchId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub(crate) use self::accept::{Ask, Submitted};
pub use self::{
    settings::BatchSettings,
    view::{BatchItemList, BatchItemView, BatchList, BatchView},
};
use crate::{Analyzer, ApiError, Jobs, Webhooks};

/// The batches of this process. Cheap to clone; every clone is the same room.
#[derive(Debug, Clone)]
pub struct Batches(Arc<Room>);

/// What a room needs.
#[derive(Debug)]
pub struct Tools {
    /// The rows.
    pub store: Store,
    /// The files.
    pub blobs: Blobs,
    /// What items become.
    pub jobs: Jobs,
    /// What looks at images.
    pub analyzer: Analyzer,
    /// Who is told.
    pub webhooks: Webhooks,
    /// What tells the time.
    pub clock: Clock,
}

/// Whose a batch is, and its name.
pub(crate) type Named = (ProjectId, Mode, BatchId);

#[derive(Debug)]
struct Room {
    tools: Tools,
    settings: BatchSettings,
    /// How long the answer to a key is kept.
    answers: Duration,
    /// A name of this run of the process.
    owner: String,
    /// What begins every owner's name of this data folder.
    instance: String,
    /// There may be something to do.
    wake: Notify,
    /// Keys whose batch is being read, by their digest.
    arriving: Mutex<HashSet<(ProjectId, Mode, Vec<u8>)>>,
}

/// What was asked for a whole batch: the column `settings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Asked {
    max_failure_rate: f64,
    expires_in_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook_url: Option<String>,
}

impl Asked {
    /// How many of so many items may fail.
    fn allowed_failures(&self, items: u32) -> u32 {
        // A rate such as 0.29 is a little less than it reads: 0.29 of 100 are 29 all the same.
        (self.max_failure_rate * f64::from(items) + 1e-9).floor() as u32
    }
}

impl Batches {
    /// A room. `instance` names the data folder, and is the same after a restart; `answers`: how long the answer to a key is
    /// kept.
    pub fn new(tools: Tools, settings: BatchSettings, (instance, answers): (&str, Duration)) -> Self {
        Self(Arc::new(Room {
            tools,
            settings,
            answers,
            owner: format!("{instance}/{}", BatchId::new()),
            instance: format!("{instance}/"),
            wake: Notify::new(),
            arriving: Mutex::default(),
        }))
    }

    /// What is in force.
    pub(crate) fn settings(&self) -> &BatchSettings {
        &self.0.settings
    }

    /// A batch of the caller's project and mode.
    ///
    /// # Errors
    /// `batch_not_found`.
    pub(crate) async fn read(&self, caller: &Principal, id: BatchId) -> Result<BatchView, ApiError> {
        let found = self.0.tools.store.batch((caller.project, caller.mode), id).await?;
        let (batch, counts) = found.ok_or_else(missing)?;
        BatchView::of(&batch, counts)
    }

    /// Batches of the caller, newest first; and whether there are more.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn list(
        &self,
        caller: &Principal,
        (status, after, limit): (Option<BatchStatus>, Option<BatchId>, u32),
    ) -> Result<(Vec<BatchView>, bool), ApiError> {
        let (project, mode) = (caller.project, caller.mode);
        let filter = BatchFilter { project, mode, status, after, limit: limit + 1 };
        let mut found = self.0.tools.store.batches(filter).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let views = found.iter().map(|(batch, counts)| BatchView::of(batch, *counts));
        Ok((views.collect::<Result<_, _>>()?, more))
    }

    /// Items of a batch of the caller, in their order; and whether there are more.
    ///
    /// # Errors
    /// `batch_not_found`.
    pub(crate) async fn items(
        &self,
        (caller, id): (&Principal, BatchId),
        (status, after, limit): (Option<JobStatus>, Option<u32>, u32),
    ) -> Result<(Vec<BatchItemView>, bool), ApiError> {
        self.read(caller, id).await?;
        let filter = ItemFilter { batch: id, status, after, limit: limit + 1 };
        let mut found = self.0.tools.store.batch_items(filter).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        Ok((found.into_iter().map(BatchItemView::of).collect::<Result<_, _>>()?, more))
    }

    /// The next items with what was found, up to the first one that has not ended.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn ended_items(
        &self,
        id: BatchId,
        (after, limit): (Option<u32>, u32),
    ) -> Result<Vec<(StoredItem, Option<Document>)>, StoreError> {
        let filter = ItemFilter { batch: id, status: None, after, limit };
        let mut found = self.0.tools.store.batch_results(filter).await?;
        let open = found.iter().position(|(item, _)| !item.status.is_terminal());
        found.truncate(open.unwrap_or(found.len()));
        Ok(found)
    }

    /// The bytes of a job's document; `None` where they are gone.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn bytes(&self, document: Document) -> Result<Option<Bytes>, StoreError> {
        match document {
            Document::Inline(bytes) => Ok(Some(bytes.into())),
            Document::Blob(name) => match self.0.tools.blobs.get(&name).await {
                Err(StoreError::Corrupt { what }) => {
                    tracing::error!(name, what, "a stored answer is corrupt");
                    Ok(None)
                }
                read => read.map(Some),
            },
        }
    }

    /// Cancels a batch: items that wait have ended when this returns, those that run end soon.
    ///
    /// # Errors
    /// `batch_not_found`; `batch_not_cancelable` where it has ended otherwise.
    pub(crate) async fn cancel(&self, caller: &Principal, id: BatchId) -> Result<BatchView, ApiError> {
        let found = self.read(caller, id).await?;
        match found.status {
            BatchStatus::Canceled | BatchStatus::Canceling => return Ok(found),
            BatchStatus::Processing => {}
            ended => {
                let detail = format!("The batch has ended: it is {}.", ended.name());
                let mut error = ApiError::new(ErrorCode::BatchNotCancelable, detail);
                let status = ended.name().into();
                error.problem_mut().params.insert("status".to_owned(), status);
                return Err(error);
            }
        }
        self.0.tools.store.end_batch_early(id, EarlyEnd::Canceled, self.0.now()).await?;
        self.0.wake.notify_one();
        self.read(caller, id).await
    }

    /// Lets failed items of a batch wait for their turn again.
    ///
    /// # Errors
    /// `batch_not_found`; `batch_not_retryable` where none can be run again, or the batch is about to end.
    pub(crate) async fn retry(&self, caller: &Principal, id: BatchId) -> Result<BatchView, ApiError> {
        let (room, whose) = (&self.0, (caller.project, caller.mode));
        let (batch, _) = room.tools.store.batch(whose, id).await?.ok_or_else(missing)?;
        let asked: Asked = crate::jobs::document::read(&batch.settings)?;
        let now = room.now();
        let until = now + signed(Duration::from_secs(asked.expires_in_seconds));
        let refused = |detail: &str| Err(ApiError::new(ErrorCode::BatchNotRetryable, detail));
        let retried = room.tools.store.retry_batch((whose.0, whose.1, id), until, now).await?;
        crate::failpoint::hit("after_retry_batch");
        match retried {
            BatchRetry::Missing => Err(missing()),
            BatchRetry::Nothing => {
                refused("No item of the batch failed for a reason that passes, or too long ago.")
            }
            BatchRetry::Ending => refused("The batch is about to end."),
            BatchRetry::Waiting(_) => {
                room.wake.notify_one();
                self.read(caller, id).await
            }
        }
    }

    /// Removes at once what is older than the settings keep it; by itself that is done once a minute.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remove_old(&self) -> Result<(), StoreError> {
        self.0.remove_old().await
    }
}

impl Room {
    /// The time, as exact as rows keep it.
    fn now(&self) -> Timestamp {
        let now = self.tools.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn arriving(&self) -> std::sync::MutexGuard<'_, HashSet<(ProjectId, Mode, Vec<u8>)>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller's project has no such batch in its mode.
pub(crate) fn missing() -> ApiError {
    ApiError::new(ErrorCode::BatchNotFound, "There is no such batch.")
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
