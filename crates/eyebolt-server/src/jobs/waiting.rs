//! Who waits for a job's end in this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use eyebolt_types::{ErrorCode, id::JobId};
use tokio::sync::watch;

/// How a job ended: what whoever asked for it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body: a job, or a problem.
    pub(crate) body: Bytes,
    /// Of a problem.
    pub(crate) code: Option<ErrorCode>,
    /// What the header `Dedup-Status` says.
    pub(crate) dedup: Option<String>,
}

type End = Option<Arc<Ended>>;

/// The waiters of this process, by job.
#[derive(Debug, Default, Clone)]
pub(crate) struct Waiters(Arc<Mutex<HashMap<JobId, watch::Sender<End>>>>);

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    job: JobId,
    ended: watch::Receiver<End>,
    waiters: Waiters,
}

impl Waiters {
    /// Waits from now on: an end that is told later is not missed.
    pub(crate) fn register(&self, job: JobId) -> Waiter {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = waiters.entry(job).or_insert_with(|| watch::channel(None).0).subscribe();
        Waiter { job, ended, waiters: self.clone() }
    }

    /// Tells everybody who waits.
    pub(crate) fn tell(&self, job: JobId, ended: Ended) {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        if let Some(waiting) = told {
            waiting.send_replace(Some(Arc::new(ended)));
        }
    }

    /// Wakes everybody without an end: the process stops.
    pub(crate) fn dismiss(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Waiter {
    /// The end; `None` where this process will not tell it.
    pub(crate) async fn ended(&mut self) -> Option<Arc<Ended>> {
        let found = self.ended.wait_for(Option::is_some).await.ok()?;
        found.clone()
    }

    /// Whose end it waits for.
    pub(crate) fn job(&self) -> JobId {
        self.job
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        // This one still counts as a receiver.
        if waiters.get(&self.job).is_some_and(|waiting| waiting.receiver_count() <= 1) {
            waiters.remove(&self.job);
        }
    }
}
