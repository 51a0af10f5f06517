//! How many workers items of batches may have.

use std::{hash::Hash, time::Duration};

use eyebolt_types::Class;

use super::Capacity;

/// An item that is predicted to run for longer, seconds, is noticed by whoever waits behind it.
const LONG: f64 = 0.05;

/// For so long after a call another one is expected.
const EXPECTED: Duration = Duration::from_secs(10);

impl<T: Eq + Hash + Clone> Capacity<T> {
    /// Whether no further item of a batch may begin.
    pub(super) fn batches_are_full(&self, now: Duration) -> bool {
        let running = self.running.values().filter(|running| running.class == Class::Batch);
        let next = self.lanes[Class::Batch as usize].head().map(|(_, first)| first.service);
        let mut services = running.clone().map(|running| running.predicted).chain(next);
        let calls = self.called.is_some_and(|at| now.saturating_sub(at) < EXPECTED);
        let most = if calls && services.any(|service| service > LONG) {
            self.settings.long_batch_workers
        } else {
            self.settings.batch_workers
        };
        running.count() >= most.max(1)
    }
}
