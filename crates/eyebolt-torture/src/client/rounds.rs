//! What clients do.

use std::sync::Arc;

use futures_util::future::join_all;
use rand::{RngExt, seq::IndexedRandom};

use super::{Client, Finished, Manner, Phase};
use crate::{
    history::Purpose,
    journal::Intent,
    observed::{Answer, JobView, Standing},
    payload::Payload,
};

#[derive(Debug, Clone, Copy)]
enum Round {
    /// Waits for the answer.
    Patient,
    /// Waits for less than the job takes.
    Short,
    /// Asks, then looks after the job; cancels some.
    Polling,
    /// Goes away while the job runs.
    HangUp,
    /// Goes away while it uploads.
    HalfUpload,
    /// Sends the same several times at once.
    Twins,
    /// Asks again for what it has.
    Replay,
    /// Sends something else with a key that is in use.
    OtherPayload,
    /// Sends two things with one key at once.
    Race,
    /// Uses a key of another project, and looks for its job.
    Neighbour,
    /// Sends many images under one key.
    Batch,
    /// Sends a pipeline, and runs again what failed of it.
    Pipeline,
    /// Wishes that something be run again whose end is known: most of that is refused.
    Again,
    /// Lists jobs and reads what was used.
    Look,
}

/// What is drawn how often.
const MIX: [(Round, u32); 14] = [
    (Round::Patient, 22),
    (Round::Short, 8),
    (Round::Polling, 20),
    (Round::HangUp, 12),
    (Round::HalfUpload, 3),
    (Round::Twins, 12),
    (Round::Replay, 14),
    (Round::OtherPayload, 5),
    (Round::Race, 2),
    (Round::Neighbour, 3),
    (Round::Batch, 8),
    (Round::Pipeline, 12),
    (Round::Again, 8),
    (Round::Look, 3),
];

/// One in so many polled jobs is canceled.
const CANCELED: u32 = 5;
/// Polls before a client asks with its key again.
const POLLS: usize = 40;

impl Client {
    pub(super) async fn round(&mut self) -> anyhow::Result<()> {
        let round =
            MIX.choose_weighted(&mut self.rng, |(_, weight)| *weight).expect("weights are positive").0;
        match round {
            Round::Patient => self.fresh(Purpose::Fresh, Manner::Wait(10)).await?,
            Round::Short => self.fresh(Purpose::Fresh, Manner::Wait(1)).await?,
            Round::HangUp => {
                let manner = Manner::HangUp(self.rng.random_range(1..600));
                self.fresh(Purpose::HangUp, manner).await?;
            }
            Round::HalfUpload => self.fresh(Purpose::HalfUpload, Manner::Half).await?,
            Round::Polling => self.polling().await?,
            Round::Twins => self.twins().await?,
            Round::Replay => self.replay().await,
            Round::OtherPayload => self.other_payload().await,
            Round::Race => self.race().await?,
            Round::Neighbour => self.neighbour().await?,
            Round::Batch => self.batch().await?,
            Round::Pipeline => self.pipeline().await?,
            Round::Again => self.again().await,
            Round::Look => {
                self.caller.list().await;
                self.caller.usage().await;
            }
        }
        self.pause(0..30).await;
        Ok(())
    }

    async fn fresh(&mut self, purpose: Purpose, manner: Manner) -> anyhow::Result<()> {
        let intent = self.intend()?;
        let answer = self.caller.submit(&intent, purpose, manner).await;
        self.conclude(&intent, answer).await
    }

    async fn polling(&mut self) -> anyhow::Result<()> {
        let intent = self.intend()?;
        let answer = self.caller.submit(&intent, Purpose::Fresh, Manner::Async).await;
        if let Some(job) = answer.as_ref().and_then(Answer::job_id).map(str::to_owned) {
            if self.rng.random_ratio(1, CANCELED) {
                self.pause(0..300).await;
                self.caller.cancel(&job).await;
            }
            self.watch(&job).await;
        }
        self.resolve(&intent).await
    }

    pub(super) async fn watch(&mut self, job: &str) {
        for _ in 0..POLLS {
            let view = self.caller.read(job, false).await.and_then(|answer| answer.job);
            if view.as_ref().is_some_and(JobView::is_terminal) || self.field().phase() != Phase::Storm {
                return;
            }
            self.pause(20..150).await;
        }
    }

    async fn twins(&mut self) -> anyhow::Result<()> {
        let intent = self.intend()?;
        let count = self.rng.random_range(2..=5);
        let twins = (0..count).map(|_| self.caller.submit(&intent, Purpose::Twin, Manner::Wait(10)));
        let mut answers = join_all(twins).await;
        answers.sort_by_key(|answer| answer.as_ref().map(Answer::standing) != Some(Standing::Final));
        let answer = answers.into_iter().next().flatten();
        self.conclude(&intent, answer).await
    }

    async fn replay(&mut self) {
        if let Some(finished) = self.pick() {
            self.caller.submit(&finished.intent, Purpose::Replay, Manner::Wait(10)).await;
        }
    }

    async fn again(&mut self) {
        if self.rng.random_ratio(2, 3) {
            return self.any_batch_again().await;
        }
        let job = self.pick().and_then(|finished| finished.job.clone());
        if let Some(job) = job {
            self.wish(&job, (None, None)).await;
        }
    }

    async fn other_payload(&mut self) {
        if let Some(finished) = self.pick() {
            let intent = Intent { key: finished.intent.key.clone(), payload: Payload::draw(&mut self.rng) };
            self.caller.submit(&intent, Purpose::OtherPayload, Manner::Wait(1)).await;
        }
    }

    async fn race(&mut self) -> anyhow::Result<()> {
        let one = self.intend()?;
        let other = self.intend_with(one.key.clone())?;
        let both = [&one, &other].map(|intent| self.caller.submit(intent, Purpose::Race, Manner::Wait(10)));
        let answers = join_all(both).await;
        for (intent, answer) in [one, other].iter().zip(answers) {
            self.conclude(intent, answer).await?;
        }
        Ok(())
    }

    async fn neighbour(&mut self) -> anyhow::Result<()> {
        let own = &self.caller.project.name;
        let mut foreign = self.field().finished(None);
        foreign.retain(|finished| finished.project != *own);
        let Some(finished) = foreign.choose(&mut self.rng).cloned() else { return Ok(()) };
        if let Some(job) = &finished.job {
            self.caller.read(job, true).await;
        }
        let intent = self.intend_with(finished.intent.key.clone())?;
        let answer = self.caller.submit(&intent, Purpose::Fresh, Manner::Wait(10)).await;
        self.conclude(&intent, answer).await
    }

    /// Anything of this project whose final answer is known.
    fn pick(&mut self) -> Option<Arc<Finished>> {
        self.field().finished(Some(&self.caller.project.name)).choose(&mut self.rng).cloned()
    }
}
