//! The tasks of the room: one claims jobs as workers become free, one counts those that wait, one keeps leases alive and takes up what dead workers
//! left, one sweeps what is no longer needed.

use std::{sync::Arc, time::Duration};

use eyebolt_store::{Heartbeat, Signal, StoreError};
use jiff::Timestamp;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{Jobs, Room, Stop, retention::Reached};
use crate::{
    admission::{TICK, Worker},
    clients,
};

/// How often pending jobs are looked for that nobody here was told of: those of other processes, and those whose time
/// comes.
const POLL: Duration = Duration::from_millis(250);

/// After a failure of the store.
const REST: Duration = Duration::from_millis(500);

/// The same while there are pending jobs that this process knows of.
const RECOUNT: Duration = Duration::from_secs(2);

/// Counting takes no more than a fiftieth of the time: the pause after each millisecond of it.
const COUNTING: Duration = Duration::from_millis(50);

/// A clock that jumped by more than this against the monotonic one says nothing about leases.
const MAX_JUMP: Duration = Duration::from_secs(5);

/// Between two sweeps of what is old; blobs are swept once an hour.
/// In a build for crash tests often enough to die in one.
const SWEEP: Duration =
    if cfg!(feature = "torture") { Duration::from_secs(1) } else { Duration::from_mins(1) };
const SWEEPS_PER_BLOB_SWEEP: u32 = 60;

/// Rows swept at once.
const SWEEP_ROWS: u32 = 500;

impl Jobs {
    /// Takes back what an earlier run of this process left behind, and begins to work.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn start(&self) -> Result<(), StoreError> {
        let room = &self.0;
        let reaped = room.reap(Some(room.instance.clone()), room.now()).await?;
        if reaped > 0 {
            tracing::info!(jobs = reaped, "took back the jobs of an earlier run");
        }
        room.spawn(Arc::clone(room).claim_jobs());
        room.spawn(Arc::clone(room).count_lines());
        room.spawn(Arc::clone(room).tick());
        room.spawn(Arc::clone(room).hear());
        room.spawn(Arc::clone(room).keep_leases());
        room.spawn(Arc::clone(room).sweep());
        room.spawn(Arc::clone(room).write_clients_down());
        Ok(())
    }
}

impl Room {
    /// Takes pending jobs where the law has a worker for one.
    async fn claim_jobs(self: Arc<Self>) {
        loop {
            let due = tokio::select! {
                due = self.admission.due() => due,
                () = self.stopping.cancelled() => return,
            };
            let wanted = due.iter().map(|claims| (claims.line(), claims.count())).collect();
            match self.tools.store.claim(self.lease(), wanted, self.now()).await {
                Ok(lines) => {
                    crate::failpoint::hit("after_claim");
                    for (claims, jobs) in due.into_iter().zip(lines) {
                        let permits = claims.found(jobs.len());
                        for (job, permit) in jobs.into_iter().zip(permits) {
                            self.start(job, None, permit);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "no jobs could be claimed");
                    drop(due);
                    tokio::select! {
                        () = sleep(REST) => {}
                        () = self.stopping.cancelled() => {}
                    }
                }
            }
        }
    }

    /// Takes up the pending jobs that have no ticket: those of an earlier run, those of other servers, and those whose time
    /// has come.
    async fn count_lines(self: Arc<Self>) {
        while !self.stopping.is_cancelled() {
            let began = Instant::now();
            match self.tools.store.lines(self.now()).await {
                Ok(lines) => self.admission.count(&lines),
                Err(error) => tracing::debug!(%error, "pending jobs could not be counted"),
            }
            // While some are known of there is no hurry, and many take their time to be counted.
            let pause = if self.admission.knows_of_jobs() { RECOUNT } else { POLL };
            let pause = pause.max(COUNTING * u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX));
            tokio::select! {
                () = self.wake.notified() => sleep(POLL / 25).await,
                () = sleep(pause) => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    async fn tick(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.admission.tick(),
                () = self.halting.cancelled() => return,
            }
        }
    }

    /// Does at once what other servers on this database tell of; what is missed is found by looking.
    async fn hear(self: Arc<Self>) {
        let mut signals = self.tools.store.hear();
        loop {
            let signal = tokio::select! {
                signal = signals.recv() => signal,
                () = self.halting.cancelled() => return,
            };
            match signal {
                Ok(Signal::Pending) | Err(RecvError::Lagged(_)) => self.wake_here(),
                Ok(Signal::Ended(job)) => self.waiters.look(job),
                Ok(Signal::Cancel(job)) if self.running().contains_key(&job) => {
                    if let Err(error) = self.beat().await {
                        tracing::debug!(%error, "the next heartbeat tells that a job is to be canceled");
                    }
                }
                // Of events others tell by themselves.
                Ok(Signal::Cancel(_) | Signal::Event(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn keep_leases(self: Arc<Self>) {
        let mut last = (Instant::now(), self.now());
        let mut next = Instant::now();
        loop {
            next += self.rules.jobs.heartbeat;
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.halting.cancelled() => return,
            }
            // After a pause of the whole process there is nothing to catch up with.
            next = next.max(Instant::now());
            let now = (Instant::now(), self.now());
            let jumped = jump(last, now) > MAX_JUMP;
            last = now;
            // Its own leases first: what this process still works on is not taken for dead.
            if let Err(error) = self.beat().await {
                tracing::warn!(%error, "leases could not be kept alive");
                continue;
            }
            if jumped {
                tracing::warn!("the clock jumped: leases are kept for another while");
                continue;
            }
            // At the time that was looked at: the clock may jump now.
            match self.reap(None, now.1).await {
                Ok(0) => {}
                Ok(jobs) => tracing::warn!(jobs, "took up the jobs of dead workers"),
                Err(error) => tracing::warn!(%error, "dead workers could not be looked for"),
            }
            self.flush_replays().await;
        }
    }

    /// How clients behave, every few seconds.
    async fn write_clients_down(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = sleep(clients::FLUSH) => self.tools.clients.flush().await,
                () = self.halting.cancelled() => return,
            }
        }
    }

    async fn beat(&self) -> Result<(), StoreError> {
        let leases: Vec<_> = self.running().iter().map(|(job, running)| (*job, running.token)).collect();
        if leases.is_empty() {
            return Ok(());
        }
        let answers = self.tools.store.heartbeat(leases.clone(), self.lease().until).await?;
        for ((job, token), answer) in leases.into_iter().zip(answers) {
            let stop = match answer {
                Heartbeat::Held => continue,
                Heartbeat::CancelRequested => Stop::Cancel,
                Heartbeat::Lost => Stop::Lost,
            };
            if let Some(running) = self.running().get(&job).filter(|running| running.token == token) {
                running.stop.send_replace(Some(stop));
            }
        }
        Ok(())
    }

    /// Gives back what dead workers left, and ends what must end. How many jobs that were.
    async fn reap(self: &Arc<Self>, gone: Option<String>, now: Timestamp) -> Result<usize, StoreError> {
        let mut total = 0;
        loop {
            let reaped = self.tools.store.reap(gone.clone(), self.lease(), now).await?;
            total += reaped.given_back + reaped.yours.len();
            if reaped.given_back > 0 {
                self.wake();
            }
            for leased in reaped.yours {
                // Nothing is computed for them: they need no slot, but the same care.
                let room = Arc::clone(self);
                self.spawn(async move {
                    let job = leased.job.id;
                    if let Err(error) = room.attempt(leased, None, Worker::default()).await {
                        tracing::error!(%job, %error, "a job could not be ended");
                    }
                });
            }
            if !reaped.more {
                return Ok(total);
            }
        }
    }

    async fn sweep(self: Arc<Self>) {
        let (mut round, mut reached) = (0u32, Reached::default());
        loop {
            tokio::select! {
                () = sleep(SWEEP) => {}
                () = self.halting.cancelled() => return,
            }
            if let Err(error) = self.sweep_rows().await {
                tracing::warn!(%error, "the sweep failed");
            }
            if let Err(error) = self.remove_old(&mut reached).await {
                tracing::warn!(%error, "what is old could not be removed");
            }
            crate::failpoint::hit("in_sweep");
            round += 1;
            if round.is_multiple_of(SWEEPS_PER_BLOB_SWEEP) {
                reached = Reached::default();
                match self.tools.blobs.sweep(&self.tools.store, self.now()).await {
                    Ok(0) => {}
                    Ok(blobs) => tracing::info!(blobs, "removed blobs that no row names"),
                    Err(error) => tracing::warn!(%error, "the sweep of blobs failed"),
                }
            }
        }
    }

    async fn sweep_rows(&self) -> Result<(), StoreError> {
        let now = self.now();
        while self.tools.store.sweep_records(SWEEP_ROWS, now).await? >= u64::from(SWEEP_ROWS) {}
        let since = self.dedup_since();
        while self.tools.store.sweep_contents(since, SWEEP_ROWS).await? >= u64::from(SWEEP_ROWS) {}
        Ok(())
    }
}

/// By how much the wall clock moved against the monotonic one.
fn jump(before: (Instant, Timestamp), after: (Instant, Timestamp)) -> Duration {
    let monotonic = after.0.duration_since(before.0);
    let wall = after.1.duration_since(before.1);
    let wall = Duration::try_from(wall).unwrap_or_default();
    wall.abs_diff(monotonic)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    // Matrix row 26.
    #[test]
    fn a_clock_set_by_an_hour_jumped_and_a_paused_process_did_not() {
        let (then, wall) = (Instant::now(), Timestamp::UNIX_EPOCH + SignedDuration::from_hours(10));
        let later = then + Duration::from_mins(1);
        let minute = SignedDuration::from_secs(60);
        assert_eq!(jump((then, wall), (later, wall + minute)), Duration::ZERO);
        let hour = SignedDuration::from_hours(1);
        assert!(jump((then, wall), (later, wall + minute + hour)) > MAX_JUMP);
        assert!(jump((then, wall), (later, wall + minute - hour)) > MAX_JUMP);
    }
}
