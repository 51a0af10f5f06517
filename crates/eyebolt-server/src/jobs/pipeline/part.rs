//! A step of a pipeline, or one of its parts, as a client names it; and running it again.

use eyebolt_store::{Again, Parts, Principal, StoredJob};
use eyebolt_types::{id::JobId, pipeline::Course};

use super::{
    super::{Jobs, signed},
    course, no_step,
};
use crate::ApiError;

/// What of a job is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The step, by its name in the pipeline or by its id; `None`: all of the job.
    pub(crate) step: Option<String>,
    /// The part of the step.
    pub(crate) task: Option<u32>,
}

impl Part {
    /// The place of the step that is meant.
    pub(crate) fn position(&self, job: &StoredJob, course: &Course) -> Option<usize> {
        let step = self.step.as_ref()?;
        let by_id = || job.steps.iter().position(|known| known.id.to_string() == *step);
        course.position(step).or_else(by_id)
    }

    /// What is run again: it, and what depends on it.
    fn parts(&self, job: &StoredJob, course: &Course) -> Result<Parts, ApiError> {
        if self.step.is_none() {
            return Ok(Parts { steps: (0..job.steps.len() as u32).collect(), task: None });
        }
        let position = self.position(job, course).ok_or_else(no_step)?;
        let known = |task: u32| {
            job.tasks.iter().any(|known| known.position as usize == position && known.number == task)
        };
        if self.task.is_some_and(|task| !known(task)) {
            return Err(no_step());
        }
        let steps = course.with_dependents(position).into_iter().map(|step| step as u32).collect();
        Ok(Parts { steps, task: self.task })
    }
}

impl Jobs {
    /// What is run again of a job, and under which limits.
    ///
    /// # Errors
    /// `job_not_found`, `step_not_found`.
    pub(in crate::jobs) async fn again(
        &self,
        caller: &Principal,
        (id, part): (JobId, &Part),
    ) -> Result<Again, ApiError> {
        let room = &self.0;
        let job = self.stored(caller, id).await?;
        let parts = match course(&job)? {
            Some(course) => Some(part.parts(&job, &course)?),
            None if part.step.is_some() => return Err(no_step()),
            None => None,
        };
        let deadline = room.now() + signed(room.rules.jobs.deadline);
        Ok(Again { key: caller.key, caps: room.tools.quotas.caps(caller), deadline, parts })
    }
}
