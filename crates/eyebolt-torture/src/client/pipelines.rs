//! What clients do with pipelines: look after them, and run again what failed or was left out, some of it twice at once.

use futures_util::future::join_all;
use rand::{RngExt, seq::IndexedRandom};

use super::{Client, Manner, Phase};
use crate::{
    history::Purpose,
    journal::Intent,
    observed::{Answer, JobView},
    payload::Payload,
};

/// One pipeline in so many is canceled while it runs, and while it runs again.
const CANCELED: u32 = 10;
/// One in so many is asked for by its key while it runs again.
const ASKED: u32 = 3;
/// One wish in so many is sent twice at once.
pub(super) const TWINS: u32 = 3;
/// Looks before a client is content with what there is.
pub(super) const LOOKS: usize = 4;

impl Client {
    /// Sends a pipeline, looks after it, and runs again what did not succeed.
    pub(super) async fn pipeline(&mut self) -> anyhow::Result<()> {
        let intent = Intent { key: self.key(), payload: Payload::draw_pipeline(&mut self.rng) };
        self.journal.intend(&intent)?;
        let (purpose, manner) = match self.rng.random_range(0..6) {
            0 => (Purpose::HangUp, Manner::HangUp(self.rng.random_range(1..600))),
            1 => (Purpose::Fresh, Manner::Wait(10)),
            _ => (Purpose::Fresh, Manner::Async),
        };
        let answer = self.caller.submit(&intent, purpose, manner).await;
        if let Some(job) = answer.as_ref().and_then(Answer::job_id).map(str::to_owned) {
            if self.rng.random_ratio(1, CANCELED) {
                self.pause(0..1500).await;
                self.caller.cancel(&job).await;
            }
            self.run_again(&job, &intent).await;
        }
        self.resolve(&intent).await
    }

    /// Until everything succeeded, or the client is content without it.
    async fn run_again(&mut self, job: &str, intent: &Intent) {
        for _ in 0..LOOKS {
            self.watch(job).await;
            if self.field().phase() != Phase::Storm {
                return;
            }
            // The server may be away.
            let seen = self.caller.read(job, false).await.and_then(|answer| answer.job);
            let Some(seen) = seen.filter(JobView::is_terminal) else { continue };
            let lacking = lacking(&seen);
            let Some((step, part)) = lacking.choose(&mut self.rng) else { return };
            let wish = match self.rng.random_range(0..3) {
                0 => (None, None),
                1 => (Some(step.as_str()), None),
                _ => (Some(step.as_str()), *part),
            };
            self.wish(job, wish).await;
            if self.rng.random_ratio(1, ASKED) {
                self.caller.submit(intent, Purpose::Retry, Manner::Wait(1)).await;
            }
            if self.rng.random_ratio(1, CANCELED) {
                self.pause(0..400).await;
                self.caller.cancel(job).await;
            }
        }
    }

    /// Asks once, or twice at once; again where no answer came.
    pub(super) async fn wish(&mut self, job: &str, wish: (Option<&str>, Option<u32>)) {
        let count = if self.rng.random_ratio(1, TWINS) { 2 } else { 1 };
        let answers = join_all((0..count).map(|_| self.caller.retry(job, wish))).await;
        if answers.iter().all(Option::is_none) {
            self.pause(50..250).await;
            self.caller.retry(job, wish).await;
        }
    }
}

/// Steps and parts that ended and did not succeed.
fn lacking(job: &JobView) -> Vec<(String, Option<u32>)> {
    let ended = |status: &str| matches!(status, "failed" | "skipped" | "canceled");
    let parts = job.parts.iter().filter(|part| ended(&part.status));
    let parts = parts.map(|part| (part.step.clone(), u32::try_from(part.index).ok()));
    let steps = job.steps.iter().filter(|step| ended(&step.status)).map(|step| (step.name.clone(), None));
    parts.chain(steps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::{PartView, StepView};

    #[test]
    fn what_did_not_succeed_can_be_wished_for() {
        let part = |index, status: &str| PartView {
            step: "read".to_owned(),
            index,
            status: status.to_owned(),
            ..PartView::default()
        };
        let step = |name: &str, status: &str| StepView {
            name: name.to_owned(),
            status: status.to_owned(),
            ..StepView::default()
        };
        let job = JobView {
            steps: vec![step("find", "succeeded"), step("look", "failed")],
            parts: vec![part(0, "succeeded"), part(1, "skipped")],
            ..JobView::default()
        };
        assert_eq!(lacking(&job), [("read".to_owned(), Some(1)), ("look".to_owned(), None)]);
    }
}
