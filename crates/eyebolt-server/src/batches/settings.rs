//! Section `batches` of the settings.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// Section `batches`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Items of a batch.
    pub max_items: u32,
    /// Bytes of the body that brings one.
    pub max_body_bytes: u64,
    /// How long that body may take.
    #[serde(with = "friendly")]
    pub body_timeout: Duration,
    /// How long the items of a batch have that does not say.
    #[serde(with = "friendly")]
    pub expires_in: Duration,
    /// How long a batch can be read after its end; then it is removed.
    #[serde(with = "friendly")]
    pub retention: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_items: 10_000,
            max_body_bytes: 8 << 30,
            body_timeout: Duration::from_mins(30),
            expires_in: Duration::from_hours(24),
            retention: Duration::from_hours(30 * 24),
        }
    }
}

/// More than anybody could send in one request.
const MOST_ITEMS: u32 = 1_000_000;

/// No batch is kept longer: ten years.
const LONGEST: Duration = Duration::from_hours(24 * 3653);

/// A file that no row names is removed after an hour: rows name the files of a batch while its body comes.
const LONGEST_BODY: Duration = Duration::from_mins(45);

impl BatchSettings {
    /// What can't work, in a sentence each. `answers`: how long the answer to a key is kept.
    pub fn check(&self, answers: Duration) -> Vec<String> {
        let mut found = Vec::new();
        if self.max_items == 0 || self.max_items > MOST_ITEMS {
            found.push(format!("batches.max_items is {}, outside 1 to {MOST_ITEMS}", self.max_items));
        }
        let times = [
            ("batches.body_timeout", self.body_timeout),
            ("batches.expires_in", self.expires_in),
            ("batches.retention", self.retention),
        ];
        for (name, time) in times {
            if time > LONGEST || time.is_zero() {
                found.push(format!("{name} is {time:?}, which is nothing or more than ten years"));
            }
        }
        if self.body_timeout > LONGEST_BODY {
            found
                .push(format!("batches.body_timeout is {:?}, more than {LONGEST_BODY:?}", self.body_timeout));
        }
        if self.retention < answers {
            found.push(format!(
                "batches.retention is {:?}, less than idempotency.retention ({answers:?}): a key would outlive its answer",
                self.retention
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_before_its_files_are_swept() {
        let found = |minutes| {
            let body_timeout = Duration::from_mins(minutes);
            BatchSettings { body_timeout, ..BatchSettings::default() }.check(Duration::from_hours(1))
        };
        assert_eq!(found(45), Vec::<String>::new());
        assert_eq!(found(46), ["batches.body_timeout is 2760s, more than 2700s"]);
    }
}
