//! What batches need done: items become jobs, a few at a time; batches end, each once. Everything is read from rows: after a crash,
//! and with several servers, whoever looks next goes on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use eyebolt_store::{BatchEnding, EarlyEnd, NewEvent, OpenBatch, Principal, StoreError};
use eyebolt_types::{
    BatchEvent, BatchLinks, BatchStatus, EventData, EventType,
    id::{BatchId, KeyId, ProjectId},
};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Asked, Batches, Named, Room, signed};
use crate::{
    ApiError, events,
    jobs::{Turn, document},
    webhooks,
};

/// How often batches are looked at of which nobody here was told.
const POLL: Duration = Duration::from_millis(500);

/// What is told within such a time is looked at together.
const TOGETHER: Duration = Duration::from_millis(10);

/// Between two sweeps of what is old.
const SWEEP: Duration =
    if cfg!(feature = "torture") { Duration::from_secs(1) } else { Duration::from_mins(1) };

/// Batches removed at once.
const SWEEP_ROWS: u32 = 5;

/// So many times as long as a piece of a batch took to remove, nothing more is removed.
pub(super) const REST: u32 = 2;

/// A batch that is being written for so long was left by a server that is gone.
const ABANDONED: Duration = Duration::from_hours(24);

/// Items that are fed at once.
const AT_ONCE: usize = 8;

/// A limit that has no room is asked again after so long at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Projects whose limits by time had no room, and until when.
type Paused = HashMap<ProjectId, Instant>;

impl Batches {
    /// Removes what an earlier run of this process left half written, and begins to work.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn start(&self) -> Result<(), StoreError> {
        let room = &self.0;
        // Nobody else writes yet.
        room.remove_staged(room.instance.clone(), 0).await?;
        room.tools.jobs.spawn(Arc::clone(room).work());
        room.tools.jobs.spawn(Arc::clone(room).sweep());
        Ok(())
    }
}

impl Room {
    async fn work(self: Arc<Self>) {
        let (mut paused, mut next) = (Paused::new(), Instant::now());
        loop {
            tokio::select! {
                () = self.wake.notified() => sleep(TOGETHER).await,
                () = self.tools.jobs.item_ended() => sleep(TOGETHER).await,
                () = sleep_until(next) => {}
                () = self.tools.jobs.stopped() => return,
            }
            next = Instant::now() + POLL;
            if let Err(error) = self.round(&mut paused).await {
                tracing::warn!(%error, "batches could not be looked after");
                sleep(POLL).await;
            }
        }
    }

    /// Does once what is due.
    async fn round(&self, paused: &mut Paused) -> Result<(), ApiError> {
        let store = &self.tools.store;
        let due = store.due_batches(self.now()).await?;
        let early = due.overdue.iter().map(|id| (*id, EarlyEnd::Expired));
        let early = early.chain(due.hopeless.iter().map(|id| (*id, EarlyEnd::Failed)));
        let mut again = false;
        for (id, why) in early {
            again |= store.end_batch_early(id, why, self.now()).await?;
        }
        for (job, project, mode) in due.unwanted {
            // One that has just ended needs no canceling.
            if let Err(error) = self.tools.jobs.want_canceled((project, mode, job)).await {
                tracing::debug!(%job, %error, "a job of a batch that ends was not canceled");
            }
        }
        for (id, project, mode) in due.done {
            // One that can't be read holds up no other.
            if let Err(error) = self.close((project, mode, id)).await {
                tracing::warn!(batch = %id, %error, "a batch could not be ended");
            }
        }
        self.feed(paused).await?;
        if again {
            // What was decided now has further consequences.
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Makes jobs of items that wait, so that each project has a few in line: the first ones of its most urgent batch.
    async fn feed(&self, paused: &mut Paused) -> Result<(), ApiError> {
        paused.retain(|_, until| *until > Instant::now());
        let (mut projects, mut order) = (HashMap::<ProjectId, Vec<OpenBatch>>::new(), Vec::new());
        for batch in self.tools.store.open_batches().await? {
            let batches = projects.entry(batch.project).or_default();
            if batches.is_empty() {
                order.push(batch.project);
            }
            batches.push(batch);
        }
        let (mut callers, mut fed) = (HashMap::new(), false);
        for project in order {
            if paused.contains_key(&project) {
                continue;
            }
            let batches = projects.remove(&project).unwrap_or_default();
            match self.feed_project(&batches, &mut callers).await {
                Ok((found, pause)) => {
                    fed |= found;
                    paused.extend(pause.map(|until| (project, until)));
                }
                // Others go on.
                Err(error) => tracing::warn!(%project, %error, "items of batches wait on"),
            }
        }
        if fed {
            self.tools.jobs.wake();
        }
        Ok(())
    }

    /// Whether anything was fed, and until when there is no room under a limit.
    async fn feed_project(
        &self,
        batches: &[OpenBatch],
        callers: &mut HashMap<KeyId, Option<Principal>>,
    ) -> Result<(bool, Option<Instant>), ApiError> {
        let (store, jobs) = (&self.tools.store, &self.tools.jobs);
        let Some(first) = batches.first() else { return Ok((false, None)) };
        let line = store.batch_jobs_in_line(first.project).await?;
        let (mut room, mut fed) = (jobs.batch_window().saturating_sub(line) as usize, false);
        // Keys whose limits, or their project's, have no room, and for how long.
        let mut full = HashMap::<KeyId, Duration>::new();
        for batch in batches {
            if room == 0 {
                break;
            }
            let Some(caller) = self.caller(batch.key, callers).await? else { continue };
            if full.contains_key(&batch.key) {
                continue;
            }
            let items = store.waiting_items(batch.id, room as u32).await?;
            let mut items = items.into_iter().peekable();
            while items.peek().is_some() {
                let turns = items.by_ref().take(AT_ONCE).map(|item| jobs.feed((batch, &caller), item));
                for turn in join_all(turns).await {
                    match turn {
                        // Only what stands in line takes a place: a key that is held up leaves the places to others.
                        Ok(Turn::Waits) => (room, fed) = (room.saturating_sub(1), true),
                        Ok(Turn::Done) => {}
                        Ok(Turn::Later(wait)) => {
                            let known = full.entry(batch.key).or_insert(wait);
                            *known = wait.min(*known);
                        }
                        Err(error) => tracing::warn!(batch = %batch.id, %error, "an item waits on"),
                    }
                }
                if full.contains_key(&batch.key) {
                    break;
                }
            }
        }
        let pause = full.values().min().filter(|_| !fed);
        Ok((fed, pause.map(|wait| Instant::now() + (*wait).min(LONGEST_PAUSE))))
    }

    /// Whose key a batch came with. A key that was revoked since goes on for what was accepted with it.
    async fn caller(
        &self,
        key: KeyId,
        callers: &mut HashMap<KeyId, Option<Principal>>,
    ) -> Result<Option<Principal>, ApiError> {
        if let Some(known) = callers.get(&key) {
            return Ok(known.clone());
        }
        let found = self.tools.store.principal(key).await?;
        callers.insert(key, found.clone());
        Ok(found)
    }

    /// Ends a batch whose items have all ended.
    async fn close(&self, (project, mode, id): Named) -> Result<(), ApiError> {
        let store = &self.tools.store;
        let Some((batch, counts)) = store.batch((project, mode), id).await? else { return Ok(()) };
        if batch.status.is_terminal() || counts.pending + counts.processing > 0 {
            return Ok(());
        }
        // What was decided too late to cost an item its answer is no matter.
        let asked: Asked = document::read(&batch.settings)?;
        let status = match store.batch_ending(id).await? {
            None if counts.failed > asked.allowed_failures(batch.total) => BatchStatus::Failed,
            Some(BatchStatus::Expired) if counts.expired == 0 => BatchStatus::Completed,
            Some(BatchStatus::Canceled) if counts.canceled == 0 => BatchStatus::Completed,
            Some(early) => early,
            None => BatchStatus::Completed,
        };
        let now = self.now();
        let event = BatchEvent {
            id,
            object: "batch".to_owned(),
            status,
            mode,
            round: batch.round,
            request_id: batch.request_id,
            created_at: batch.created_at,
            finished_at: now,
            counts,
            links: BatchLinks::of(id),
        };
        let kind = EventType::of_batch(status).expect("a batch ends in a terminal state");
        let made = events::made((kind, &id.to_string(), batch.round), EventData::Batch(Box::new(event)), now);
        let told_at = asked.webhook_url.as_deref().and_then(webhooks::told_at);
        let end = BatchEnding {
            id,
            round: batch.round,
            status,
            event: NewEvent { told_at, batch: Some(id), ..made },
            expires_at: now + signed(self.answers),
        };
        crate::failpoint::hit("before_close_batch");
        if store.close_batch(end, now).await? {
            tracing::info!(batch = %id, status = status.name(), "ended");
            self.tools.jobs.metrics().batch_ended(status);
        }
        crate::failpoint::hit("after_close_batch");
        Ok(())
    }

    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = sleep(SWEEP) => {}
                () = self.tools.jobs.stopped() => return,
            }
            if let Err(error) = self.remove_old().await {
                tracing::warn!(%error, "old batches could not be removed");
            }
        }
    }

    pub(super) async fn remove_old(&self) -> Result<(), StoreError> {
        let (mut after, mut more) = (None, true);
        while more {
            let now = self.now();
            let before = now - signed(self.settings.retention);
            let removed = self.tools.store.remove_batches(before, (after, SWEEP_ROWS), now).await?;
            (after, more) = (removed.reached, removed.more);
        }
        self.remove_staged(String::new(), REST).await
    }

    /// Removes what was left half written: long ago, or by owners whose name begins so.
    async fn remove_staged(&self, gone: String, rest: u32) -> Result<(), StoreError> {
        let before = self.now() - signed(ABANDONED);
        self.remove_pieces((None, Some(before)), (gone, self.owner.clone()), rest).await.map(drop)
    }

    /// Removes rows of batches piece by piece, with a rest of so many times as long as each piece took: others write between. How
    /// many batches are gone.
    pub(super) async fn remove_pieces(
        &self,
        which: (Option<BatchId>, Option<Timestamp>),
        whose: (String, String),
        rest: u32,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        loop {
            let begun = Instant::now();
            let removed = self.tools.store.remove_staged(which, whose.clone()).await?;
            self.tools.blobs.remove(&removed.blobs).await?;
            count += removed.count;
            if !removed.more {
                return Ok(count);
            }
            sleep(begun.elapsed() * rest).await;
        }
    }
}
