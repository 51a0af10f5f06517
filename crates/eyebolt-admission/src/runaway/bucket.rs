use std::time::Duration;

/// The time that limits are of, seconds.
const WINDOW: f64 = 60.0;

/// Counts what leaks away as fast as a limit allows: full once more has come than a minute's worth at once, or than the limit
/// for long.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bucket {
    level: f64,
    at: Duration,
}

impl Bucket {
    /// One more; whether that is more than `limit` a minute.
    pub(super) fn add(&mut self, limit: u32, now: Duration) -> bool {
        let limit = f64::from(limit);
        let leaked = now.saturating_sub(self.at).as_secs_f64() * limit / WINDOW;
        self.level = (self.level - leaked).max(0.0) + 1.0;
        self.at = self.at.max(now);
        let full = self.level > limit;
        self.level = self.level.min(limit);
        full
    }

    /// What was in it when it was looked at last.
    pub(super) fn filled(&self) -> f64 {
        self.level
    }
}

/// How many came within about a minute: each counts for less as time goes by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Fading {
    count: f64,
    at: Duration,
}

impl Fading {
    pub(super) fn add(&mut self, now: Duration) {
        self.count = self.at(now) + 1.0;
        self.at = self.at.max(now);
    }

    pub(super) fn at(&self, now: Duration) -> f64 {
        self.count * (-now.saturating_sub(self.at).as_secs_f64() / WINDOW).exp()
    }
}
