use std::time::Duration;

/// What was agreed: so much in so long, and so much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Units in a window; 0 admits nothing.
    pub units: u64,
    /// The window.
    pub window: Duration,
    /// Units that may come at once after a quiet time, at least 1 where `units` is.
    pub burst: u64,
}

impl Quota {
    /// So much in so long, all of it at once if need be.
    pub fn new(units: u64, window: Duration) -> Self {
        Self { units, window, burst: units }
    }

    /// The time that one unit stands for; whole nanoseconds, rounded up so that no more is admitted than was agreed. None
    /// where nothing is admitted.
    pub fn interval(self) -> Option<u128> {
        (self.units > 0).then(|| self.window.as_nanos().div_ceil(u128::from(self.units)))
    }

    /// The time that everything at once stands for, nanoseconds: no backlog is longer.
    pub fn tolerance(self) -> u128 {
        self.interval().unwrap_or_default() * u128::from(self.burst.max(1))
    }

    /// What becomes of `cost` units where `backlog` nanoseconds are still to leak out, and the backlog after that. What is
    /// refused costs nothing. This is all that there is to decide, wherever the backlog is kept.
    pub fn decide(self, cost: u64, backlog: u128) -> (Decision, u128) {
        let Some(interval) = self.interval() else {
            let (next_in, full_in) = (Duration::ZERO, Duration::ZERO);
            let (admitted, retry_in) = (cost == 0, (cost == 0).then_some(Duration::ZERO));
            return (Decision { admitted, remaining: 0, next_in, full_in, retry_in }, 0);
        };
        let tolerance = self.tolerance();
        let backlog = backlog.min(tolerance);
        let wanted = backlog + interval * u128::from(cost);
        let admitted = wanted <= tolerance;
        let after = if admitted { wanted } else { backlog };
        let ever = u128::from(cost) * interval <= tolerance;
        let remaining = (tolerance - after) / interval;
        let next = after + interval * (remaining + 1);
        let decision = Decision {
            admitted,
            remaining: u64::try_from(remaining).unwrap_or(u64::MAX),
            next_in: nanos(next.saturating_sub(tolerance).min(after)),
            full_in: nanos(after),
            retry_in: ever.then(|| if admitted { Duration::ZERO } else { nanos(wanted - tolerance) }),
        };
        (decision, after)
    }
}

/// How a quota stands, and whether something was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it was.
    pub admitted: bool,
    /// Units that would be let in now.
    pub remaining: u64,
    /// Until `remaining` is one more; zero where it is as large as it gets.
    pub next_in: Duration,
    /// Until `remaining` is as large as it gets.
    pub full_in: Duration,
    /// Until as much as was asked for would be let in; `None` where that never happens. Zero where it was let in.
    pub retry_in: Option<Duration>,
}

/// The generic cell rate algorithm: a leaky bucket that keeps one number, the theoretical arrival time (ITU-T I.371,
/// appendix A; here with costs), and what one unit of it stands for. Within any time `t` it admits no more than
/// `burst + units × t / window`.
///
/// Where it is asked by another quota than before, what was used stays used, in units: a higher limit has room at once, and
/// a lower one that is used up already is just used up. Until then it leaks out at its old pace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gcra {
    /// Nanoseconds; when everything admitted so far has leaked out.
    arrival: u128,
    /// Nanoseconds; zero where nothing was ever asked for.
    interval: u128,
}

impl Gcra {
    /// Asks for `cost` units at `now`. What is refused costs nothing.
    ///
    /// A clock that was set back is seen as a later arrival time than could be: it is cut to a full bucket, so that nobody
    /// waits for longer than a window.
    pub fn ask(&mut self, quota: Quota, cost: u64, now: Duration) -> Decision {
        let (decision, after) = quota.decide(cost, self.count_by(quota, now));
        // A limit of nothing has no unit to count in, and forgets nothing.
        if quota.units > 0 {
            self.arrival = now.as_nanos() + after;
        }
        decision
    }

    /// From `now` on it is counted by `quota`, whether something is let in or not: what is still to leak out, nanoseconds.
    pub fn count_by(&mut self, quota: Quota, now: Duration) -> u128 {
        let Some(interval) = quota.interval() else { return 0 };
        let left = self.arrival.saturating_sub(now.as_nanos());
        let left = if self.interval == 0 || self.interval == interval {
            left
        } else {
            same_units(left, self.interval, interval)
        };
        let left = left.min(quota.tolerance());
        *self = Self { arrival: now.as_nanos() + left, interval };
        left
    }

    /// How it stands at `now`; nothing is asked for.
    pub fn look(mut self, quota: Quota, now: Duration) -> Decision {
        self.ask(quota, 0, now)
    }

    /// Gives back so many units that were let in and did not take place, whatever limit they were let in by.
    pub fn give_back(&mut self, cost: u64) {
        self.arrival = self.arrival.saturating_sub(self.interval.saturating_mul(cost.into()));
    }

    /// Whether nothing is left to remember at `now`.
    pub fn is_full(self, now: Duration) -> bool {
        self.arrival <= now.as_nanos()
    }
}

/// A backlog at another price of a unit; a part of one is rounded up. It is counted in doubles as Redis does, which keeps
/// these counters too: a part is below 2^52, and so is the price.
fn same_units(backlog: u128, before: u128, interval: u128) -> u128 {
    let part = (backlog % before) as f64 / before as f64 * interval as f64;
    (backlog / before).saturating_mul(interval).saturating_add(part.ceil() as u128)
}

fn nanos(nanos: u128) -> Duration {
    let second = 1_000_000_000;
    let seconds = u64::try_from(nanos / second).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % second) as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn quotas() -> impl Strategy<Value = Quota> {
        (1..5000u64, 1..100_000u64, 1..5000u64).prop_map(|(units, window, burst)| Quota {
            units,
            window: Duration::from_millis(window),
            burst,
        })
    }

    /// Waits in milliseconds between requests, and their costs.
    fn traffic() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0..2000u64, 0..40u64), 1..120)
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_was_agreed(quota in quotas(), traffic in traffic()) {
            let (mut gcra, mut now, mut admitted) = (Gcra::default(), Duration::ZERO, Vec::new());
            for (wait, cost) in traffic {
                now += Duration::from_millis(wait);
                if gcra.ask(quota, cost, now).admitted {
                    admitted.push((now, cost));
                }
            }
            for (index, (from, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (at, cost) in &admitted[index..] {
                    sum += u128::from(*cost);
                    let time = at.saturating_sub(*from);
                    let leaked = time.as_nanos() * u128::from(quota.units) / quota.window.as_nanos();
                    prop_assert!(sum <= u128::from(quota.burst) + leaked, "{sum} in {time:?}");
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_is_let_in(quota in quotas(), traffic in traffic()) {
            let (mut gcra, mut now) = (Gcra::default(), Duration::ZERO);
            for (wait, cost) in traffic {
                now += Duration::from_millis(wait);
                let decision = gcra.ask(quota, cost, now);
                prop_assert_eq!(decision.admitted, decision.retry_in == Some(Duration::ZERO));
                prop_assert_eq!(decision.retry_in.is_none(), cost > quota.burst);
                if let Some(wait) = decision.retry_in.filter(|_| !decision.admitted) {
                    let before = gcra.look(quota, (now + wait).saturating_sub(Duration::from_nanos(1)));
                    prop_assert!(before.remaining < cost);
                    now += wait;
                    prop_assert!(gcra.ask(quota, cost, now).admitted);
                }
            }
        }

        #[test]
        fn what_is_left_can_be_had(quota in quotas(), traffic in traffic()) {
            let (mut gcra, mut now) = (Gcra::default(), Duration::ZERO);
            for (wait, cost) in traffic {
                now += Duration::from_millis(wait);
                let left = gcra.ask(quota, cost, now).remaining;
                prop_assert!(left <= quota.burst);
                prop_assert!(gcra.clone().ask(quota, left, now).admitted);
                prop_assert!(!gcra.clone().ask(quota, left + 1, now).admitted);
                let stands = gcra.look(quota, now);
                prop_assert_eq!(gcra.look(quota, now + stands.full_in).remaining, quota.burst);
                let next = gcra.look(quota, now + stands.next_in).remaining;
                prop_assert_eq!(next, (left + 1).min(quota.burst));
                let before = gcra.look(quota, (now + stands.next_in).saturating_sub(Duration::from_nanos(1)));
                prop_assert!(stands.next_in.is_zero() || before.remaining == left);
            }
        }
    }

    #[test]
    fn nothing_and_everything() {
        let mut gcra = Gcra::default();
        let nothing = gcra.ask(Quota::new(0, MINUTE), 1, MINUTE);
        assert_eq!((nothing.admitted, nothing.retry_in), (false, None));
        let everything = Quota::new(u64::MAX, MINUTE);
        assert!(gcra.ask(everything, u64::MAX, MINUTE).admitted);
        assert!(!gcra.ask(everything, 1, MINUTE).admitted);
    }

    #[test]
    fn a_clock_that_was_set_back_costs_one_window_at_most() {
        let (mut gcra, quota) = (Gcra::default(), Quota::new(10, MINUTE));
        assert!(gcra.ask(quota, 10, Duration::from_secs(100_000)).admitted);
        let set_back = gcra.ask(quota, 1, Duration::from_secs(10));
        assert!(!set_back.admitted && set_back.retry_in <= Some(MINUTE), "{set_back:?}");
    }

    proptest! {
        #[test]
        fn a_limit_that_changes_keeps_what_was_used(before in quotas(), after in quotas(), used in 0..5000u64) {
            let used = used.min(before.burst);
            let mut gcra = Gcra::default();
            prop_assert!(gcra.ask(before, used, MINUTE).admitted);
            prop_assert_eq!(gcra.look(after, MINUTE).remaining, after.burst.saturating_sub(used));
            // To and fro, as servers ask that hear of it one after the other.
            prop_assume!(used <= after.burst);
            gcra.ask(after, 0, MINUTE);
            prop_assert_eq!(gcra.ask(before, 0, MINUTE).remaining, before.burst - used);
        }

        #[test]
        fn who_waits_is_let_in_after_a_change_too(
            before in quotas(), after in quotas(), used in 0..5000u64, waited in 0..200_000u64, cost in 0..5000u64,
        ) {
            let (mut gcra, now) = (Gcra::default(), MINUTE + Duration::from_micros(waited));
            prop_assert!(gcra.ask(before, used.min(before.burst), MINUTE).admitted);
            let decision = gcra.ask(after, cost.min(after.burst), now);
            let wait = decision.retry_in.expect("it fits");
            let full = after.interval().expect("some units") * u128::from(after.burst);
            prop_assert!(wait.as_nanos() <= full, "{wait:?}");
            prop_assert!(decision.admitted || gcra.ask(after, cost.min(after.burst), now + wait).admitted);
        }
    }

    #[test]
    fn what_was_used_of_a_limit_is_used_of_another() {
        let used = |units, used: u64| {
            let mut gcra = Gcra::default();
            assert!(gcra.ask(Quota::new(units, MINUTE), used, MINUTE).admitted);
            gcra
        };
        let left = |mut gcra: Gcra, units, at| gcra.ask(Quota::new(units, MINUTE), 0, at).remaining;
        assert_eq!(left(used(100, 100), 1000, MINUTE), 900);
        assert_eq!(left(used(1000, 50), 100, MINUTE), 50);
        assert_eq!(left(used(1000, 500), 100, MINUTE), 0);
        // Up to the change it leaks out at the old pace, from then on at the new one.
        let mut gcra = used(100, 100);
        assert_eq!(left(gcra, 400, MINUTE + MINUTE / 4), 325);
        gcra.count_by(Quota::new(200, MINUTE), MINUTE);
        assert_eq!(left(gcra, 200, MINUTE + MINUTE / 4), 150);
    }

    #[test]
    fn a_limit_of_nothing_forgets_nothing() {
        let (mut gcra, quota) = (Gcra::default(), Quota::new(10, MINUTE));
        assert!(gcra.ask(quota, 10, MINUTE).admitted);
        assert!(!gcra.ask(Quota::new(0, MINUTE), 1, MINUTE).admitted);
        assert_eq!(gcra.look(quota, MINUTE).remaining, 0);
    }

    #[test]
    fn what_was_taken_of_one_limit_is_given_back_to_another() {
        let mut gcra = Gcra::default();
        assert!(gcra.ask(Quota::new(1000, MINUTE), 80, MINUTE).admitted);
        gcra.count_by(Quota::new(100, MINUTE), MINUTE);
        gcra.give_back(30);
        assert_eq!(gcra.look(Quota::new(100, MINUTE), MINUTE).remaining, 50);
    }

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let (mut gcra, quota) = (Gcra::default(), Quota::new(10, MINUTE));
        assert!(gcra.ask(quota, 10, MINUTE).admitted);
        gcra.give_back(4);
        assert_eq!(gcra.look(quota, MINUTE).remaining, 4);
        gcra.give_back(1000);
        assert_eq!(gcra.look(quota, MINUTE).remaining, 10);
    }
}
