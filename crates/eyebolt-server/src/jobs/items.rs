//! An item of a batch becomes a job of class `batch`, or the job that it has runs again.

use std::time::Duration;

use eyebolt_store::{
    Again, Caps, Fed, ItemJob, NewImage, NewJob, NewStep, OpenBatch, Principal, TakenOver, WaitingItem,
};
use eyebolt_types::{
    AnalyzeRequest, Class, Dedup, DedupStatus, ErrorCode, Feature, Input, JobStatus, Policy, Warning,
    id::{BatchId, ImageId, JobId, StepId},
    pipeline::PipelineRef,
};
use serde::{Deserialize, Serialize};

use super::{
    Jobs, Room,
    document::{self, Intake},
    item_keys,
    new_job::frozen,
    pipeline::Part,
    submit::{Looked, twice, unlimited},
};
use crate::{
    ApiError,
    admission::looks,
    analysis::{Checked, Submission},
    idempotency,
    quotas::{self, Exceeded, Taken, Told},
};

/// What a look at an item's image found when its batch was accepted: the column `checked`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ItemCheck {
    input: Input,
    warnings: Vec<Warning>,
    steps: Vec<ItemStep>,
    /// The pipeline, where there is one.
    pipeline: Option<PipelineRef>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ItemStep {
    feature: Feature,
    model: Option<String>,
    /// Units that it costs at most.
    units: u64,
}

impl ItemCheck {
    fn new(checked: Checked, pipeline: Option<PipelineRef>) -> Self {
        let units: Vec<_> = (0..checked.snapshots.len()).map(|at| checked.units_of(at)).collect();
        let Checked { input, warnings, snapshots, .. } = checked;
        let step = |((feature, model), units)| ItemStep { feature, model, units };
        Self { input, warnings, steps: snapshots.into_iter().zip(units).map(step).collect(), pipeline }
    }

    fn units(&self) -> u64 {
        self.steps.iter().map(|step| step.units).sum()
    }
}

impl ItemStep {
    fn pending(self) -> NewStep {
        NewStep { id: StepId::new(), feature: self.feature, model: self.model, units: self.units }
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

    /// Looks at an item's image and what is asked of it: what is to be done, with its snapshots.
    ///
    /// # Errors
    /// Where image or settings are refused.
    pub(crate) async fn check_item(
        &self,
        caller: &Principal,
        mut submission: Submission,
    ) -> Result<(AnalyzeRequest, ItemCheck), ApiError> {
        let pipeline = self.name_resolved(caller, &mut submission.request).await?;
        let checked = self.0.tools.analyzer.check(&submission).await?;
        Ok((frozen(&submission.request, &checked), ItemCheck::new(checked, pipeline)))
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
            Some(job) => self.run_item_again((batch, caller), (item.position, job)).await,
            None => self.0.feed((batch, caller), item).await,
        }
    }

    async fn run_item_again(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        (position, job): (u32, JobId),
    ) -> Result<Turn, ApiError> {
        let room = &self.0;
        let again = match self.again(caller, (job, &Part::default())).await {
            Ok(again) => {
                let caps = again.caps.map(quotas::leaving);
                Again { deadline: batch.expires_at, caps, ..again }
            }
            // It was removed: the store says so.
            Err(error) if error.problem().code == ErrorCode::JobNotFound => {
                Again { key: caller.key, caps: None, deadline: batch.expires_at, parts: None }
            }
            Err(error) => return Err(error),
        };
        let fed = room.tools.store.feed_again((batch, position), (job, again), room.now()).await?;
        crate::failpoint::hit("after_feed");
        Ok(match fed {
            Fed::Job(_) | Fed::Again => Turn::Waits,
            // It has its job: nobody asked for a key.
            Fed::Taken | Fed::Known(_) => Turn::Done,
            Fed::Over(_) => Turn::Later(room.until_an_end(caller)),
        })
    }
}

impl Room {
    async fn feed(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        item: WaitingItem,
    ) -> Result<Turn, ApiError> {
        let place = (batch.id, item.position);
        let key = item.key.as_ref().map(item_keys::idempotency).transpose()?;
        let _arrival = match &key {
            None => None,
            Some(key) => match self.arrive_as_item((batch, caller), place, key).await? {
                Ok(arrival) => Some(arrival),
                Err(turn) => return Ok(turn),
            },
        };
        let (frozen, check): (AnalyzeRequest, ItemCheck) =
            (document::read(&item.request)?, document::read(&item.checked)?);
        // What is agreed for a minute gives the pace; the bytes of a day were taken with the batch.
        let costs = [
            (Policy::UnitsPerMinute, check.units()),
            (Policy::MegapixelsPerMinute, (check.input.megapixels * 1000.0).ceil() as u64),
        ];
        if !self.tools.quotas.leaves_enough(caller, &costs).await {
            return Ok(Turn::Later(quotas::LEAST_WAIT));
        }
        let taken = match self.tools.quotas.take(caller, &costs, &Told::default()).await {
            Ok(taken) => taken,
            Err(exceeded) => return self.over(place, exceeded).await,
        };
        let sha256 = <[u8; 32]>::try_from(item.sha256.as_slice())
            .map_err(|_| ApiError::new(ErrorCode::Internal, "A stored digest has another length."))?;
        let seen = self.seen_before((caller, &frozen), sha256, Looked::NotYet).await?;
        let (dedup, earlier) = self.reusable(caller, seen).await?;
        let units = check.units();
        let mut job = self.item_job((batch, caller), (&item, sha256), (frozen, check, &dedup));
        job.idempotency.clone_from(&key);
        let now = self.now();
        let closing = match earlier {
            None => None,
            Some(earlier) => {
                (job.caps, job.lease) = (None, Some(self.lease()));
                Some(self.answered_closing(&job, &earlier, (dedup, now)).await?.0)
            }
        };
        let held = (job.caps, units, closing.is_some());
        let new = ItemJob { batch: batch.id, position: item.position, job };
        let fed = self.tools.store.feed(new, closing, now).await?;
        crate::failpoint::hit("after_feed");
        match (fed, key) {
            (Fed::Known(known), Some(key)) => {
                drop(taken);
                self.share((batch, caller), place, (known, &key)).await
            }
            (fed, _) => self.fed((caller, place), fed, (taken, held)).await,
        }
    }

    /// What follows from what became of an item. `held`: its limits, its units, and whether it was answered already.
    async fn fed(
        &self,
        (caller, place): (&Principal, (BatchId, u32)),
        fed: Fed,
        (taken, (caps, units, answered)): (Taken, (Option<Caps>, u64, bool)),
    ) -> Result<Turn, ApiError> {
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
            Fed::Known(_) => return Err(twice()),
            Fed::Over(overrun) if overrun.may_pass() => Turn::Later(self.until_an_end(caller)),
            Fed::Over(overrun) => {
                let over = self.tools.quotas.over(caller, overrun, Duration::ZERO).ok_or_else(unlimited)?;
                return self.over(place, over).await;
            }
        })
    }

    /// An item for which a limit has no room waits, or fails where the limit is less than what it needs.
    async fn over(&self, place: (BatchId, u32), exceeded: Exceeded) -> Result<Turn, ApiError> {
        if let Some(wait) = exceeded.retry_in {
            return Ok(Turn::Later(wait));
        }
        self.refuse(place, &exceeded.into()).await
    }

    /// An item that can never be a job fails.
    pub(super) async fn refuse(&self, place: (BatchId, u32), why: &ApiError) -> Result<Turn, ApiError> {
        let problem = document::write(why.problem());
        if self.tools.store.refuse_item(place, problem, self.now()).await? {
            self.item_ended.notify_one();
        }
        Ok(Turn::Done)
    }

    fn item_job(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        (item, sha256): (&WaitingItem, [u8; 32]),
        (frozen, check, dedup): (AnalyzeRequest, ItemCheck, &Dedup),
    ) -> NewJob {
        let ItemCheck { input, warnings, steps, pipeline } = check;
        let snapshots: Vec<_> = steps.iter().map(|step| (step.feature, step.model.clone())).collect();
        let counted = looks(&frozen, &snapshots).into_iter().zip(steps.iter().map(|step| step.units));
        let service = self.admission.predict_parts(counted.collect(), input.megapixels.into());
        let intake = Intake { input, warnings, degraded: None, batch: Some(batch.id), pipeline };
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
            steps: steps.into_iter().map(ItemStep::pending).collect(),
            class: Class::Batch,
            predicted: Duration::try_from_secs_f64(service).unwrap_or(Duration::MAX),
            deadline: batch.expires_at,
            idempotency: None,
            lease: None,
            taken_over: TakenOver::default(),
            caps: self.tools.quotas.caps_leaving(caller),
        }
    }
}
