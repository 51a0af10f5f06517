use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

use crate::webhooks::LONGEST_SCHEDULE;

/// Section `events`: what is told, and for how long it can be told again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// How long events and deliveries are kept.
    #[serde(with = "friendly")]
    pub retention: Duration,
    /// Between two signs of life on a stream that has nothing to tell.
    #[serde(with = "friendly")]
    pub heartbeat: Duration,
    /// After so long a stream ends, and its client asks again: a key that has ended meanwhile is refused then.
    #[serde(with = "friendly")]
    pub stream_lifetime: Duration,
    /// Streams that one key may have open.
    pub max_streams_per_key: usize,
    /// Streams of this server together. Each holds a connection of `http.max_connections`.
    pub max_streams: usize,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(30 * 24),
            heartbeat: Duration::from_secs(15),
            stream_lifetime: Duration::from_mins(15),
            max_streams_per_key: 8,
            max_streams: 256,
        }
    }
}

impl EventSettings {
    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        let (least, most) = (LONGEST_SCHEDULE.unsigned_abs(), Duration::from_hours(366 * 24));
        if !(least..=most).contains(&self.retention) {
            found.push(format!(
                "events.retention is {:?}, outside {least:?} to {most:?}: an event must outlive the last attempt to \
                 deliver it",
                self.retention
            ));
        }
        let (least, most) = (Duration::from_millis(10), Duration::from_mins(5));
        if !(least..=most).contains(&self.heartbeat) {
            found.push(format!("events.heartbeat is {:?}, outside {least:?} to {most:?}", self.heartbeat));
        }
        let (least, most) = (Duration::from_secs(1), Duration::from_hours(24));
        if !(least..=most).contains(&self.stream_lifetime) {
            found.push(format!(
                "events.stream_lifetime is {:?}, outside {least:?} to {most:?}",
                self.stream_lifetime
            ));
        }
        if !(1..=self.max_streams).contains(&self.max_streams_per_key) {
            found.push(format!(
                "events.max_streams_per_key is {}, outside 1 to events.max_streams ({})",
                self.max_streams_per_key, self.max_streams
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(EventSettings::default().check(), Vec::<String>::new());
        let wrong = EventSettings {
            retention: Duration::from_hours(24),
            heartbeat: Duration::ZERO,
            stream_lifetime: Duration::MAX,
            max_streams_per_key: 9,
            max_streams: 8,
        };
        assert_eq!(wrong.check().len(), 4);
    }
}
