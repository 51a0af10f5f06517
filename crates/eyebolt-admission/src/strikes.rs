use std::time::Duration;

/// Most strikes that anybody can have.
const MOST: u8 = 8;

/// Good behaviour that takes one strike back: from the most to none in a minute.
const FORGIVEN_EVERY: Duration = Duration::from_millis(7500);

/// One strike holds a refusal back for twice this, each further one doubles it.
const HOLD: Duration = Duration::from_millis(10);

/// No refusal is held back for longer.
const LONGEST_HOLD: Duration = Duration::from_secs(2);

/// How often somebody came back before it was told to. Its refusals are held back for ever longer (a tar pit), which costs a
/// timer here, and there the pace of the storm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strikes {
    count: u8,
    /// Of the last strike, or of the last one that was forgiven.
    since: Duration,
    not_before: Duration,
}

impl Strikes {
    /// A refusal that says `retry_in`. For how long to hold it back.
    pub fn refuse(&mut self, now: Duration, retry_in: Duration) -> Duration {
        self.forgive(now);
        if now < self.not_before {
            self.count = (self.count + 1).min(MOST);
            self.since = now;
        }
        self.not_before = now + retry_in;
        if self.count == 0 {
            return Duration::ZERO;
        }
        (HOLD * 2u32.pow(u32::from(self.count))).min(LONGEST_HOLD)
    }

    /// How many there are at `now`.
    pub fn count(mut self, now: Duration) -> u8 {
        self.forgive(now);
        self.count
    }

    /// Whether nothing need be remembered at `now`.
    pub fn is_clean(self, now: Duration) -> bool {
        self.count(now) == 0 && self.not_before <= now
    }

    fn forgive(&mut self, now: Duration) {
        let good = now.saturating_sub(self.since);
        let forgiven = good.as_nanos() / FORGIVEN_EVERY.as_nanos();
        let forgiven = u8::try_from(forgiven).unwrap_or(u8::MAX).min(self.count);
        self.count -= forgiven;
        self.since += FORGIVEN_EVERY * u32::from(forgiven);
        if self.count == 0 {
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn who_waits_is_never_held_back() {
        let mut strikes = Strikes::default();
        for round in 0..20 {
            assert_eq!(strikes.refuse(at(1000 * round), at(1000)), Duration::ZERO);
        }
    }

    #[test]
    fn who_hammers_waits_ever_longer_and_is_forgiven_within_a_minute() {
        let mut strikes = Strikes::default();
        let held: Vec<_> =
            (0..12).map(|round| strikes.refuse(at(50 * round), at(1000)).as_millis()).collect();
        assert_eq!(held, [0, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000, 2000]);
        let last = 50 * 11;
        assert_eq!(strikes.count(at(last + 7_499)), 8);
        assert_eq!(strikes.count(at(last + 7_500)), 7);
        assert_eq!(strikes.count(at(last + 60_000)), 0);
        assert_eq!(strikes.refuse(at(last + 60_000), at(1000)), Duration::ZERO);
    }
}
