//! Section `quotas` of the settings.

use std::collections::BTreeMap;

use eyebolt_types::Limits;
use serde::{Deserialize, Serialize};

/// What projects may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaSettings {
    /// The plan of projects that have none of their own.
    pub plan: String,
    /// Whether limits only count and report, and refuse nothing.
    pub shadow: bool,
    /// Percent of a limit from which on answers carry a warning.
    pub warn_at_percent: u8,
    /// Limits by plan.
    pub plans: BTreeMap<String, Limits>,
}

impl Default for QuotaSettings {
    fn default() -> Self {
        let plans = [("standard".to_owned(), Limits::default())];
        Self { plan: "standard".to_owned(), shadow: false, warn_at_percent: 80, plans: plans.into() }
    }
}

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
        found
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
        assert!(toml::from_str::<QuotaSettings>("[plans.free]\nrequests_per_minute = -1").is_err());
    }
}
