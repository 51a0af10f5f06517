//! Requests with a key that were not accepted yet, since they wait for a worker. There is no row that a twin could find:
//! it waits until the first one is accepted or turned away.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eyebolt_types::{Mode, id::ProjectId};
use tokio::sync::watch;

/// A key of a project and mode, as its digest.
type Key = (ProjectId, Mode, Vec<u8>);

/// Those of this process, by key.
#[derive(Debug, Default, Clone)]
pub(super) struct Arrivals(Arc<Mutex<HashMap<Key, watch::Sender<()>>>>);

/// The first with its key; over when dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    arrivals: Arrivals,
    key: Key,
}

/// The first one that a twin waits for.
#[derive(Debug)]
pub(super) struct First(watch::Receiver<()>);

impl Arrivals {
    /// Begins, unless another one with this key is on its way.
    pub(super) fn begin(&self, key: Key) -> Result<Arrival, First> {
        let mut arrivals = self.all();
        if let Some(first) = arrivals.get(&key) {
            return Err(First(first.subscribe()));
        }
        arrivals.insert(key.clone(), watch::channel(()).0);
        Ok(Arrival { arrivals: self.clone(), key })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl First {
    /// Resolves once it is accepted or turned away.
    pub(super) async fn over(mut self) {
        // Nothing is ever sent: the sender goes.
        while self.0.changed().await.is_ok() {}
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.arrivals.all().remove(&self.key);
    }
}
