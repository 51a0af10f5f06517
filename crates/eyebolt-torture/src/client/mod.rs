//! Clients: each draws rounds from a mix, and brings every intent to its final answer.

mod batches;
mod caller;
mod fleet;
mod pipelines;
mod rounds;

use std::{path::Path, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use uuid::Builder;

pub(crate) use caller::{Caller, Field, Finished, Manner, Phase, Project};
pub(crate) use fleet::Fleet;

use crate::{
    history::Purpose,
    journal::{Intent, Journal, Open},
    observed::{Answer, Standing},
    payload::Payload,
};

/// One client.
pub(crate) struct Client {
    caller: Caller,
    rng: StdRng,
    journal: Journal,
    /// Left by a crash.
    open: Open,
}

impl Client {
    pub(crate) fn open(caller: Caller, journal: &Path, seed: u64) -> anyhow::Result<Self> {
        let (journal, open) = Journal::open(journal)?;
        Ok(Self { caller, rng: StdRng::seed_from_u64(seed), journal, open })
    }

    /// Works until the storm is over, then ends what is open.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let open = std::mem::take(&mut self.open);
        for batch in open.batches {
            self.resolve_batch(&batch, None).await?;
        }
        for intent in open.intents {
            self.resolve(&intent).await?;
        }
        while self.field().phase() == Phase::Storm {
            self.round().await?;
        }
        Ok(())
    }

    fn field(&self) -> &Arc<Field> {
        &self.caller.field
    }

    /// A new intent under a new key, on disk.
    fn intend(&mut self) -> anyhow::Result<Intent> {
        let key = self.key();
        self.intend_with(key)
    }

    fn intend_with(&mut self, key: String) -> anyhow::Result<Intent> {
        let intent = Intent { key, payload: Payload::draw(&mut self.rng) };
        self.journal.intend(&intent)?;
        Ok(intent)
    }

    fn key(&mut self) -> String {
        Builder::from_random_bytes(self.rng.random()).into_uuid().to_string()
    }

    /// Takes an answer; where it is not final, asks again until one is.
    async fn conclude(&mut self, intent: &Intent, answer: Option<Answer>) -> anyhow::Result<()> {
        match answer.as_ref().map(Answer::standing) {
            Some(Standing::Final | Standing::Reused | Standing::Refused) => self.finish(intent, answer),
            _ => self.resolve(intent).await,
        }
    }

    async fn resolve(&mut self, intent: &Intent) -> anyhow::Result<()> {
        while self.field().phase() != Phase::Over {
            let wait = *[1, 2, 10].choose(&mut self.rng).expect("there are three");
            let answer = self.caller.submit(intent, Purpose::Retry, Manner::Wait(wait)).await;
            match answer.as_ref().map(Answer::standing) {
                Some(Standing::Final | Standing::Reused | Standing::Refused) => {
                    return self.finish(intent, answer);
                }
                Some(Standing::Interim | Standing::Again) | None => self.pause(50..250).await,
            }
        }
        Ok(())
    }

    fn finish(&mut self, intent: &Intent, answer: Option<Answer>) -> anyhow::Result<()> {
        self.journal.done(intent)?;
        let Some(answer) = answer.filter(|answer| answer.standing() == Standing::Final) else {
            return Ok(());
        };
        self.field().expects(&self.caller.project.name, intent.payload.hook.as_deref().zip(answer.job_id()));
        let finished = Finished {
            project: self.caller.project.name.clone(),
            intent: intent.clone(),
            job: answer.job_id().map(str::to_owned),
        };
        self.field().finished.lock().expect("no holder panics").push(Arc::new(finished));
        Ok(())
    }

    /// Like people between two requests, and like clients between two tries.
    async fn pause(&mut self, ms: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(ms))).await;
    }
}
