//! Section `quotas` of the settings.

use std::{collections::BTreeMap, time::Duration};

use eyebolt_types::Limits;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

use super::redis::Redis;
use crate::access::Hidden;

/// What projects may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaSettings {
    /// The plan of projects that have none of their own.
    pub plan: String,
    /// Whether limits only count and report, and refuse nothing.
    pub shadow: bool,
    /// Percent of a limit from which on answers carry a warning.
    pub warn_at_percent: u8,
    /// How answers tell limits in headers.
    pub headers: HeaderFields,
    /// Where several servers count together: `redis://` or `rediss://`; empty: in the server's memory. Hidden, since it may
    /// hold a password.
    pub counters_url: Hidden,
    /// What every key in there begins with.
    pub counters_prefix: String,
    /// How long a request waits for an answer from there.
    #[serde(with = "friendly")]
    pub counters_timeout: Duration,
    /// The part of each limit that a server gives out by itself while there is none, above 0 to 1.
    pub fallback_share: f64,
    /// Limits by plan.
    pub plans: BTreeMap<String, Limits>,
}

/// The header fields that tell limits: draft-ietf-httpapi-ratelimit-headers in one of its forms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderFields {
    /// None.
    #[serde(rename = "off")]
    Off,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`: of the limit that is nearest to its end.
    #[serde(rename = "draft-06")]
    Draft06,
    /// `RateLimit: limit=…, remaining=…, reset=…`: of the limit that is nearest to its end.
    #[serde(rename = "draft-07")]
    Draft07,
    /// A list of all limits, with `r` and `t`: versions 08 to 10.
    #[default]
    #[serde(rename = "draft-10")]
    Draft10,
    /// The same with `a` and `w` beside them, as version 11 calls them.
    #[serde(rename = "draft-11")]
    Draft11,
}

impl Default for QuotaSettings {
    fn default() -> Self {
        let plans = [("standard".to_owned(), Limits::default())];
        Self {
            plan: "standard".to_owned(),
            shadow: false,
            warn_at_percent: 80,
            headers: HeaderFields::default(),
            counters_url: Hidden::default(),
            counters_prefix: "eyebolt".to_owned(),
            counters_timeout: Duration::from_millis(50),
            fallback_share: 0.5,
            plans: plans.into(),
        }
    }
}

/// A request that waits for longer than this for its limits is better decided here.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(5);

impl QuotaSettings {
    /// Whether there is such a plan.
    ///
    /// # Errors
    /// Where there is not: with those that there are.
    pub fn check_plan(&self, plan: &str) -> Result<(), String> {
        if self.plans.contains_key(plan) {
            return Ok(());
        }
        let known: Vec<_> = self.plans.keys().map(String::as_str).collect();
        Err(format!("is none of the plans of this server: {}", known.join(", ")))
    }

    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.plans.contains_key(&self.plan) {
            found.push(format!("quotas.plan is {:?}, and there is no such plan in quotas.plans", self.plan));
        }
        if !(1..=100).contains(&self.warn_at_percent) {
            found.push(format!("quotas.warn_at_percent is {}, outside 1 to 100", self.warn_at_percent));
        }
        for (plan, limits) in &self.plans {
            found.extend(limits.check().into_iter().map(|what| format!("quotas.plans.{plan}.{what}")));
        }
        found.extend(self.check_counters());
        found
    }

    fn check_counters(&self) -> Vec<String> {
        let mut found = Vec::new();
        let url = self.counters_url.reveal();
        let address = |scheme| url.starts_with(scheme) && Redis::new(url, "").is_ok();
        // What is wrong with it is not said: it may hold a password.
        if !(url.is_empty() || address("redis://") || address("rediss://")) {
            found
                .push("quotas.counters_url is no address such as redis://HOST:6379 or rediss://…".to_owned());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        let prefix = &self.counters_prefix;
        if !(1..=64).contains(&prefix.len()) || !prefix.chars().all(plain) {
            found.push(format!("quotas.counters_prefix is {prefix:?}, not 1 to 64 letters, digits and _-.:"));
        }
        if !(Duration::from_millis(1)..=LONGEST_TIMEOUT).contains(&self.counters_timeout) {
            let (timeout, longest) = (self.counters_timeout, LONGEST_TIMEOUT);
            found.push(format!("quotas.counters_timeout is {timeout:?}, outside 1ms to {longest:?}"));
        }
        // Written so that what is no number is refused too.
        if !(self.fallback_share >= 0.001 && self.fallback_share <= 1.0) {
            found.push(format!("quotas.fallback_share is {}, outside 0.001 to 1", self.fallback_share));
        }
        found
    }

    /// Whether the counters of other settings are in another place, so that they are found only by a new start.
    pub(super) fn counts_elsewhere(&self, other: &Self) -> bool {
        let place = |of: &Self| (of.counters_url.clone(), of.counters_prefix.clone());
        place(self) != place(other)
            || self.counters_timeout != other.counters_timeout
            || self.fallback_share != other.fallback_share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(QuotaSettings::default().check(), Vec::<String>::new());
        let text = "plan = 'gold'\nwarn_at_percent = 0\n[plans.free]\nbytes_per_day = 9000000000000000000";
        let wrong: QuotaSettings = toml::from_str(text).unwrap();
        let found = wrong.check();
        assert!(
            found.len() == 3 && found[2].starts_with("quotas.plans.free.bytes_per_day is 9"),
            "{found:?}"
        );
        for absurd in [
            "[plans.free]\nrequests_per_minute = -1",
            "[plans.free]\nconcurrent_jobs = 1.5",
            "[plans.free]\nunits_per_year = 1",
            "headers = 'draft-99'",
        ] {
            assert!(toml::from_str::<QuotaSettings>(absurd).is_err(), "{absurd}");
        }
    }

    #[test]
    fn counters_that_cannot_work_are_named_without_their_password() {
        for (text, named) in [
            ("counters_url = 'http://:sesame@db'", "counters_url"),
            ("counters_url = 'rediss://:sesame@db:6380/1'", ""),
            ("counters_url = 'redis://:sesame@db:port'", "counters_url"),
            ("counters_prefix = ''", "counters_prefix"),
            ("counters_prefix = 'a{b}'", "counters_prefix"),
            ("counters_timeout = '0s'", "counters_timeout"),
            ("counters_timeout = '1h'", "counters_timeout"),
            ("fallback_share = 0.0", "fallback_share"),
            ("fallback_share = 1.5", "fallback_share"),
            ("fallback_share = nan", "fallback_share"),
            ("fallback_share = -1.0", "fallback_share"),
        ] {
            let settings: QuotaSettings = toml::from_str(text).unwrap();
            let found = settings.check().join("; ");
            assert!(found.contains(named) && found.is_empty() == named.is_empty(), "{text}: {found}");
            assert!(
                !found.contains("sesame") && !format!("{settings:?}").contains("sesame"),
                "{text}: {found}"
            );
        }
    }
}
