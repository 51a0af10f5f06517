//! How fast a backlog goes onto the wire. A message is counted when it is sent, and not when it was begun: until then a name was
//! looked up and a connection made, which takes what it takes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eyebolt_types::id::EndpointId;
use tokio::time::{Instant, sleep};

/// No more messages than the rate within so long: by a twentieth more than a second, so that one that comes late to the receiver
/// does not meet more there than the rate.
pub(super) const WINDOW: Duration = Duration::from_millis(1050);

/// The last messages of an endpoint's backlog that were sent: pure, the time passed in.
#[derive(Debug)]
pub(super) struct Pace {
    sent: VecDeque<Instant>,
    most: usize,
}

impl Pace {
    /// At most so many in any [`WINDOW`].
    pub(super) fn new(most: u32) -> Self {
        Self { sent: VecDeque::new(), most: most.max(1) as usize }
    }

    /// One is sent now.
    ///
    /// # Errors
    /// How long it has to wait, where it may not be.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(first) = self.sent.front().filter(|_| self.sent.len() >= self.most) {
            let left = (*first + WINDOW).saturating_duration_since(now);
            if !left.is_zero() {
                return Err(left);
            }
            self.sent.pop_front();
        }
        self.sent.push_back(now);
        Ok(())
    }

    /// Whether it is as good as new.
    fn is_over(&self, now: Instant) -> bool {
        self.sent.back().is_none_or(|last| *last + WINDOW <= now)
    }
}

/// The pace of one endpoint, for those who wait for their turn.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Pace>>);

impl Turns {
    /// Resolves as soon as a message may be sent, and counts it.
    pub(super) async fn next(self) {
        loop {
            let taken = lock(&self.0).take(Instant::now());
            let Err(left) = taken else { return };
            sleep(left).await;
        }
    }
}

/// The paces of all endpoints: they outlast whoever sends to one, who leaves as often as nothing is due.
#[derive(Debug)]
pub(super) struct Paces {
    most: u32,
    known: Mutex<HashMap<EndpointId, Turns>>,
}

impl Paces {
    /// At most so many messages in a second to each.
    pub(super) fn new(most: u32) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// That of an endpoint.
    pub(super) fn of(&self, endpoint: EndpointId, now: Instant) -> Turns {
        let mut known = lock(&self.known);
        known.retain(|_, turns| Arc::strong_count(&turns.0) > 1 || !lock(&turns.0).is_over(now));
        let new = || Turns(Arc::new(Mutex::new(Pace::new(self.most))));
        known.entry(endpoint).or_insert_with(new).clone()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_waits_for_the_first_to_be_over() {
        let (mut pace, start) = (Pace::new(10), Instant::now());
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        for number in 0..10 {
            assert_eq!(pace.take(at(number)), Ok(()));
        }
        assert_eq!(pace.take(at(10)), Err(Duration::from_millis(1040)));
        assert_eq!(pace.take(at(1049)), Err(Duration::from_millis(1)));
        assert_eq!(pace.take(at(1050)), Ok(()));
        assert_eq!(pace.take(at(1050)), Err(Duration::from_millis(1)), "the second one is next");
    }

    #[test]
    fn whoever_takes_an_endpoint_up_again_goes_on_at_its_pace() {
        let (paces, start) = (Paces::new(2), Instant::now());
        let [one, other] = [EndpointId::new(), EndpointId::new()];
        let take = |endpoint, now| lock(&paces.of(endpoint, now).0).take(now);
        assert_eq!([take(one, start), take(one, start), take(other, start)], [Ok(()); 3]);
        assert_eq!(take(one, start), Err(WINDOW));
        assert_eq!((take(one, start + WINDOW), take(one, start + WINDOW)), (Ok(()), Ok(())));
        assert_eq!(lock(&paces.known).len(), 1, "what is over is forgotten");
    }
}
