//! Doing a step once more that succeeded: in a job of its own, which takes over everything that does not depend on the step.

use bytes::Bytes;
use eyebolt_store::{Charging, Principal, StoredJob, TakenOver};
use eyebolt_types::{AnalyzeRequest, DedupStatus, ErrorCode, Problem, StepStatus, id::JobId};

use super::{
    super::{
        Ask, Jobs, Submitted,
        control::running,
        document::{self, Intake},
        submit::Beside,
    },
    Part, Prediction, course, no_step,
};
use crate::{ApiError, Declared, analysis::Submission};

impl Jobs {
    /// Accepts a job that does a step of another job once more, and what depends on it.
    ///
    /// # Errors
    /// `job_not_found`, `step_not_found`; `job_running`; `job_not_retryable` where its image is gone; and as every
    /// request that becomes a job.
    pub(crate) async fn reprocess(
        &self,
        caller: &Principal,
        (id, part): (JobId, &Part),
        ask: Ask,
    ) -> Result<Submitted, ApiError> {
        let (job, taken_over) = self.to_reprocess(caller, (id, part)).await?;
        let submission = self.sent_again(&job).await?;
        let intake: Intake = document::read(&job.input)?;
        self.submit_beside(caller, (submission, Some(Beside { pipeline: intake.pipeline, taken_over })), ask)
            .await
    }

    /// What that would cost.
    ///
    /// # Errors
    /// As [`Jobs::reprocess`].
    pub(crate) async fn reprocess_estimate(
        &self,
        caller: &Principal,
        (id, part): (JobId, &Part),
    ) -> Result<Prediction, ApiError> {
        let (job, taken_over) = self.to_reprocess(caller, (id, part)).await?;
        let prediction = self.estimate(caller, self.sent_again(&job).await?).await?;
        let kept = |name: &Option<String>| {
            let course = course(&job).ok().flatten();
            let position = name.as_ref().and_then(|name| course?.position(name));
            position.is_some_and(|at| taken_over.steps.iter().any(|step| step.position as usize == at))
        };
        let steps: Vec<_> = prediction.steps.into_iter().filter(|step| !kept(&step.name)).collect();
        let units = steps.iter().map(|step| step.units).sum();
        Ok(Prediction { units, steps, ..prediction })
    }

    /// The job, and what of it stays as it is.
    async fn to_reprocess(
        &self,
        caller: &Principal,
        (id, part): (JobId, &Part),
    ) -> Result<(StoredJob, TakenOver), ApiError> {
        let job = self.stored(caller, id).await?;
        let course = course(&job)?.ok_or_else(no_step)?;
        let position = part.position(&job, &course).ok_or_else(no_step)?;
        if part.task.is_some() {
            let detail = "is of whole steps, since what follows from a part follows from all of them";
            return Err(ApiError::wrong_field("/reprocess", detail.to_owned()));
        }
        if !job.status.is_terminal() {
            return Err(running(job.status, "What it took to the end is not known yet."));
        }
        let again = course.with_dependents(position);
        let stays = |at: u32| !again.contains(&(at as usize));
        let whole = |at: u32| {
            job.tasks.iter().all(|task| task.position != at || task.status == StepStatus::Succeeded)
        };
        let code = job.error.as_deref().and_then(|error| document::read::<Problem>(error).ok());
        let code = code.map(|problem| problem.code);
        // What was not charged there is not free here.
        let paid = document::charging((job.round, true), (job.status, code), DedupStatus::None)
            == Charging::Pipeline;
        let kept = job.steps.iter().filter(|step| {
            paid && step.status == StepStatus::Succeeded && stays(step.position) && whole(step.position)
        });
        let steps: Vec<_> = kept.cloned().collect();
        let of_kept = |at: u32| steps.iter().any(|step| step.position == at);
        let tasks = job.tasks.iter().filter(|task| of_kept(task.position)).cloned().collect();
        let taken_over = TakenOver { steps, tasks };
        Ok((job, taken_over))
    }

    /// The request of a job, with its image, as if it were sent again.
    async fn sent_again(&self, job: &StoredJob) -> Result<Submission, ApiError> {
        let tools = &self.0.tools;
        let gone = || ApiError::new(ErrorCode::JobNotRetryable, "The image of the job is kept no longer.");
        let (sha256, content) = tools.store.image_of(job).await?.ok_or_else(gone)?;
        let bytes = match content {
            Some(content) => Bytes::from(content),
            None => tools.blobs.image((job.project, job.mode), (job.image, &sha256)).await?,
        };
        let request: AnalyzeRequest = document::read(&job.request)?;
        Ok(Submission {
            bytes,
            sha256: sha256.try_into().map_err(|_| gone())?,
            request: AnalyzeRequest { reprocess: true, ..request },
            declared: Declared::default(),
            by_field: false,
            memory: None,
        })
    }
}
