//! Which delivery of an endpoint is sent next: pure, the time passed in.
//!
//! What is new is sent as it comes, up to the concurrency. What failed before or was left lying is a backlog: of it the
//! oldest goes first, and no more a second than the rate allows, so that a receiver that comes back is not run over by
//! all that it missed. Here they are begun as fast as they may be sent; that none is sent sooner sees [`super::pace`] to.

use std::collections::HashSet;

use eyebolt_types::id::EventId;
use jiff::{SignedDuration, Timestamp};

use super::pace::WINDOW;

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

/// One that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) event: EventId,
    /// Whether it is of the backlog, and waits for its turn before it is sent.
    pub(super) paced: bool,
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
        // A little slower than they may be sent: what waits for its turn gets less, and holds up nothing that is new.
        let window = WINDOW.as_micros() as i64 * 101 / 100;
        let spacing = SignedDuration::from_micros(window / i64::from(per_second.max(1)));
        Self { under_way: HashSet::new(), backlog_at: None, concurrency, spacing }
    }

    /// Begins one of these, where one may begin now.
    pub(super) fn begin(
        &mut self,
        offers: &[Offer],
        throttled_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Begun> {
        if self.is_full() || throttled_until.is_some_and(|until| until > now) {
            return None;
        }
        let waiting = || offers.iter().filter(|offer| !self.under_way.contains(&offer.event));
        let backlog = waiting().filter(|offer| !offer.is_fresh(now)).min_by_key(|offer| offer.due_at);
        let may = self.backlog_at.is_none_or(|at| at <= now);
        let begun = match backlog.filter(|_| may) {
            Some(old) => {
                // One that is begun late puts off none that follows; a pause is not made up for.
                let planned = self.backlog_at.filter(|at| now.duration_since(*at) < self.spacing);
                self.backlog_at = Some(planned.unwrap_or(now) + self.spacing);
                Begun { event: old.event, paced: true }
            }
            None => Begun { event: waiting().find(|offer| offer.is_fresh(now))?.event, paced: false },
        };
        self.under_way.insert(begun.event);
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
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{super::pace::Pace, *};

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn event(number: u32) -> EventId {
        EventId::of(u128::from(number).to_be_bytes())
    }

    fn offer(number: u32, attempts: u32, due: i64) -> Offer {
        Offer { event: event(number), attempts, due_at: at(due), recorded_at: at(due) }
    }

    fn begun(number: u32, paced: bool) -> Begun {
        Begun { event: event(number), paced }
    }

    #[test]
    fn at_most_four_are_on_their_way() {
        let mut lane = Lane::new(4, 10);
        let offers: Vec<_> = (0..9).map(|number| offer(number, 0, 0)).collect();
        let count = std::iter::from_fn(|| lane.begin(&offers, None, at(0))).count();
        assert_eq!(count, 4);
        lane.end(event(0));
        assert_eq!(lane.begin(&offers[4..], None, at(0)), Some(begun(4, false)));
    }

    #[test]
    fn a_backlog_holds_nothing_up_that_is_new_and_is_not_held_up_by_it() {
        let mut lane = Lane::new(4, 10);
        let offers =
            [offer(1, 3, -9000), offer(2, 1, -10), offer(3, 0, -9000), offer(4, 0, -1), offer(5, 0, 0)];
        assert_eq!(lane.begin(&offers, None, at(0)), Some(begun(1, true)), "the oldest");
        assert_eq!(lane.begin(&offers, None, at(0)), Some(begun(4, false)), "one that is new");
        assert_eq!(lane.begin(&offers[..4], None, at(106)), None);
        assert_eq!(lane.pause(at(106)), SignedDuration::from_micros(50));
        assert_eq!(lane.begin(&offers, None, at(110)), Some(begun(3, true)));
        assert_eq!(lane.pause(at(110)), SignedDuration::from_micros(102_100), "as if it had been in time");
    }

    #[test]
    fn who_is_throttled_is_left_alone() {
        let mut lane = Lane::new(4, 10);
        let offers = [offer(1, 0, 0)];
        assert_eq!(lane.begin(&offers, Some(at(1)), at(0)), None);
        assert_eq!(lane.begin(&offers, Some(at(1)), at(1)), Some(begun(1, false)));
    }

    /// Where a message of the backlog stands, and until when.
    #[derive(Clone, Copy)]
    enum Stands {
        Unsent(i64),
        Sent(i64),
    }

    impl Stands {
        fn until(self) -> i64 {
            let (Self::Unsent(until) | Self::Sent(until)) = self;
            until
        }
    }

    /// Drains a thousand messages in virtual time; when each was sent, and when all were done. `connecting`: how long it takes to
    /// have a connection for each, milliseconds. The answer takes 50 ms.
    fn drained(connecting: impl Fn(u32) -> i64) -> (Vec<i64>, i64) {
        let (mut lane, mut pace, start) = (Lane::new(4, 10), Pace::new(10), Instant::now());
        let mut left: Vec<_> = (0..1000).map(|number| offer(number, 2, -3_600_000)).collect();
        let (mut sent, mut under_way, mut number, mut now) = (Vec::new(), Vec::new(), 0, 0);
        while !left.is_empty() {
            for (event, stands) in &mut under_way {
                if matches!(stands, Stands::Unsent(until) if *until <= now) {
                    *stands = match pace.take(start + Duration::from_millis(now as u64)) {
                        Ok(()) => {
                            sent.push(now);
                            Stands::Sent(now + 50)
                        }
                        Err(wait) => Stands::Unsent(now + wait.as_micros().div_ceil(1000) as i64),
                    };
                }
                if matches!(stands, Stands::Sent(until) if *until <= now) {
                    lane.end(*event);
                    left.retain(|offer| offer.event != *event);
                }
            }
            under_way.retain(|(_, stands)| !matches!(stands, Stands::Sent(until) if *until <= now));
            // As many as are looked at in truth.
            let due = &left[..left.len().min(16)];
            while let Some(Begun { event, .. }) = lane.begin(due, None, at(now)) {
                under_way.push((event, Stands::Unsent(now + connecting(number))));
                number += 1;
            }
            // Nothing changes before the next of them moves on, and the next place of the backlog.
            let next = under_way.iter().map(|(_, stands)| stands.until()).min().unwrap_or(now);
            let place = lane.pause(at(now)).as_micros().unsigned_abs().div_ceil(1000) as i64;
            now = if place > 0 { next.min(now + place) } else { next }.max(now + 1);
        }
        (sent, now)
    }

    /// 10,000 events that an outage left behind, for ten receivers, of which each has a lane of its own.
    #[test]
    fn a_backlog_of_ten_thousand_is_drained_within_two_minutes_and_under_the_rate() {
        let even = |_| 1_i64;
        let uneven = |number: u32| i64::from(number * 7919 % 80);
        let late = |number: u32| if number.is_multiple_of(9) { 190 } else { 2 };
        for (name, connecting) in
            [("even", &even as &dyn Fn(u32) -> i64), ("uneven", &uneven), ("some late", &late)]
        {
            let (sent, done) = drained(connecting);
            assert!(done <= 115_000, "{name}: done after {done} ms");
            assert_eq!(sent.len(), 1000);
            let crowd = sent.windows(11).find(|eleven| eleven[10] - eleven[0] < 1050);
            assert_eq!(crowd, None, "{name}: eleven within a second and a twentieth");
        }
    }
}
