//! Jobs with a pipeline: the image is decoded once, steps and their parts are ordered one after the other, and each is
//! written down as it ends, together with everything that follows from it.
//!
//! What follows is decided by [`Progress`], from rows alone: whoever takes a job over after a crash sees the same.

mod drive;
mod estimate;
mod keys;
mod named;
mod part;
mod progress;
mod reprocess;
mod view;

use std::sync::Arc;

use bytes::Bytes;
use eyebolt_store::{LeasedJob, StoredJob};
use eyebolt_types::{
    AnalyzeRequest, ErrorCode, Problem,
    pipeline::{Course, PipelineChoice},
};

use self::progress::Progress;
pub(crate) use self::{
    estimate::Prediction,
    named::{NamedPipeline, PipelinePage},
    part::Part,
    view::shown,
};
use super::document::{self, Intake};
use crate::{ApiError, BodyMemory, admission::Worker};

/// What an attempt works with: the file, what is to be done with it, and how far it is.
struct Sat {
    bytes: Bytes,
    memory: Option<BodyMemory>,
    worker: Worker,
    course: Arc<Course>,
    progress: Progress,
}

impl Sat {
    fn of(
        leased: &LeasedJob,
        (bytes, memory): (Bytes, Option<BodyMemory>),
        max_attempts: u32,
    ) -> Result<Self, ApiError> {
        let course = Arc::new(course(&leased.job)?.ok_or_else(unreadable)?);
        let intake: Intake = document::read(&leased.job.input)?;
        let progress = Progress::new(leased, (Arc::clone(&course), &intake), max_attempts);
        Ok(Self { bytes, memory, worker: Worker::default(), course, progress })
    }
}

/// How the pipeline of a job is run, where it has one.
///
/// # Errors
/// Where its columns hold what this version can't read.
pub(crate) fn course(job: &StoredJob) -> Result<Option<Course>, ApiError> {
    let request: AnalyzeRequest = document::read(&job.request)?;
    let Some(PipelineChoice::Inline(pipeline)) = &request.pipeline else { return Ok(None) };
    let course = Course::thaw(pipeline, &request);
    course.map(Some).map_err(|errors| {
        tracing::error!(job = %job.id, ?errors, "a stored pipeline can't be read");
        unreadable()
    })
}

fn unreadable() -> ApiError {
    ApiError::new(ErrorCode::Internal, "A stored pipeline can't be read.")
}

/// A step of a job is asked for that it does not have.
pub(crate) fn no_step() -> ApiError {
    ApiError::new(ErrorCode::StepNotFound, "The job has no such step or part.")
}

/// A problem with the step that it is of.
fn of_step(mut problem: Problem, id: &str) -> Problem {
    problem.step = Some(id.to_owned());
    problem
}
