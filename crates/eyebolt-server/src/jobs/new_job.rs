//! The job that an accepted request becomes.

use std::time::Duration;

use eyebolt_store::{NewImage, NewJob, NewStep, StoredJob, StoredStep, TakenOver};
use eyebolt_types::{
    AnalyzeRequest, Dedup, DedupStatus, JobStatus,
    id::{ImageId, JobId, StepId},
    pipeline::PipelineChoice,
};
use jiff::Timestamp;

use super::{
    Room,
    document::{self, Intake},
    place::Place,
    signed,
    submit::Arriving,
};
use crate::{analysis::Checked, idempotency};

impl Room {
    pub(super) fn new_job(
        &self,
        arriving: &Arriving,
        (image, dedup): (NewImage, &Dedup),
        place: &Place,
    ) -> NewJob {
        let Arriving { caller, checked, frozen, ask, idempotency, .. } = arriving;
        let leased = !matches!(place, Place::Later(..));
        let intake = Intake {
            input: checked.input.clone(),
            warnings: checked.warnings.clone(),
            degraded: arriving.degraded.clone(),
            batch: None,
            pipeline: arriving.pipeline.clone(),
        };
        let predicted = self.predict(arriving);
        NewJob {
            id: JobId::new(),
            project: caller.project,
            mode: caller.mode,
            key: Some(caller.key),
            request_id: ask.request_id.clone(),
            request: document::write(frozen),
            input: document::write(&intake),
            image,
            dedup: document::write(dedup),
            steps: new_steps(checked),
            class: place.class(ask.urgency),
            predicted: Duration::try_from_secs_f64(predicted).unwrap_or(Duration::MAX),
            deadline: self.now() + signed(self.rules.jobs.deadline),
            idempotency: idempotency.clone(),
            operation: (dedup.status != DedupStatus::None).then(|| idempotency::operation(frozen)),
            lease: leased.then(|| self.lease()),
            taken_over: arriving.taken_over.clone(),
            caps: if matches!(place, Place::Answered(_)) { None } else { self.tools.quotas.caps(caller) },
        }
    }
}

/// What is to be done, with a snapshot wherever a model answers.
pub(super) fn frozen(request: &AnalyzeRequest, checked: &Checked) -> AnalyzeRequest {
    match (&checked.course, &request.pipeline) {
        (Some(course), Some(PipelineChoice::Inline(pipeline))) => {
            let written = course.written((**pipeline).clone());
            AnalyzeRequest { pipeline: Some(PipelineChoice::Inline(Box::new(written))), ..request.clone() }
        }
        _ => request.clone().with_models(&checked.snapshots),
    }
}

fn new_steps(checked: &Checked) -> Vec<NewStep> {
    let step = |(at, (feature, model)): (usize, &(eyebolt_types::Feature, Option<String>))| NewStep {
        id: StepId::new(),
        feature: *feature,
        model: model.clone(),
        units: checked.units_of(at),
    };
    checked.snapshots.iter().enumerate().map(step).collect()
}

/// What a look at the database would find.
pub(super) fn just_accepted(job: NewJob, image: ImageId, now: Timestamp) -> StoredJob {
    StoredJob {
        id: job.id,
        project: job.project,
        mode: job.mode,
        key: job.key,
        request_id: job.request_id,
        status: JobStatus::Processing,
        class: job.class,
        request: job.request,
        input: job.input,
        image,
        dedup: job.dedup,
        error: None,
        crashes: 0,
        round: 1,
        deadline: job.deadline,
        cancel_requested: false,
        created_at: now,
        started_at: Some(now),
        finished_at: None,
        retryable_until: None,
        steps: (0..).zip(job.steps).map(|place| stepped(place, &job.taken_over)).collect(),
        tasks: job.taken_over.tasks,
    }
}

/// A step that waits, or was taken over.
fn stepped((position, step): (u32, NewStep), taken_over: &TakenOver) -> StoredStep {
    let pending = step.pending(position);
    match taken_over.steps.iter().find(|known| known.position == position) {
        Some(known) => {
            StoredStep { id: pending.id, units: pending.units, attempts: 0, error: None, ..known.clone() }
        }
        None => pending,
    }
}
