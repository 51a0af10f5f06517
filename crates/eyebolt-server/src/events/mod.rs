//! The room "events": facts are written down with what made them, and told to whoever listens.
//!
//! An event's id is made of its subject, type and version, so that a fact which is written again after a crash is the same
//! event. Webhooks are told by `webhooks`; here are the streams of server-sent events.

mod settings;
mod stream;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use eyebolt_store::{NewEvent, Principal, Store, StoreError};
use eyebolt_types::{
    Clock, Event, EventData, EventType, Mode,
    id::{BatchId, EventId, JobId, KeyId},
};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use self::settings::EventSettings;
pub(crate) use self::stream::Frames;

/// Between two sweeps of events and deliveries that are no longer kept.
const SWEEP: Duration = Duration::from_mins(10);

/// A host that no request named for so long makes room for another, unless events are kept for longer. No job that names it can
/// be run again by then.
const HOSTS_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Rows swept at once.
const SWEEP_ROWS: u32 = 500;

/// Why nobody is told.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum EventError {
    #[error("{found} streams are open{whose}, and {limit} is the limit")]
    TooManyStreams { name: &'static str, whose: &'static str, limit: usize, found: usize },
    #[error("the events up to {removed} are no longer kept, and {after} is before that")]
    Removed { after: u64, removed: u64 },
    #[error("names no event of this stream")]
    Unknown,
    #[error("there is no such job")]
    NoJob,
    #[error("there is no such batch")]
    NoBatch,
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
}

/// The events of this process. Cheap to clone; every clone is the same room.
#[derive(Debug, Clone)]
pub struct Events(Arc<Room>);

#[derive(Debug)]
struct Room {
    store: Store,
    clock: Clock,
    settings: EventSettings,
    /// Streams that are open, by the key that asked.
    open: Mutex<HashMap<KeyId, usize>>,
    stopping: CancellationToken,
}

/// A place among the streams; given back when dropped.
#[derive(Debug)]
struct Slot(Arc<Room>, KeyId);

impl Events {
    /// A room.
    pub fn new(store: Store, settings: EventSettings, clock: Clock) -> Self {
        let (open, stopping) = (Mutex::default(), CancellationToken::new());
        Self(Arc::new(Room { store, clock, settings, open, stopping }))
    }

    /// Begins to remove what is no longer kept.
    pub fn start(&self) {
        let room = Arc::clone(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sleep(SWEEP) => {}
                    () = room.stopping.cancelled() => return,
                }
                if let Err(error) = room.sweep().await {
                    tracing::warn!(%error, "the sweep of events failed");
                }
            }
        });
    }

    /// Removes what is no longer kept, and gives up what nobody sends any more, now.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.0.sweep().await
    }

    /// What happened before is no longer kept, or about to be removed.
    pub(crate) fn kept_since(&self) -> Timestamp {
        self.0.kept_since()
    }

    /// Ends every stream: clients go on at another server, or at the next start.
    pub fn stop(&self) {
        self.0.stopping.cancel();
    }

    /// The events of the caller's project and mode: after this position, or from now on.
    pub(crate) async fn of_project(
        &self,
        caller: &Principal,
        after: Option<u64>,
    ) -> Result<Frames, EventError> {
        let room = &self.0;
        let slot = room.slot(caller.key)?;
        let whose = (caller.project, caller.mode);
        let after = match after {
            None => room.store.number_events(whose).await?.last,
            Some(after) => {
                let horizon = room.store.event_horizon(whose).await?;
                if after > horizon.last {
                    return Err(EventError::Unknown);
                }
                if after < horizon.removed {
                    return Err(EventError::Removed { after, removed: horizon.removed });
                }
                after
            }
        };
        Ok(stream::of_project(slot, whose, after))
    }

    /// The events of a batch and its items after this position, until it has ended; `None` where it has, and all was told.
    pub(crate) async fn of_batch(
        &self,
        caller: &Principal,
        batch: BatchId,
        after: Option<u64>,
    ) -> Result<Option<Frames>, EventError> {
        let room = &self.0;
        let whose = (caller.project, caller.mode);
        let (stored, _) = room.store.batch(whose, batch).await?.ok_or(EventError::NoBatch)?;
        if let Some(after) = after {
            let horizon = room.store.event_horizon(whose).await?;
            if after > horizon.last {
                return Err(EventError::Unknown);
            }
            if after < horizon.removed {
                return Err(EventError::Removed { after, removed: horizon.removed });
            }
        }
        let (named, after) = ((caller.project, caller.mode, batch), after.unwrap_or(0));
        if stored.status.is_terminal() && room.store.events_of_batch(named, after, 1).await?.is_empty() {
            return Ok(None);
        }
        let slot = room.slot(caller.key)?;
        Ok(Some(stream::of_batch(slot, named, after)))
    }

    /// The events of a job after this version, until it has ended; `None` where it has, and all was told.
    pub(crate) async fn of_job(
        &self,
        caller: &Principal,
        job: JobId,
        after: u64,
    ) -> Result<Option<Frames>, EventError> {
        let room = &self.0;
        let stored = room.store.job((caller.project, caller.mode), job).await?.ok_or(EventError::NoJob)?;
        if after > u64::from(stored.round) {
            return Err(EventError::Unknown);
        }
        if stored.status.is_terminal() && room.store.events_of(job, after).await?.is_empty() {
            return Ok(None);
        }
        let slot = room.slot(caller.key)?;
        Ok(Some(stream::of_job(slot, (caller.project, caller.mode, job), after)))
    }
}

impl Room {
    fn slot(self: &Arc<Self>, key: KeyId) -> Result<Slot, EventError> {
        let EventSettings { max_streams, max_streams_per_key, .. } = self.settings;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (open.values().sum::<usize>(), open.get(&key).copied().unwrap_or_default());
        if own >= max_streams_per_key {
            let (name, whose) = ("max_streams_per_key", " with this key");
            return Err(EventError::TooManyStreams { name, whose, limit: max_streams_per_key, found: own });
        }
        if all >= max_streams {
            let (name, whose) = ("max_streams", "");
            return Err(EventError::TooManyStreams { name, whose, limit: max_streams, found: all });
        }
        *open.entry(key).or_default() += 1;
        Ok(Slot(Arc::clone(self), key))
    }

    fn kept_since(&self) -> Timestamp {
        let retention = SignedDuration::try_from(self.settings.retention).unwrap_or(SignedDuration::MAX);
        self.clock.now() - retention
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let before = self.kept_since();
        for project in self.store.projects().await? {
            for mode in [Mode::Live, Mode::Test] {
                while self.store.sweep_events((project.id, mode), before, SWEEP_ROWS).await?
                    >= u64::from(SWEEP_ROWS)
                {}
            }
        }
        self.store.give_up_deliveries(self.clock.now()).await?;
        while self.store.sweep_deliveries(before, SWEEP_ROWS).await? >= u64::from(SWEEP_ROWS) {}
        let (now, unnamed) = (self.clock.now(), before.min(self.clock.now() - HOSTS_KEPT));
        while self.store.sweep_hosts(unnamed, SWEEP_ROWS, now).await? >= u64::from(SWEEP_ROWS) {}
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

/// An event of a subject, to be written down: its id, and its bytes.
pub(crate) fn made(
    (kind, subject, version): (EventType, &str, u32),
    data: EventData,
    now: Timestamp,
) -> NewEvent {
    let id = id_of(kind, subject, version);
    let event = Event { id, kind, timestamp: now, data };
    let data = serde_json::to_string(&event).expect("an event is plain data");
    NewEvent { id, kind, version, data, told_at: None, batch: None }
}

fn id_of(kind: EventType, subject: &str, version: u32) -> EventId {
    let mut context = Context::new(&SHA256);
    for part in ["eyebolt event 1", subject, kind.name(), &version.to_string()] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    EventId::of(digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_that_of_its_fact_and_of_no_other() {
        let id = id_of(EventType::JobFailed, "job_1", 1);
        assert_eq!(id, id_of(EventType::JobFailed, "job_1", 1));
        assert_eq!(id.to_string().parse(), Ok(id));
        for other in [
            id_of(EventType::JobFailed, "job_1", 2),
            id_of(EventType::JobFailed, "job_2", 1),
            id_of(EventType::JobSucceeded, "job_1", 1),
            id_of(EventType::JobFailed, "job_", 11),
        ] {
            assert_ne!(id, other);
        }
    }
}
