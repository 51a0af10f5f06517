//! A job that is answered from an earlier one, which was asked the same of the same file: nothing is run, and nothing
//! is charged.

use eyebolt_store::{Acceptance, Charging, Closing, NewJob, Principal, StepOutcome, StoreError};
use eyebolt_types::{Dedup, DedupStatus, ErrorCode, Job, JobStatus};
use jiff::Timestamp;

use super::{Ended, Room, document, end, new_job::just_accepted, signed};
use crate::{ApiError, analysis::StepEnd};

impl Room {
    /// The earlier job whose answer is taken. Where it can't be had any more, the image is a duplicate like any other.
    pub(super) async fn reusable(
        &self,
        caller: &Principal,
        dedup: Dedup,
    ) -> Result<(Dedup, Option<Job>), ApiError> {
        let Some(of) = dedup.of.filter(|_| dedup.status == DedupStatus::Reused) else {
            return Ok((dedup, None));
        };
        let flagged = Dedup { status: DedupStatus::Duplicate, ..dedup };
        let earlier = self.tools.store.job((caller.project, caller.mode), of).await?;
        if earlier.is_none_or(|earlier| earlier.status != JobStatus::Succeeded) {
            return Ok((flagged, None));
        }
        let Some(document) = self.tools.store.document(of).await? else { return Ok((flagged, None)) };
        let bytes = match self.bytes(of, document).await {
            Err(error) if error.problem().code == ErrorCode::JobNotFound => return Ok((flagged, None)),
            read => read?,
        };
        Ok((dedup, Some(document::read(&String::from_utf8_lossy(&bytes))?)))
    }

    /// Accepts a job and ends it in one transaction, with the earlier job's answer.
    pub(super) async fn accept_answered(
        &self,
        job: &NewJob,
        earlier: &Job,
        (dedup, now): (Dedup, Timestamp),
    ) -> Result<Acceptance, ApiError> {
        let (closing, told) = self.answered_closing(job, earlier, (dedup, now)).await?;
        let accepted = self.tools.store.accept_answered(job.clone(), closing, now).await;
        if let Ok(Acceptance::Accepted(_)) = accepted {
            self.metrics.job_ended(JobStatus::Succeeded);
            self.waiters.tell(job.id, told);
        }
        accepted.map_err(|error: StoreError| error.into())
    }

    /// The end of a job that is answered from an earlier one, and what whoever waits is told.
    pub(super) async fn answered_closing(
        &self,
        job: &NewJob,
        earlier: &Job,
        (dedup, now): (Dedup, Timestamp),
    ) -> Result<(Closing, Ended), ApiError> {
        // The image's name is the earlier job's: the same file has one name in its project and mode.
        let stored = just_accepted(job.clone(), earlier.input.image_id, now);
        let ends: Vec<_> = earlier.steps.iter().map(|step| step_end(step, earlier, now)).collect();
        let state = document::State {
            status: JobStatus::Succeeded,
            finished_at: Some(now),
            error: None,
            retryable_until: None,
            charging: Charging::Duplicate,
        };
        let steps: Vec<_> =
            stored.steps.iter().zip(&ends).map(|(step, end)| document::of_end(step, end)).collect();
        let mut outline = document::Outline::of(&stored)?;
        outline.dedup = dedup;
        outline.warnings.clone_from(&earlier.warnings);
        let whole = outline.job(steps, state);
        let (told, answer) = end::answer(&whole);
        let closing = Closing {
            status: JobStatus::Succeeded,
            error: None,
            steps: ends
                .iter()
                .filter_map(|end| end::outcome(&stored, end, true))
                .collect::<Vec<StepOutcome>>(),
            document: self.keep_document(stored.id, &whole, &told).await?,
            answer: Some(answer),
            expires_at: now + signed(self.rules.idempotency.retention),
            retryable_until: None,
            charge: Charging::Duplicate,
            content: None,
            event: end::event(&stored, &whole, now),
        };
        Ok((closing, told))
    }
}

fn step_end(step: &eyebolt_types::Step, earlier: &Job, now: Timestamp) -> StepEnd {
    StepEnd {
        feature: step.feature,
        model: step.model.clone(),
        result: Ok(earlier.results.only(step.feature)),
        started_at: now,
        finished_at: now,
    }
}
