//! One replay of an endpoint at a time: each looks through all that happened.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use eyebolt_types::id::EndpointId;

/// Endpoints that are being sent what they missed.
#[derive(Debug, Clone, Default)]
pub(super) struct Replays(Arc<Mutex<HashSet<EndpointId>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Replaying(Replays, EndpointId);

impl Replays {
    /// `None` while another replay of it runs.
    pub(super) fn begin(&self, id: EndpointId) -> Option<Replaying> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(id).then(|| Replaying(self.clone(), id))
    }
}

impl Drop for Replaying {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_one_at_a_time() {
        let (replays, one, other) = (Replays::default(), EndpointId::new(), EndpointId::new());
        let first = replays.begin(one).expect("the first");
        assert!(replays.begin(one).is_none());
        assert!(replays.begin(other).is_some(), "each has its own");
        drop(first);
        assert!(replays.begin(one).is_some(), "it is over");
    }
}
