use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// Section `webhooks`: how receivers are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// How long a receiver may take, from the look-up of its name to its answer.
    #[serde(with = "friendly")]
    pub timeout: Duration,
    /// Messages on their way to one endpoint at once.
    pub concurrency: usize,
    /// Messages a second to one endpoint, of those that failed before or were left lying.
    pub backlog_per_second: u32,
    /// After so long without one that it took, an endpoint is disabled.
    #[serde(with = "friendly")]
    pub disable_after: Duration,
    /// Endpoints of a project and mode.
    pub max_endpoints: u64,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            concurrency: 4,
            backlog_per_second: 10,
            disable_after: Duration::from_hours(5 * 24),
            max_endpoints: 20,
        }
    }
}

impl WebhookSettings {
    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(30));
        if !(least..=most).contains(&self.timeout) {
            found.push(format!("webhooks.timeout is {:?}, outside {least:?} to {most:?}", self.timeout));
        }
        if !(1..=64).contains(&self.concurrency) {
            found.push(format!("webhooks.concurrency is {}, outside 1 to 64", self.concurrency));
        }
        if !(1..=1000).contains(&self.backlog_per_second) {
            found.push(format!(
                "webhooks.backlog_per_second is {}, outside 1 to 1000",
                self.backlog_per_second
            ));
        }
        let (hour, year) = (Duration::from_hours(1), Duration::from_hours(366 * 24));
        if !(hour..=year).contains(&self.disable_after) {
            found.push(format!("webhooks.disable_after is {:?}, outside 1h to 366d", self.disable_after));
        }
        if !(1..=1000).contains(&self.max_endpoints) {
            found.push(format!("webhooks.max_endpoints is {}, outside 1 to 1000", self.max_endpoints));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(WebhookSettings::default().check(), Vec::<String>::new());
        let wrong = WebhookSettings {
            timeout: Duration::ZERO,
            concurrency: 0,
            backlog_per_second: 0,
            disable_after: Duration::MAX,
            max_endpoints: 0,
        };
        assert_eq!(wrong.check().len(), 5);
    }
}
