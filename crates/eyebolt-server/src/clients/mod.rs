//! The room "clients": how the programs behave that use a key. Counts for the operator, by key and hour; and who runs away
//! ([`eyebolt_admission::Runaway`]), which has to wait before anything of a body is read.

mod settings;
mod sighting;
mod tally;
mod view;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eyebolt_admission::{Detained, Ending, Episode, Noticed, Runaway, RunawayCause};
use eyebolt_store::{ClientCounts, ClientNotes, ClientRunaway, Principal, Store};
use eyebolt_types::{
    Clock, ErrorCode,
    id::{ProjectId, RunawayId},
};
use http::HeaderMap;
use jiff::Timestamp;

pub(crate) use self::sighting::{Sighting, caller};
use self::tally::Tally;
pub use self::{
    settings::{RunawayMode, RunawaySettings},
    view::{AgentView, ClientList, ClientRatios, ClientView, RunawayView},
};

/// Between two times that counts are written down.
pub(crate) const FLUSH: Duration = Duration::from_secs(10);

/// The clients of this server. Cheap to clone; every clone is the same room.
#[derive(Clone)]
pub struct Clients(Arc<Inner>);

struct Inner {
    settings: RunawaySettings,
    store: Store,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    runaway: Runaway,
    tally: Tally,
    /// Who runs away, by caller.
    running: HashMap<u64, Running>,
    /// Who did, and is not written down yet.
    over: Vec<ClientRunaway>,
    begun: [u64; RunawayCause::ALL.len()],
    detained: u64,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    id: RunawayId,
    whose: (eyebolt_types::id::KeyId, ProjectId),
    began_at: Timestamp,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Of a problem.
    pub(crate) code: Option<ErrorCode>,
    /// `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the image was seen before.
    pub(crate) duplicate: bool,
}

/// A client that has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunsAway {
    /// Why, and for how long.
    pub(crate) detained: Detained,
    /// The setting that it crossed, and its value.
    pub(crate) limit: (&'static str, u32),
}

/// How many run away, for the metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunawayCounts {
    /// Now.
    pub(crate) now: usize,
    /// Since the start, by cause.
    pub(crate) begun: [(RunawayCause, u64); RunawayCause::ALL.len()],
    /// Requests that had to wait, or would have had to.
    pub(crate) detained: u64,
}

impl Clients {
    /// Nothing is known of anybody.
    pub fn new(settings: RunawaySettings, store: Store, clock: Clock) -> Self {
        let state = Mutex::new(State {
            runaway: Runaway::new(settings.limits()),
            tally: Tally::default(),
            running: HashMap::new(),
            over: Vec::new(),
            begun: [0; RunawayCause::ALL.len()],
            detained: 0,
        });
        Self(Arc::new(Inner { settings, store, clock, state }))
    }

    /// A request that may start work has come.
    pub(crate) fn sees(&self, headers: &HeaderMap, address: Option<IpAddr>) -> Sighting {
        Sighting::new(headers, address, self.now())
    }

    /// Refuses a request of a client that runs away, before anything of its body is read.
    ///
    /// # Errors
    /// Where the client has to wait.
    pub(crate) fn knock(&self, caller: &Principal, sighting: &Sighting) -> Result<(), RunsAway> {
        if self.0.settings.mode == RunawayMode::Off {
            return Ok(());
        }
        let mut state = self.state();
        let Some(detained) = state.runaway.detains(&sighting.sight(caller.key)) else { return Ok(()) };
        state.detained += 1;
        drop(state);
        if self.0.settings.mode == RunawayMode::Observe {
            return Ok(());
        }
        sighting.detain();
        Err(RunsAway { detained, limit: self.0.settings.limit(detained.cause) })
    }

    /// Counts a request that was answered. `sighting`: of one that may start work.
    pub(crate) fn note(&self, caller: &Principal, agent: &[u8], (told, sighting): (Told, Option<&Sighting>)) {
        let at = self.0.clock.now();
        let mut state = self.state();
        let noticed = sighting.map(|sighting| self.notice(&mut state, caller, (told, sighting, at)));
        let noticed = noticed.unwrap_or_default();
        let retry = sighting.is_some_and(Sighting::is_known);
        state.tally.add((caller.key, at), agent, |counts| {
            count(counts, told);
            counts.submissions += u64::from(sighting.is_some());
            counts.retries += u64::from(retry);
            counts.final_repeats += u64::from(noticed.final_again);
            counts.early_returns += u64::from(noticed.early);
        });
    }

    fn notice(
        &self,
        state: &mut State,
        caller: &Principal,
        (told, sighting, at): (Told, &Sighting, Timestamp),
    ) -> Noticed {
        if self.0.settings.mode == RunawayMode::Off || sighting.is_detained() {
            return Noticed::default();
        }
        let sight = sighting.sight(caller.key);
        let noticed = state.runaway.ended(&sight, ending(told, sighting), since_epoch(at));
        if let Some(cause) = noticed.began {
            let whose = (caller.key, caller.project);
            state.running.insert(sight.caller, Running { id: RunawayId::new(), whose, began_at: at });
            state.begun[cause as usize] += 1;
            let (limit, value) = self.0.settings.limit(cause);
            tracing::warn!(
                event = "client.runaway", key = %caller.key, project = %caller.project, cause = cause.name(), limit,
                value, mode = ?self.0.settings.mode, "a client runs away"
            );
        }
        noticed
    }

    /// Writes down what was counted, and who runs away. What a crash loses of it carries no price.
    pub(crate) async fn flush(&self) {
        let now = self.0.clock.now();
        let notes = self.state().take(now);
        if let Err(error) = self.0.store.note_clients(notes.clone(), now).await {
            tracing::warn!(%error, "what clients do could not be written down");
            let mut state = self.state();
            state.tally.put_back(notes.tallies);
            state.over.extend(notes.runaways.into_iter().filter(|one| one.ended_at.is_some()));
        }
    }

    /// For the metrics.
    pub(crate) fn counts(&self) -> RunawayCounts {
        let state = self.state();
        let begun = RunawayCause::ALL.map(|cause| (cause, state.begun[cause as usize]));
        RunawayCounts { now: state.running.len(), begun, detained: state.detained }
    }

    fn now(&self) -> Duration {
        since_epoch(self.0.clock.now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, now: Timestamp) -> ClientNotes {
        for episode in self.runaway.tick(since_epoch(now)) {
            let Some(running) = self.running.remove(&episode.caller) else { continue };
            let (key, project) = running.whose;
            tracing::info!(
                event = "client.runaway_ended", %key, %project, cause = episode.cause.name(),
                strikes = episode.strikes, refused = episode.refused, "a client runs away no more"
            );
            self.over.push(row(running, &episode, Some(now)));
        }
        let mut runaways = std::mem::take(&mut self.over);
        for episode in self.runaway.episodes() {
            let running = self.running.get(&episode.caller);
            runaways.extend(running.map(|running| row(*running, &episode, None)));
        }
        ClientNotes { tallies: self.tally.take(), runaways }
    }
}

fn row(running: Running, episode: &Episode, ended_at: Option<Timestamp>) -> ClientRunaway {
    ClientRunaway {
        id: running.id,
        key: running.whose.0,
        cause: episode.cause.name().to_owned(),
        began_at: running.began_at,
        ended_at,
        strikes: episode.strikes,
        refused: episode.refused,
    }
}

/// What an answer says of the client. `409` with a known key is a retry of something under way; a wrong key and a wrong address
/// never come here.
fn ending(told: Told, sighting: &Sighting) -> Ending {
    let code = told.code.map(ErrorCode::row);
    match told.status {
        429 | 503 if told.retry_after.is_some() => Ending::Wait(told.retry_after.unwrap_or_default()),
        400..500 if code.is_some_and(|row| !row.retryable) => Ending::FinalError,
        _ if sighting.is_known() => Ending::Replayed,
        200 => Ending::Answered,
        _ => Ending::Other,
    }
}

fn count(counts: &mut ClientCounts, told: Told) {
    counts.requests += 1;
    counts.duplicates += u64::from(told.duplicate);
    match told.status {
        429 | 503 => counts.refusals += 1,
        400..500 => counts.client_errors += 1,
        500.. => counts.server_errors += 1,
        _ => {}
    }
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::try_from(at.as_duration()).unwrap_or_default()
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}
