//! Section `admission` of the settings.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// How the machine is shared while there is more to do than it can.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionSettings {
    /// Part of the machine that jobs get which nobody waits for on a connection, as long as there are some: 0 to 0.9.
    pub standard_share: f64,
    /// The same of batches.
    pub batch_share: f64,
    /// Whether a request with an idempotency key that finds the machine full becomes a job (`202`) instead of being
    /// refused.
    pub answer_later: bool,
    /// Requests that allow it are looked at less closely as soon as one that comes would wait for so long.
    #[serde(with = "friendly")]
    pub degrade_after: Duration,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self {
            standard_share: 0.2,
            batch_share: 0.1,
            answer_later: true,
            degrade_after: Duration::from_millis(250),
        }
    }
}

impl AdmissionSettings {
    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let shares = [("standard_share", self.standard_share), ("batch_share", self.batch_share)];
        let outside = shares.into_iter().filter(|(_, share)| !(0.0..=0.9).contains(share));
        let mut found: Vec<_> =
            outside.map(|(name, share)| format!("admission.{name} is {share}, outside 0 to 0.9")).collect();
        let sum = self.standard_share + self.batch_share;
        if found.is_empty() && sum > 0.9 {
            found.push(format!(
                "admission.standard_share and admission.batch_share are {sum} together, more than 0.9: nothing would be \
                 left for those who wait"
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_leave_something_to_those_who_wait() {
        assert_eq!(AdmissionSettings::default().check(), Vec::<String>::new());
        for (standard, batch, mistakes) in [(0.6, 0.6, 1), (-0.1, 1.5, 2), (f64::NAN, 0.1, 1), (0.9, 0.0, 0)]
        {
            let settings = AdmissionSettings {
                standard_share: standard,
                batch_share: batch,
                ..AdmissionSettings::default()
            };
            assert_eq!(settings.check().len(), mistakes, "{standard} and {batch}");
        }
    }
}
