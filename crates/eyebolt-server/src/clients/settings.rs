//! Section `runaway` of the settings.

use std::time::Duration;

use eyebolt_admission::{RunawayCause, RunawayLimits};
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// What is taken for a client that runs away, and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunawaySettings {
    /// Whether it has to wait.
    pub mode: RunawayMode,
    /// Times a minute that one image may come with the same question under new keys, after it was answered.
    pub repeats_per_minute: u32,
    /// Times a minute that one idempotency key may come again.
    pub replays_per_minute: u32,
    /// Times a minute that one key may come before the time that `Retry-After` named.
    pub early_per_minute: u32,
    /// Times a minute that a request may come again after an error that no retry mends.
    pub final_errors_per_minute: u32,
    /// No wait is longer.
    #[serde(with = "friendly")]
    pub max_wait: Duration,
}

/// What is done about clients that run away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunawayMode {
    /// They have to wait (429).
    #[default]
    Enforce,
    /// They are told of in the log and the admin API, and nothing is refused.
    Observe,
    /// Nothing is looked at.
    Off,
}

impl Default for RunawaySettings {
    fn default() -> Self {
        Self {
            mode: RunawayMode::Enforce,
            repeats_per_minute: 120,
            replays_per_minute: 120,
            early_per_minute: 10,
            final_errors_per_minute: 20,
            max_wait: Duration::from_mins(1),
        }
    }
}

/// The range of a wait.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

impl RunawaySettings {
    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let none = RunawayCause::ALL.into_iter().filter(|cause| self.limit(*cause).1 == 0);
        let mut found: Vec<_> = none
            .map(|cause| {
                let name = self.limit(cause).0;
                format!("runaway.{name} is 0: the first retry of anybody would be one too many")
            })
            .collect();
        if !(WAITS.0..=WAITS.1).contains(&self.max_wait) {
            found.push(format!("runaway.max_wait is {:?}, outside 1 s to 1 h", self.max_wait));
        }
        found
    }

    /// The setting that a cause goes by, and its value.
    pub(crate) fn limit(&self, cause: RunawayCause) -> (&'static str, u32) {
        match cause {
            RunawayCause::Repeated => ("repeats_per_minute", self.repeats_per_minute),
            RunawayCause::Replayed => ("replays_per_minute", self.replays_per_minute),
            RunawayCause::Early => ("early_per_minute", self.early_per_minute),
            RunawayCause::FinalError => ("final_errors_per_minute", self.final_errors_per_minute),
        }
    }

    pub(super) fn limits(&self) -> RunawayLimits {
        RunawayLimits {
            repeats: self.repeats_per_minute,
            replays: self.replays_per_minute,
            early: self.early_per_minute,
            final_errors: self.final_errors_per_minute,
            longest_wait: self.max_wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_nothing_and_waits_without_end_are_refused() {
        assert_eq!(RunawaySettings::default().check(), Vec::<String>::new());
        let absurd = RunawaySettings {
            early_per_minute: 0,
            replays_per_minute: 0,
            max_wait: Duration::from_hours(24),
            ..RunawaySettings::default()
        };
        assert_eq!(absurd.check().len(), 3);
    }
}
