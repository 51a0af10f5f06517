//! Sections `jobs`, `idempotency` and `dedup` of the settings.

use std::time::Duration;

use eyebolt_types::DedupPolicy;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// Section `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// Jobs that run at once; 0: twice the engine's threads and two, so that the next image is there when a thread is
    /// free.
    pub slots: usize,
    /// How long a worker without a sign of life keeps its jobs.
    #[serde(with = "friendly")]
    pub lease: Duration,
    /// Between two signs of life.
    #[serde(with = "friendly")]
    pub heartbeat: Duration,
    /// From acceptance to the end, waiting included.
    #[serde(with = "friendly")]
    pub deadline: Duration,
    /// Attempts at a step that fails for a passing reason.
    pub max_attempts: u32,
    /// How long what failed can be run again by `:retry` or the same key.
    #[serde(with = "friendly")]
    pub retryable: Duration,
    /// How long a job can be read after its end; then it is removed. What it cost stays.
    #[serde(with = "friendly")]
    pub retention: Duration,
    /// How long an image is kept after the end of the last job that it was sent with.
    #[serde(with = "friendly")]
    pub image_retention: Duration,
    /// How long a caller waits who says nothing.
    #[serde(with = "friendly")]
    pub wait: Duration,
    /// How long a caller may wait.
    #[serde(with = "friendly")]
    pub max_wait: Duration,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            slots: 0,
            lease: Duration::from_secs(10),
            heartbeat: Duration::from_secs(3),
            deadline: Duration::from_mins(15),
            max_attempts: 3,
            retryable: Duration::from_hours(24),
            retention: Duration::from_hours(30 * 24),
            image_retention: Duration::from_hours(7 * 24),
            wait: Duration::from_secs(10),
            max_wait: Duration::from_secs(55),
        }
    }
}

/// Section `idempotency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdempotencySettings {
    /// Whether a request that starts work must have a key.
    pub required: bool,
    /// How long an answer is kept after its job ended.
    #[serde(with = "friendly")]
    pub retention: Duration,
    /// How long clients of this server go on retrying.
    #[serde(with = "friendly")]
    pub retry_horizon: Duration,
}

impl Default for IdempotencySettings {
    fn default() -> Self {
        Self {
            required: true,
            retention: Duration::from_hours(7 * 24),
            retry_horizon: Duration::from_hours(24),
        }
    }
}

/// Section `dedup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DedupSettings {
    /// What happens to an image that was seen before, where the project does not say.
    pub policy: DedupPolicy,
    /// How long an image is remembered.
    #[serde(with = "friendly")]
    pub window: Duration,
}

impl Default for DedupSettings {
    fn default() -> Self {
        Self { policy: DedupPolicy::Flag, window: Duration::from_hours(24) }
    }
}

/// No time in the settings is longer: ten years.
const LONGEST: Duration = Duration::from_hours(24 * 3653);

/// No lease is shorter: a heartbeat has to reach the disk in the meantime.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// More slots than any machine has use for.
const MOST_SLOTS: usize = 100_000;

/// Times that nobody could mean, in a sentence each.
fn too_long(times: &[(&str, Duration)]) -> Vec<String> {
    let too_long = times.iter().filter(|(_, time)| *time > LONGEST);
    too_long.map(|(name, time)| format!("{name} is {time:?}, more than ten years")).collect()
}

impl DedupSettings {
    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        too_long(&[("dedup.window", self.window)])
    }
}

impl JobSettings {
    /// What can't work, in a sentence each. `request_timeout` is the edge's.
    pub fn check(&self, request_timeout: Duration) -> Vec<String> {
        let mut found = too_long(&[
            ("jobs.lease", self.lease),
            ("jobs.heartbeat", self.heartbeat),
            ("jobs.deadline", self.deadline),
            ("jobs.retryable", self.retryable),
            ("jobs.retention", self.retention),
            ("jobs.image_retention", self.image_retention),
        ]);
        if !found.is_empty() {
            return found;
        }
        if self.slots > MOST_SLOTS {
            found.push(format!("jobs.slots is {}, more than {MOST_SLOTS}", self.slots));
        }
        if self.lease < SHORTEST_LEASE {
            found.push(format!("jobs.lease is {:?}, less than {SHORTEST_LEASE:?}", self.lease));
        }
        if self.heartbeat.is_zero() || self.heartbeat * 2 > self.lease {
            found.push(format!(
                "jobs.heartbeat is {:?}: a lease of {:?} (jobs.lease) must outlive two of them",
                self.heartbeat, self.lease
            ));
        }
        if self.max_attempts == 0 {
            found.push("jobs.max_attempts is 0: nothing would ever run".to_owned());
        }
        if self.max_wait >= request_timeout {
            found.push(format!(
                "jobs.max_wait is {:?}, not less than http.request_timeout ({request_timeout:?})",
                self.max_wait
            ));
        }
        if self.image_retention < self.retryable {
            found.push(format!(
                "jobs.image_retention is {:?}, less than jobs.retryable ({:?}): what failed could not be run again",
                self.image_retention, self.retryable
            ));
        }
        if self.image_retention > self.retention {
            found.push(format!(
                "jobs.image_retention is {:?}, more than jobs.retention ({:?}): an image goes with its last job",
                self.image_retention, self.retention
            ));
        }
        if self.deadline < self.lease {
            found.push(format!(
                "jobs.deadline is {:?}, less than jobs.lease ({:?})",
                self.deadline, self.lease
            ));
        }
        found
    }
}

impl IdempotencySettings {
    /// What can't work, in a sentence each. A key must outlive the last retry of a client, counted from the end of the
    /// job that it may still be waiting for.
    pub fn check(&self, jobs: &JobSettings) -> Vec<String> {
        let times =
            [("idempotency.retention", self.retention), ("idempotency.retry_horizon", self.retry_horizon)];
        let mut found = too_long(&times);
        let needed = self.retry_horizon.saturating_add(jobs.deadline);
        if self.retention < needed {
            found.push(format!(
                "idempotency.retention is {:?}, less than idempotency.retry_horizon and jobs.deadline together \
                 ({needed:?}): a late retry would run, and be charged, twice",
                self.retention
            ));
        }
        let (day, month) = (Duration::from_hours(24), Duration::from_hours(30 * 24));
        if !(day..=month).contains(&self.retention) {
            found.push(format!("idempotency.retention is {:?}, outside 24h to 720h", self.retention));
        }
        if jobs.retryable > self.retention {
            found.push(format!(
                "jobs.retryable is {:?}, more than idempotency.retention ({:?})",
                jobs.retryable, self.retention
            ));
        }
        if jobs.retention < self.retention {
            found.push(format!(
                "jobs.retention is {:?}, less than idempotency.retention ({:?}): a key would outlive its answer",
                jobs.retention, self.retention
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_shorter_than_the_retry_horizon_is_refused() {
        let (sound, jobs) = (IdempotencySettings::default(), JobSettings::default());
        assert_eq!(sound.check(&jobs), Vec::<String>::new());
        let horizon = Duration::from_hours(7 * 24);
        let short = IdempotencySettings { retry_horizon: horizon, ..sound };
        let found = short.check(&jobs);
        assert!(found.len() == 1 && found[0].contains("twice"), "{found:?}");
    }

    #[test]
    fn times_that_nobody_could_mean_are_refused() {
        let ages = Duration::from_secs(u64::MAX);
        assert_eq!(DedupSettings { window: ages, ..DedupSettings::default() }.check().len(), 1);
        let jobs = JobSettings { deadline: ages, heartbeat: ages, ..JobSettings::default() };
        assert_eq!(jobs.check(Duration::from_mins(1)).len(), 2);
        let keys = IdempotencySettings { retry_horizon: ages, ..IdempotencySettings::default() };
        assert_eq!(keys.check(&jobs).len(), 2, "too long, and longer than answers are kept");
        let short = Duration::from_millis(2);
        let jobs =
            JobSettings { lease: short, heartbeat: short / 2, slots: usize::MAX, ..JobSettings::default() };
        assert_eq!(jobs.check(Duration::from_mins(1)).len(), 2);
    }

    #[test]
    fn nothing_is_kept_for_less_than_it_is_promised_to_be_of_use() {
        let (keys, days) = (IdempotencySettings::default(), |days: u64| Duration::from_hours(24 * days));
        let said = |retention, image_retention| {
            let jobs = JobSettings { retention, image_retention, ..JobSettings::default() };
            [jobs.check(Duration::from_mins(1)), keys.check(&jobs)].concat()
        };
        assert_eq!(said(days(7), days(1)), Vec::<String>::new());
        let short = said(days(6), days(1));
        assert!(short.len() == 1 && short[0].contains("less than idempotency.retention"), "{short:?}");
        let short = said(days(7), days(1) / 2);
        assert!(short.len() == 1 && short[0].contains("less than jobs.retryable"), "{short:?}");
        let long = said(days(7), days(8));
        assert!(long.len() == 1 && long[0].contains("more than jobs.retention"), "{long:?}");
    }

    #[test]
    fn a_lease_that_one_late_heartbeat_loses_is_refused() {
        let jobs = JobSettings { heartbeat: Duration::from_secs(6), ..JobSettings::default() };
        assert_eq!(jobs.check(Duration::from_mins(1)).len(), 1);
        assert_eq!(JobSettings::default().check(Duration::from_mins(1)), Vec::<String>::new());
        assert_eq!(JobSettings::default().check(Duration::from_secs(30)).len(), 1, "the edge waits less");
    }
}
