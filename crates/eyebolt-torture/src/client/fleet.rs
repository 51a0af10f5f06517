//! All clients of a run, and auditors who ask old keys again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::{Caller, Client, Field, Manner, Phase};
use crate::history::{Fault, Purpose, What};

/// All clients of a run.
pub(crate) struct Fleet {
    field: Arc<Field>,
    phase: watch::Sender<Phase>,
    folder: PathBuf,
    seed: u64,
    clients: Vec<AbortOnDropHandle<anyhow::Result<()>>>,
    auditors: JoinSet<()>,
    /// Clients started and auditors sent: each has a number.
    started: u64,
}

/// One client in so many belongs to the second project.
const NEIGHBOURS: usize = 5;
/// A client that crashed draws anew.
const STRIDE: u64 = 1_000_003;

impl Fleet {
    /// Starts `count` clients, whose journals are in `folder`.
    pub(crate) fn start(
        (field, phase): (Field, watch::Sender<Phase>),
        folder: PathBuf,
        (count, seed): (usize, u64),
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let (clients, auditors) = (Vec::new(), JoinSet::new());
        let mut fleet = Self { field: Arc::new(field), phase, folder, seed, clients, auditors, started: 0 };
        for index in 0..count {
            let client = fleet.client(index)?;
            fleet.clients.push(client);
        }
        Ok(fleet)
    }

    pub(crate) fn field(&self) -> &Field {
        &self.field
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Ends a client in the middle of whatever it does, and starts it from its journal.
    pub(crate) async fn crash(&mut self, index: usize) -> anyhow::Result<()> {
        self.clients[index].abort();
        // The journal must not have two writers.
        if let Ok(ended) = (&mut self.clients[index]).await {
            ended?;
        }
        self.field.history.write("nemesis", What::Nemesis(Fault::ClientCrash { client: index }));
        self.clients[index] = self.client(index)?;
        Ok(())
    }

    /// Asks some finished keys again, beside everything else.
    pub(crate) fn ask_again(&mut self, count: usize) {
        let seed = self.next_seed();
        for project in &self.field.projects {
            let mut rng = StdRng::seed_from_u64(seed);
            let finished = self.field.finished(Some(&project.name));
            let keys: Vec<_> = finished.sample(&mut rng, count).map(|one| one.intent.clone()).collect();
            let caller = Caller {
                process: format!("auditor-{}", self.started),
                project: project.clone(),
                field: Arc::clone(&self.field),
            };
            self.auditors.spawn(async move {
                for intent in keys {
                    caller.submit(&intent, Purpose::Replay, Manner::Wait(1)).await;
                }
            });
        }
    }

    /// Lets clients end what is open, at most for `limit`.
    pub(crate) async fn drain(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.phase.send_replace(Phase::Drain);
        let clients = std::mem::take(&mut self.clients);
        let all = async {
            for client in clients {
                client.await??;
            }
            anyhow::Ok(())
        };
        // Who has not ended by then leaves intents without an answer: the checker's business.
        let ended = tokio::time::timeout(limit, all).await;
        self.auditors_end(limit).await;
        ended.unwrap_or(Ok(()))
    }

    /// Waits for auditors, then ends everything.
    pub(crate) async fn auditors_end(&mut self, limit: Duration) {
        let all = async { while self.auditors.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limit, all).await;
    }

    fn client(&mut self, index: usize) -> anyhow::Result<AbortOnDropHandle<anyhow::Result<()>>> {
        let seed = self.next_seed();
        let project = usize::from(index % NEIGHBOURS == NEIGHBOURS - 1);
        let process = format!("client-{index}");
        let journal = self.folder.join(format!("{process}.jsonl"));
        let caller =
            Caller { process, project: self.field.projects[project].clone(), field: Arc::clone(&self.field) };
        Ok(AbortOnDropHandle::new(tokio::spawn(Client::open(caller, &journal, seed)?.run())))
    }

    fn next_seed(&mut self) -> u64 {
        self.started += 1;
        self.seed.wrapping_add(self.started.wrapping_mul(STRIDE))
    }
}
