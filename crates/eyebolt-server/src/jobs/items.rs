//! An item of a batch becomes a job of class `batch`, or the job that it has runs again.

use std::time::Duration;

use eyebolt_store::{Again, Fed, ItemJob, NewImage, NewJob, OpenBatch, Principal, WaitingItem};
use eyebolt_types::{
    AnalyzeRequest, Class, Dedup, DedupStatus, ErrorCode, Feature, Input, JobStatus, Policy, Warning,
    id::{ImageId, JobId},
};
use serde::{Deserialize, Serialize};

use super::{
    Jobs, Room,
    document::{self, Intake},
    submit::{Looked, new_steps},
};
use crate::{ApiError, admission::looks, analysis::Checked, idempotency, quotas::Told};

/// What a look at an item's image found when its batch was accepted: the column `checked`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ItemCheck {
    input: Input,
    warnings: Vec<Warning>,
    snapshots: Vec<(Feature, Option<String>)>,
}

impl From<Checked> for ItemCheck {
    fn from(checked: Checked) -> Self {
        let Checked { input, warnings, snapshots } = checked;
        Self { input, warnings, snapshots }
    }
}

/// What became of an item whose turn it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is a job, which waits for a worker.
    Waits,
    /// Nothing is left to do.
    Done,
    /// A limit has no room for it; there may be some after this time.
    Later(Duration),
}

impl Jobs {
    /// Jobs of batches that a project may have in line: enough that no worker waits for the next one.
    pub(crate) fn batch_window(&self) -> u64 {
        (self.0.admission.workers() as u64 * 2).max(4)
    }

    /// Resolves once a job of a batch has ended here.
    pub(crate) async fn item_ended(&self) {
        self.0.item_ended.notified().await;
    }

    /// Tells the workers, here and elsewhere, that jobs wait.
    pub(crate) fn wake(&self) {
        self.0.wake();
    }

    /// Makes a job of an item, under the limits of whoever sent the batch.
    ///
    /// # Errors
    /// Where the store fails; then it waits on.
    pub(crate) async fn feed(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        item: WaitingItem,
    ) -> Result<Turn, ApiError> {
        match item.job {
            Some(job) => self.0.run_item_again((batch, caller), (item.position, job)).await,
            None => self.0.feed((batch, caller), item).await,
        }
    }
}

impl Room {
    async fn run_item_again(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        (position, job): (u32, JobId),
    ) -> Result<Turn, ApiError> {
        let again =
            Again { key: caller.key, caps: self.tools.quotas.caps(caller), deadline: batch.expires_at };
        let fed = self.tools.store.feed_again((batch, position), (job, again), self.now()).await?;
        Ok(match fed {
            Fed::Job(_) | Fed::Again => Turn::Waits,
            Fed::Taken => Turn::Done,
            Fed::Over(_) => Turn::Later(self.until_an_end(caller)),
        })
    }

    async fn feed(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        item: WaitingItem,
    ) -> Result<Turn, ApiError> {
        let (frozen, check): (AnalyzeRequest, ItemCheck) =
            (document::read(&item.request)?, document::read(&item.checked)?);
        // What is agreed for a minute gives the pace; the bytes of a day were taken with the batch.
        let costs = [
            (Policy::UnitsPerMinute, check.snapshots.len() as u64),
            (Policy::MegapixelsPerMinute, (check.input.megapixels * 1000.0).ceil() as u64),
        ];
        let taken = match self.tools.quotas.take(caller, &costs, &Told::default()).await {
            Ok(taken) => taken,
            Err(exceeded) => return Ok(Turn::Later(exceeded.retry_in.unwrap_or(Duration::MAX))),
        };
        let sha256 = <[u8; 32]>::try_from(item.sha256.as_slice())
            .map_err(|_| ApiError::new(ErrorCode::Internal, "A stored digest has another length."))?;
        let seen = self.seen_before((caller, &frozen), sha256, Looked::NotYet).await?;
        let (dedup, earlier) = self.reusable(caller, seen).await?;
        let mut job = self.item_job((batch, caller), (&item, sha256), (frozen, check, &dedup));
        let now = self.now();
        let closing = match earlier {
            None => None,
            Some(earlier) => {
                (job.caps, job.lease) = (None, Some(self.lease()));
                Some(self.answered_closing(&job, &earlier, (dedup, now)).await?.0)
            }
        };
        let (caps, units, answered) = (job.caps, job.steps.len() as u64, closing.is_some());
        let new = ItemJob { batch: batch.id, position: item.position, job };
        let fed = self.tools.store.feed(new, closing, now).await?;
        crate::failpoint::hit("after_feed");
        Ok(match fed {
            Fed::Job(_) | Fed::Again => {
                taken.spend();
                if answered {
                    self.metrics.job_ended(JobStatus::Succeeded);
                    self.item_ended.notify_one();
                    return Ok(Turn::Done);
                }
                self.tools.quotas.accepted(caller, caps, units);
                Turn::Waits
            }
            Fed::Taken => Turn::Done,
            Fed::Over(_) => Turn::Later(self.until_an_end(caller)),
        })
    }

    fn item_job(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        (item, sha256): (&WaitingItem, [u8; 32]),
        (frozen, check, dedup): (AnalyzeRequest, ItemCheck, &Dedup),
    ) -> NewJob {
        let ItemCheck { input, warnings, snapshots } = check;
        let service = self.admission.predict(looks(&frozen, &snapshots), input.megapixels.into());
        let intake = Intake { input, warnings, degraded: None, batch: Some(batch.id) };
        NewJob {
            id: JobId::new(),
            project: batch.project,
            mode: batch.mode,
            key: Some(batch.key),
            request_id: batch.request_id.clone(),
            request: item.request.clone(),
            input: document::write(&intake),
            // It is there already, and found by its digest.
            image: NewImage { id: ImageId::new(), sha256, bytes: item.bytes, content: None },
            dedup: document::write(dedup),
            operation: (dedup.status != DedupStatus::None).then(|| idempotency::operation(&frozen)),
            steps: new_steps(snapshots),
            class: Class::Batch,
            predicted: Duration::try_from_secs_f64(service).unwrap_or(Duration::MAX),
            deadline: batch.expires_at,
            idempotency: None,
            lease: None,
            caps: self.tools.quotas.caps(caller),
        }
    }
}
