//! Which delivery of an endpoint is sent next: pure, the time passed in.
//!
//! What is new is sent as it comes, up to the concurrency. What failed before or was left lying is a backlog: of it the
//! oldest goes first, and no more a second than the rate allows, so that a receiver that comes back is not run over by
//! all that it missed.

use std::collections::HashSet;

use eyebolt_types::id::EventId;
use jiff::{SignedDuration, Timestamp};

/// A first attempt is new for so long.
pub(super) const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// One delivery that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) event: EventId,
    pub(super) attempts: u32,
    pub(super) due_at: Timestamp,
    /// When what it tells of happened.
    pub(super) recorded_at: Timestamp,
}

impl Offer {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.attempts == 0 && now.duration_since(self.recorded_at) < FRESH
    }
}

/// What is on its way to an endpoint, and when the next of its backlog may be.
#[derive(Debug)]
pub(super) struct Lane {
    under_way: HashSet<EventId>,
    backlog_at: Option<Timestamp>,
    concurrency: usize,
    spacing: SignedDuration,
}

impl Lane {
    /// At most so many at once, and so many of a backlog a second.
    pub(super) fn new(concurrency: usize, per_second: u32) -> Self {
        let spacing = SignedDuration::from_micros(1_000_000 / i64::from(per_second.max(1)));
        Self { under_way: HashSet::new(), backlog_at: None, concurrency, spacing }
    }

    /// Begins one of these, where one may begin now.
    pub(super) fn begin(
        &mut self,
        offers: &[Offer],
        throttled_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<EventId> {
        if self.is_full() || throttled_until.is_some_and(|until| until > now) {
            return None;
        }
        let waiting = || offers.iter().filter(|offer| !self.under_way.contains(&offer.event));
        let backlog = waiting().filter(|offer| !offer.is_fresh(now)).min_by_key(|offer| offer.due_at);
        let may = self.backlog_at.is_none_or(|at| at <= now);
        let begun = match backlog.filter(|_| may) {
            Some(old) => {
                self.backlog_at = Some(now + self.spacing);
                old.event
            }
            None => waiting().find(|offer| offer.is_fresh(now))?.event,
        };
        self.under_way.insert(begun);
        Some(begun)
    }

    /// It is over, well or not.
    pub(super) fn end(&mut self, event: EventId) {
        self.under_way.remove(&event);
    }

    /// Whether nothing more may begin before something ends.
    pub(super) fn is_full(&self) -> bool {
        self.under_way.len() >= self.concurrency
    }

    /// Whether it is on its way.
    pub(super) fn has(&self, event: EventId) -> bool {
        self.under_way.contains(&event)
    }

    /// How long until the next of the backlog may begin.
    pub(super) fn pause(&self, now: Timestamp) -> SignedDuration {
        self.backlog_at.map_or(SignedDuration::ZERO, |at| at.duration_since(now).max(SignedDuration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn event(number: u32) -> EventId {
        EventId::of(u128::from(number).to_be_bytes())
    }

    fn offer(number: u32, attempts: u32, due: i64) -> Offer {
        Offer { event: event(number), attempts, due_at: at(due), recorded_at: at(due) }
    }

    #[test]
    fn at_most_four_are_on_their_way() {
        let mut lane = Lane::new(4, 10);
        let offers: Vec<_> = (0..9).map(|number| offer(number, 0, 0)).collect();
        let begun = std::iter::from_fn(|| lane.begin(&offers, None, at(0))).count();
        assert_eq!(begun, 4);
        lane.end(event(0));
        assert_eq!(lane.begin(&offers[4..], None, at(0)), Some(event(4)));
    }

    #[test]
    fn a_backlog_holds_nothing_up_that_is_new_and_is_not_held_up_by_it() {
        let mut lane = Lane::new(4, 10);
        let offers =
            [offer(1, 3, -9000), offer(2, 1, -10), offer(3, 0, -9000), offer(4, 0, -1), offer(5, 0, 0)];
        assert_eq!(lane.begin(&offers, None, at(0)), Some(event(1)), "the oldest");
        assert_eq!(lane.begin(&offers, None, at(0)), Some(event(4)), "one that is new");
        assert_eq!(lane.begin(&offers[..4], None, at(99)), None);
        assert_eq!(lane.pause(at(99)), SignedDuration::from_millis(1));
        assert_eq!(lane.begin(&offers, None, at(100)), Some(event(3)));
    }

    #[test]
    fn who_is_throttled_is_left_alone() {
        let mut lane = Lane::new(4, 10);
        let offers = [offer(1, 0, 0)];
        assert_eq!(lane.begin(&offers, Some(at(1)), at(0)), None);
        assert_eq!(lane.begin(&offers, Some(at(1)), at(1)), Some(event(1)));
    }

    /// 10,000 events that an outage of an hour left behind, for ten receivers, of which each has a lane of its own: in two
    /// minutes of virtual time, and no receiver gets more than ten within any second. Each takes 50 ms to answer.
    #[test]
    fn a_backlog_of_ten_thousand_is_drained_within_two_minutes_and_under_the_rate() {
        let mut lane = Lane::new(4, 10);
        let mut left: Vec<_> = (0..1000).map(|number| offer(number, 2, -3_600_000)).collect();
        let (mut sent, mut ends): (Vec<i64>, Vec<(i64, EventId)>) = Default::default();
        let mut now = 0;
        while !left.is_empty() {
            ends.retain(|(end, event)| {
                let over = *end <= now;
                if over {
                    lane.end(*event);
                    left.retain(|offer| offer.event != *event);
                }
                !over
            });
            while let Some(begun) = lane.begin(&left, None, at(now)) {
                sent.push(now);
                ends.push((now + 50, begun));
            }
            // Nothing changes before the next end, and the next place of the backlog.
            let next = ends.iter().map(|(end, _)| *end - now).min().unwrap_or(1);
            let place = i64::try_from(lane.pause(at(now)).as_millis()).unwrap();
            now += if place > 0 { next.min(place) } else { next }.max(1);
        }
        assert!(now <= 120_000, "done after {now} ms");
        assert_eq!(sent.len(), 1000);
        assert_eq!(sent.windows(11).find(|eleven| eleven[10] - eleven[0] < 1000), None);
    }
}
