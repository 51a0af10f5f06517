//! Calls whose caller has gone, and whose answer nobody can ask for: a job without an idempotency key that is waited
//! for. It is canceled, as if the caller had said so.

use eyebolt_store::Principal;
use eyebolt_types::id::JobId;

use super::Jobs;

/// Cancels the job when dropped before [`Abandoned::answered`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Abandoned {
    jobs: Jobs,
    caller: Principal,
    job: Option<JobId>,
}

impl Jobs {
    /// Watches over a call for as long as somebody waits for it.
    pub(crate) fn cancel_when_abandoned(&self, caller: &Principal, job: JobId) -> Abandoned {
        Abandoned { jobs: self.clone(), caller: caller.clone(), job: Some(job) }
    }
}

impl Abandoned {
    /// The caller is still there.
    pub(crate) fn answered(mut self) {
        self.job = None;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        let Some(job) = self.job.take() else { return };
        let (jobs, caller) = (self.jobs.clone(), self.caller.clone());
        self.jobs.0.spawn(async move {
            // One that has ended meanwhile needs no canceling.
            if let Err(error) = jobs.cancel(&caller, job).await {
                tracing::debug!(%job, %error, "an abandoned job was not canceled");
            }
        });
    }
}
