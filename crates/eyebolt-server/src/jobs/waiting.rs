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

/// What one who waits is told.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// Nothing yet.
    Nothing,
    /// The database may know of an end: another process told so.
    Look,
    /// The end.
    Ended(Arc<Ended>),
}

/// The waiters of this process, by job.
#[derive(Debug, Default, Clone)]
pub(crate) struct Waiters(Arc<Mutex<HashMap<JobId, watch::Sender<Told>>>>);

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    job: JobId,
    told: watch::Receiver<Told>,
    waiters: Waiters,
}

impl Waiters {
    /// Waits from now on: an end that is told later is not missed.
    pub(crate) fn register(&self, job: JobId) -> Waiter {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = waiters.entry(job).or_insert_with(|| watch::channel(Told::Nothing).0).subscribe();
        Waiter { job, told, waiters: self.clone() }
    }

    /// Lets everybody who waits look at the database.
    pub(crate) fn look(&self, job: JobId) {
        let waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiters.get(&job) {
            waiting.send_replace(Told::Look);
        }
    }

    /// Tells everybody who waits.
    pub(crate) fn tell(&self, job: JobId, ended: Ended) {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        if let Some(waiting) = told {
            waiting.send_replace(Told::Ended(Arc::new(ended)));
        }
    }

    /// Wakes everybody without an end: the process stops.
    pub(crate) fn dismiss(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Waiter {
    /// What is told next; `None` where this process will tell nothing more.
    pub(crate) async fn told(&mut self) -> Option<Told> {
        self.told.changed().await.ok()?;
        Some(self.told.borrow_and_update().clone())
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
