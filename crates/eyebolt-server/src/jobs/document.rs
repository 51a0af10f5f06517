//! A job as readers get it.

use eyebolt_store::{Charging, ListedJob, NewStep, StoredJob, StoredStep};
use eyebolt_types::{
    Dedup, DedupStatus, Degraded, ErrorCode, Input, Job, JobStatus, Links, Mode, Problem, Results, Step,
    StepStatus, Usage, Warning,
    id::{BatchId, JobId, StepId},
    pipeline::{JobResults, PipelineRef},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::pipeline;
use crate::{ApiError, analysis::StepEnd};

/// The version of the answers' shape.
const API_VERSION: &str = "2026-11-01";

/// What is known of a job's image when it is accepted: the column `input`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intake {
    /// The image; its name is the store's.
    pub(crate) input: Input,
    /// What was taken all the same.
    pub(crate) warnings: Vec<Warning>,
    /// Where less is done than was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) degraded: Option<Degraded>,
    /// The batch that the job is an item of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<BatchId>,
    /// The pipeline, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline: Option<PipelineRef>,
}

/// A job before its steps and its end.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) id: JobId,
    pub(crate) mode: Mode,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) input: Input,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) dedup: Dedup,
    pub(crate) degraded: Option<Degraded>,
    pub(crate) pipeline: Option<PipelineRef>,
}

/// Where a job stands, beside its steps.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) status: JobStatus,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) error: Option<Problem>,
    pub(crate) retryable_until: Option<Timestamp>,
    pub(crate) charging: Charging,
}

impl Outline {
    /// Of a stored job.
    ///
    /// # Errors
    /// Where its columns hold what this version can't read.
    pub(crate) fn of(job: &StoredJob) -> Result<Self, ApiError> {
        let intake: Intake = read(&job.input)?;
        Ok(Self {
            id: job.id,
            mode: job.mode,
            created_at: job.created_at,
            started_at: job.started_at,
            input: Input { image_id: job.image, ..intake.input },
            warnings: intake.warnings,
            dedup: read(&job.dedup)?,
            degraded: intake.degraded,
            pipeline: intake.pipeline,
        })
    }

    /// The whole job, of features.
    pub(crate) fn job(self, steps: Vec<(Step, Option<Results>)>, state: State) -> Job {
        let mut results = Results::default();
        let mut units = 0;
        let mut shown = Vec::with_capacity(steps.len());
        for (step, found) in steps {
            units += u64::from(step.status == StepStatus::Succeeded && state.charging == Charging::Steps);
            if let Some(found) = found {
                results.absorb(found);
            }
            shown.push(step);
        }
        self.whole((shown, JobResults::Features(results), units), state)
    }

    /// The whole job.
    pub(crate) fn whole(self, (steps, results, units): (Vec<Step>, JobResults, u64), state: State) -> Job {
        Job {
            id: self.id,
            object: "job".to_owned(),
            status: state.status,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: state.finished_at,
            mode: self.mode,
            api_version: API_VERSION.to_owned(),
            input: self.input,
            pipeline: self.pipeline,
            steps,
            results,
            warnings: self.warnings,
            dedup: self.dedup,
            degraded: self.degraded,
            usage: Usage { units },
            error: state.error,
            retryable_until: state.retryable_until,
            links: Links::of(self.id),
        }
    }
}

/// The batch that a job is an item of.
pub(crate) fn batch_of(job: &StoredJob) -> Option<BatchId> {
    read::<Intake>(&job.input).ok()?.batch
}

/// A job that has not ended, as it stands.
///
/// # Errors
/// Where its columns hold what this version can't read.
pub(crate) fn so_far(job: &StoredJob) -> Result<Job, ApiError> {
    let state = State {
        status: job.status,
        finished_at: job.finished_at,
        error: job.error.as_deref().map(read).transpose()?,
        retryable_until: job.retryable_until,
        charging: Charging::Steps,
    };
    let (outline, code) = (Outline::of(job)?, state.error.as_ref().map(|problem| problem.code));
    let charging =
        charging((job.round, outline.pipeline.is_some()), (job.status, code), outline.dedup.status);
    let state = State { charging, ..state };
    if outline.pipeline.is_some() {
        return pipeline::shown(job, outline, state);
    }
    let steps = job.steps.iter().map(of_row).collect::<Result<_, _>>()?;
    Ok(outline.job(steps, state))
}

/// What a list shows of a job that is no column: the image, what it costs so far, and why it failed.
///
/// # Errors
/// Where its columns hold what this version can't read.
pub(crate) fn of_listed(job: &ListedJob) -> Result<(Input, Usage, Option<Problem>), ApiError> {
    let (intake, dedup): (Intake, Dedup) = (read(&job.input)?, read(&job.dedup)?);
    let error: Option<Problem> = job.error.as_deref().map(read).transpose()?;
    let code = error.as_ref().map(|problem| problem.code);
    let charging = charging((job.round, intake.pipeline.is_some()), (job.status, code), dedup.status);
    let free = matches!(charging, Charging::Nothing | Charging::Duplicate);
    let units = if free { 0 } else { job.succeeded };
    Ok((Input { image_id: job.image, ..intake.input }, Usage { units }, error))
}

/// What a job costs that stands so. One that nobody got an answer from costs nothing; but what was charged before, when
/// it failed and was then run again, stays charged.
pub(crate) fn charging(
    (round, of_pipeline): (u32, bool),
    (status, code): (JobStatus, Option<ErrorCode>),
    dedup: DedupStatus,
) -> Charging {
    let fruitless =
        matches!(status, JobStatus::Canceled | JobStatus::Expired) || code == Some(ErrorCode::WorkerDied);
    match dedup {
        DedupStatus::Reused => Charging::Duplicate,
        _ if fruitless && round == 1 => Charging::Nothing,
        _ if of_pipeline => Charging::Pipeline,
        _ => Charging::Steps,
    }
}

/// A step as it is stored, with what it found.
pub(crate) fn of_row(step: &StoredStep) -> Result<(Step, Option<Results>), ApiError> {
    let shown = Step {
        id: step.id,
        feature: step.feature,
        status: step.status,
        attempt: step.attempts.max(1),
        model: step.model.clone(),
        started_at: step.started_at,
        finished_at: step.finished_at,
        error: step.error.as_deref().map(read).transpose()?,
        name: None,
        key: None,
        tasks: None,
    };
    let found = step.result.as_deref().map(serde_json::from_slice).transpose();
    Ok((shown, found.map_err(|error| unreadable(&error))?))
}

/// A step that has just ended.
pub(crate) fn of_end(step: &StoredStep, end: &StepEnd) -> (Step, Option<Results>) {
    let shown = Step {
        id: step.id,
        feature: step.feature,
        status: if end.result.is_ok() { StepStatus::Succeeded } else { StepStatus::Failed },
        attempt: step.attempts + 1,
        model: end.model.clone().or_else(|| step.model.clone()),
        started_at: Some(end.started_at),
        finished_at: Some(end.finished_at),
        error: end.result.as_ref().err().cloned(),
        name: None,
        key: None,
        tasks: None,
    };
    (shown, end.result.as_ref().ok().cloned())
}

/// A step of a job that is nowhere stored.
pub(crate) fn of_loose_end(end: &StepEnd) -> (Step, Option<Results>) {
    let step = NewStep { id: StepId::new(), feature: end.feature, model: None, units: 1 }.pending(0);
    of_end(&step, end)
}

/// Reads a column of JSON.
pub(crate) fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

/// Writes one.
pub(crate) fn write(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("words of the API are plain data")
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    tracing::error!(%error, "a stored job can't be read");
    ApiError::new(ErrorCode::Internal, "A stored job can't be read.")
}
