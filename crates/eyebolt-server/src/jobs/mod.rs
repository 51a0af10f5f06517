//! The room "jobs": a request becomes a durable job, a worker runs it, and whoever asked waits or comes back.
//!
//! The work belongs to the job, never to a connection: a client that goes away stops nothing that it can still ask for.

mod abandoned;
mod arrivals;
mod attempt;
mod control;
mod dedup;
pub(crate) mod document;
mod end;
mod item_keys;
mod items;
mod known;
mod new_job;
pub(crate) mod pipeline;
mod place;
mod retention;
mod retry_policy;
mod reuse;
mod settings;
mod submit;
mod waiting;
mod worker;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use eyebolt_store::{Blobs, Lease, Replays, Signal, Store};
use eyebolt_types::{Clock, ErrorCode, id::JobId};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::settings::{DedupSettings, IdempotencySettings, JobSettings};
use self::{arrivals::Arrivals, waiting::Waiters};
pub(crate) use self::{
    control::{Page, Read, missing},
    items::Turn,
    known::{expired, reused},
    place::Urgency,
    submit::{Ask, Replay, Submitted},
    waiting::{Ended, Waiter},
};
use crate::{
    Analyzer, ApiError, Clients, Quotas, Webhooks,
    admission::{Admission, AdmissionSettings},
    metrics::Metrics,
};

/// The jobs of this process. Cheap to clone; every clone is the same room.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Room>);

/// What a room needs.
#[derive(Debug)]
pub struct Tools {
    /// The rows.
    pub store: Store,
    /// The files.
    pub blobs: Blobs,
    /// What was agreed with projects.
    pub quotas: Quotas,
    /// How clients behave.
    pub clients: Clients,
    /// What answers.
    pub analyzer: Analyzer,
    /// Who is told.
    pub webhooks: Webhooks,
    /// What tells the time.
    pub clock: Clock,
}

/// How it works.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Section `jobs`.
    pub jobs: JobSettings,
    /// Section `idempotency`.
    pub idempotency: IdempotencySettings,
    /// Section `dedup`.
    pub dedup: DedupSettings,
    /// Section `admission`.
    pub admission: AdmissionSettings,
}

#[derive(Debug)]
struct Room {
    tools: Tools,
    rules: Rules,
    /// A name of this run of the process: leases are under it.
    owner: String,
    /// What begins every owner's name of this data folder.
    instance: String,
    /// Who runs, and who waits.
    admission: Admission,
    /// Requests with a key that wait for a worker.
    arrivals: Arrivals,
    running: Mutex<HashMap<JobId, Running>>,
    waiters: Waiters,
    /// There may be pending jobs that this process does not know of.
    wake: Notify,
    /// An attempt came to its end.
    freed: Notify,
    /// A job of a batch ended here.
    item_ended: Notify,
    replays: Mutex<HashMap<Replays, u64>>,
    metrics: Metrics,
    /// No new job is begun.
    stopping: CancellationToken,
    /// Jobs that run are given back.
    halting: CancellationToken,
    /// Every task ends where it stands.
    abandoned: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Running {
    token: i64,
    stop: watch::Sender<Option<Stop>>,
}

/// Why an attempt ends before its work does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Somebody wants it to be canceled.
    Cancel,
    /// Another worker has the job.
    Lost,
}

impl Jobs {
    /// A room. `instance` names the data folder, and is the same after a restart. `threads`: how many jobs the engine
    /// computes at once.
    pub fn new(tools: Tools, rules: Rules, (instance, threads): (&str, usize)) -> Self {
        let slots = if rules.jobs.slots == 0 { threads * 2 + 2 } else { rules.jobs.slots };
        // One more than the engine does at once keeps it busy; with more of them, whoever is waited for would stand behind them
        // for a thread.
        let batches = (threads + 1).min(slots - slots / 4).max(1);
        // What computes for long leaves a thread, where there are two.
        let long_batches = threads.saturating_sub(1).clamp(1, batches);
        let admission = Admission::new(&rules.admission, (slots, batches, long_batches), rules.jobs.deadline);
        Self(Arc::new(Room {
            tools,
            rules,
            owner: format!("{instance}/{}", JobId::new()),
            instance: format!("{instance}/"),
            admission,
            arrivals: Arrivals::default(),
            running: Mutex::default(),
            waiters: Waiters::default(),
            wake: Notify::new(),
            freed: Notify::new(),
            item_ended: Notify::new(),
            replays: Mutex::default(),
            metrics: Metrics::default(),
            stopping: CancellationToken::new(),
            halting: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// What was agreed with projects.
    pub(crate) fn quotas(&self) -> &Quotas {
        &self.0.tools.quotas
    }

    /// How clients behave.
    pub(crate) fn clients(&self) -> &Clients {
        &self.0.tools.clients
    }

    /// What was counted since the start.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Whether a request that starts work must have a key.
    pub fn key_required(&self) -> bool {
        self.0.rules.idempotency.required
    }

    /// How long a caller waits who says nothing, and how long anybody may.
    pub(crate) fn patience(&self) -> (std::time::Duration, std::time::Duration) {
        (self.0.rules.jobs.wait, self.0.rules.jobs.max_wait)
    }

    /// Whether a job could be accepted now: something is written, and its commit waited for.
    ///
    /// # Errors
    /// Where the database or its disk can't.
    pub(crate) async fn ready(&self) -> Result<(), ApiError> {
        Ok(self.0.tools.store.note_alive(self.0.now()).await?)
    }

    /// Who runs, and who waits.
    pub(crate) fn admission(&self) -> &Admission {
        &self.0.admission
    }

    /// Begins no more jobs; those that run go on.
    pub fn stop(&self) {
        self.0.begin_no_more();
    }

    /// Runs a task for as long as the room does: one that is dropped where it stands when the room is.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Resolves once [`Jobs::stop`] was called.
    pub(crate) async fn stopped(&self) {
        self.0.stopping.cancelled().await;
    }

    /// Resolves once no job runs here.
    pub(crate) async fn idle(&self) {
        self.0.until(HashMap::is_empty).await;
    }

    /// Does `work` to its end, although the caller may go away meanwhile: a job that is leased must be begun.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = self.0.tasks.spawn(work).await;
        done.unwrap_or_else(|_| Err(ApiError::new(ErrorCode::Internal, "The server made a mistake.")))
    }

    /// Drops everything where it stands, as a crash does: leases stay.
    pub fn abandon(&self) {
        self.0.begin_no_more();
        self.0.abandoned.cancel();
        self.0.waiters.dismiss();
    }

    /// Gives back the jobs that still run, and ends every task of the room. They are claimed again by whoever is there.
    pub async fn halt(&self) {
        self.0.begin_no_more();
        self.0.halting.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        // After the jobs were given back: whoever waits is shown where they stand.
        self.0.waiters.dismiss();
        self.0.flush_replays().await;
        self.0.tools.clients.flush().await;
    }
}

impl Room {
    fn begin_no_more(&self) {
        self.stopping.cancel();
        // After the flag: whoever is told sees it.
        self.admission.close();
    }

    /// Resolves once this holds of the jobs that run here.
    async fn until(&self, holds: impl Fn(&HashMap<JobId, Running>) -> bool) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before the look: an attempt that ends between both is not missed.
            freed.as_mut().enable();
            if holds(&self.running()) {
                return;
            }
            freed.await;
        }
    }

    /// Runs a task of the room.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let abandoned = self.abandoned.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = abandoned.cancelled() => {}
            }
        });
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, as exact as rows keep it.
    fn now(&self) -> Timestamp {
        let now = self.tools.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn lease(&self) -> Lease {
        let until = self.now() + signed(self.rules.jobs.lease);
        Lease { owner: self.owner.clone(), until }
    }

    /// Wakes the workers, here and elsewhere: there is a pending job.
    fn wake(&self) {
        self.wake_here();
        self.tools.store.tell(Signal::Pending);
    }

    fn wake_here(&self) {
        self.wake.notify_one();
    }

    /// Counts an answer that is given again.
    fn count_replay(&self, replay: Replays) {
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        *replays.entry(replay).or_default() += 1;
    }

    /// Writes the counts down. What a crash loses of them carries no price.
    async fn flush_replays(&self) {
        let counted: Vec<_> = {
            let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
            replays.drain().collect()
        };
        if counted.is_empty() {
            return;
        }
        let written = self.tools.store.count_replays(counted.clone(), self.now()).await;
        if written.is_err() {
            let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
            for (whose, count) in counted {
                *replays.entry(whose).or_default() += count;
            }
        }
    }
}

fn signed(duration: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
