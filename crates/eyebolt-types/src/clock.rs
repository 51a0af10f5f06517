use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

/// Where the time comes from. Passed down instead of asked for, so that tests own the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's own clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// The machine's clock, made steady ([`Steady`]): never before `earliest`, where that is no more than a day ahead.
    pub fn steady(earliest: Option<Timestamp>) -> Self {
        Self::system().made_steady(earliest)
    }

    /// The same of another clock, which is looked at as if it were the machine's.
    #[must_use]
    pub fn made_steady(self, earliest: Option<Timestamp>) -> Self {
        let (machine, began) = (self, Instant::now());
        let steady = Mutex::new(Steady::new(machine.now(), earliest));
        Self::told_by(move || {
            let mut steady = steady.lock().unwrap_or_else(PoisonError::into_inner);
            steady.tell(machine.now(), began.elapsed())
        })
    }

    /// A clock that always tells `at`.
    pub fn fixed(at: Timestamp) -> Self {
        Self(Arc::new(move || at))
    }

    /// A clock that tells what `now` does: a test moves it on.
    pub fn told_by(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// So near to the machine's clock it is followed without more ado.
const NEAR: SignedDuration = SignedDuration::from_secs(1);

/// A step of the machine's clock is believed once it has lasted for so long.
const BELIEVED_AFTER: Duration = Duration::from_mins(5);

/// How far ahead of the machine's clock it may begin.
const FARTHEST: SignedDuration = SignedDuration::from_hours(24);

/// A clock that is not moved by a step of the machine's. It runs on with the time since the start; once a step has lasted for
/// five minutes it is followed: forward at once, back by running at half the pace until both agree. It never goes back. Leases, deadlines and what is kept for a time hold through a clock that is set wrong and set right again.
#[derive(Debug, Clone)]
pub struct Steady {
    told: Timestamp,
    elapsed: Duration,
    apart_since: Option<Duration>,
}

impl Steady {
    /// Begins at the machine's time, or at `earliest`, where that is later by a day at most.
    pub fn new(machine: Timestamp, earliest: Option<Timestamp>) -> Self {
        let earliest = earliest.filter(|earliest| earliest.duration_since(machine) <= FARTHEST);
        let told = earliest.map_or(machine, |earliest| earliest.max(machine));
        Self { told, elapsed: Duration::ZERO, apart_since: None }
    }

    /// The time, where the machine's clock shows `machine` and so much time has passed since the start.
    pub fn tell(&mut self, machine: Timestamp, elapsed: Duration) -> Timestamp {
        let passed = elapsed.saturating_sub(self.elapsed);
        self.elapsed = self.elapsed.max(elapsed);
        let next = later(self.told, passed);
        let apart = machine.duration_since(next);
        let believed = if apart.abs() <= NEAR {
            self.apart_since = None;
            true
        } else {
            elapsed.saturating_sub(*self.apart_since.get_or_insert(elapsed)) >= BELIEVED_AFTER
        };
        self.told = match (believed, apart.is_negative()) {
            (false, _) => next,
            (true, false) => machine,
            (true, true) => machine.max(later(self.told, passed / 2)),
        };
        self.told
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).unwrap()
    }

    /// Told each second until `to`; the machine's clock is `off` seconds wrong.
    fn run(steady: &mut Steady, to: u64, off: i64) -> i64 {
        let from = steady.elapsed.as_secs() + 1;
        let mut last = steady.told;
        for second in from..=to {
            let told = steady.tell(at(second as i64 + off), Duration::from_secs(second));
            assert!(told >= last, "it never goes back");
            last = told;
        }
        last.as_second() - START
    }

    #[test]
    fn an_hour_that_is_taken_back_is_not_noticed() {
        for off in [3600, -3600, 45 * 86_400] {
            let mut steady = Steady::new(at(0), None);
            run(&mut steady, 100, 0);
            assert_eq!(run(&mut steady, 399, off), 399, "{off}");
            assert_eq!(run(&mut steady, 400, 0), 400, "{off}");
        }
    }

    #[test]
    fn a_clock_that_was_wrong_at_the_start_is_followed_after_five_minutes() {
        let mut steady = Steady::new(at(0), None);
        assert_eq!(run(&mut steady, 300, 86_400), 300);
        assert_eq!(run(&mut steady, 302, 86_400), 86_702);
    }

    #[test]
    fn one_that_was_set_back_is_waited_for() {
        let mut steady = Steady::new(at(0), None);
        run(&mut steady, 100, 0);
        assert_eq!(run(&mut steady, 400, -60), 400);
        assert_eq!(run(&mut steady, 500, -60), 450, "half the pace");
        assert_eq!(run(&mut steady, 600, -60), 540);
    }

    #[test]
    fn it_follows_a_clock_that_is_nearly_right() {
        let mut steady = Steady::new(at(0), None);
        assert_eq!(run(&mut steady, 10, 1), 11);
    }

    #[test]
    fn it_begins_no_earlier_than_what_is_known_to_have_been() {
        assert_eq!(Steady::new(at(0), Some(at(3600))).told, at(3600));
        assert_eq!(Steady::new(at(0), Some(at(-3600))).told, at(0));
        assert_eq!(Steady::new(at(0), Some(at(45 * 86_400))).told, at(0), "that was no right time either");
    }
}
