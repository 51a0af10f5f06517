//! What clients do with batches.

use std::time::Duration;

use futures_util::future::join_all;
use rand::{RngExt, seq::IndexedRandom};

use super::{
    Client, Phase,
    pipelines::{LOOKS, TWINS},
};
use crate::{
    batch::BatchIntent,
    history::Purpose,
    observed::{Answer, BatchView, Standing},
};

/// One batch in so many is canceled, one in so many asked for again. Of those whose items have keys every second one has a twin.
const CANCELED: u32 = 4;
const REPLAYED: u32 = 3;
const KEYED_TWINS: u32 = 2;

/// Polls before a client leaves a batch to itself.
const POLLS: usize = 30;

/// How long a client waits for the acceptance of a batch.
const PATIENCE: Duration = Duration::from_secs(10);

impl Client {
    /// Sends a batch, looks after it, cancels some, runs failed items again.
    pub(super) async fn batch(&mut self) -> anyhow::Result<()> {
        let intent = BatchIntent::draw(self.key(), &mut self.rng);
        self.journal.intend_batch(&intent)?;
        // Some hang up first.
        let (purpose, limit) = match self.rng.random_range(0..4) {
            0 => (Purpose::HangUp, Duration::from_millis(self.rng.random_range(1..60))),
            _ => (Purpose::Fresh, PATIENCE),
        };
        let answer = self.caller.submit_batch(&intent, purpose, limit).await;
        let Some(id) = self.resolve_batch(&intent, answer).await? else { return Ok(()) };
        let twin = intent.twin(|| self.key()).filter(|_| self.rng.random_ratio(1, KEYED_TWINS));
        if let Some(twin) = &twin {
            self.journal.intend_batch(twin)?;
            let answer = self.caller.submit_batch(twin, Purpose::Fresh, PATIENCE).await;
            self.resolve_batch(twin, answer).await?;
        }
        if self.rng.random_ratio(1, CANCELED) {
            self.pause(0..600).await;
            self.caller.cancel_batch(&id).await;
        }
        if self.rng.random_ratio(1, REPLAYED) {
            self.caller.submit_batch(&intent, Purpose::Replay, PATIENCE).await;
        }
        self.watch_batch(&id).await;
        self.run_batch_again(&id).await;
        Ok(())
    }

    /// Asks again until the batch is known to be accepted, or the key is refused for good; its id.
    pub(super) async fn resolve_batch(
        &mut self,
        intent: &BatchIntent,
        mut answer: Option<Answer>,
    ) -> anyhow::Result<Option<String>> {
        loop {
            let accepted = answer.as_ref().filter(|answer| answer.is_success());
            if let Some(batch) = accepted.and_then(|answer| answer.batch.as_ref()) {
                self.journal.batch_done(intent)?;
                let told = intent.hook.as_deref().zip(Some(batch.id.as_str()));
                self.field().expects(&self.caller.project.name, told);
                let known = (self.caller.project.name.clone(), batch.id.clone());
                self.field().batches.lock().expect("no holder panics").push(known);
                return Ok(Some(batch.id.clone()));
            }
            if let Some(Standing::Reused | Standing::Refused) = answer.as_ref().map(Answer::standing) {
                self.journal.batch_done(intent)?;
                return Ok(None);
            }
            if self.field().phase() == Phase::Over {
                return Ok(None);
            }
            let pause = *[50, 100, 200].choose(&mut self.rng).expect("there are three");
            self.pause(pause..pause + 50).await;
            answer = self.caller.submit_batch(intent, Purpose::Retry, PATIENCE).await;
        }
    }

    async fn watch_batch(&mut self, id: &str) {
        for _ in 0..POLLS {
            let view = self.caller.read_batch(id).await.and_then(|answer| answer.batch);
            if view.as_ref().is_some_and(BatchView::is_terminal) || self.field().phase() != Phase::Storm {
                return;
            }
            self.pause(30..200).await;
        }
    }

    /// Runs some batch again that was accepted at any time.
    pub(super) async fn any_batch_again(&mut self) {
        let mut known = self.field().batches.lock().expect("no holder panics").clone();
        known.retain(|(project, _)| *project == self.caller.project.name);
        let Some((_, batch)) = known.choose(&mut self.rng) else { return };
        self.run_batch_again(batch).await;
    }

    /// Runs a batch again while some of its items failed, and looks after it.
    async fn run_batch_again(&mut self, batch: &str) {
        for _ in 0..LOOKS {
            if self.field().phase() != Phase::Storm {
                return;
            }
            let seen = self.caller.read_batch(batch).await.and_then(|answer| answer.batch);
            let Some(seen) = seen else {
                self.pause(100..500).await;
                continue;
            };
            if seen.failed == 0 {
                return;
            }
            let count = if self.rng.random_ratio(1, TWINS) { 2 } else { 1 };
            let answers = join_all((0..count).map(|_| self.caller.retry_batch(batch))).await;
            // What failed for good is refused, and so is a wish for what runs already.
            if !answers.iter().flatten().any(Answer::is_success) {
                return;
            }
            self.watch_batch(batch).await;
        }
    }
}
