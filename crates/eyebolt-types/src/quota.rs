//! What a project may use, as it was agreed.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::ToSchema;

use crate::UnknownName;

/// One thing that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Requests that start or change something, retries among them.
    RequestsPerMinute,
    /// Requests that only read or cancel.
    ReadsPerMinute,
    /// Features of accepted images: what is charged.
    UnitsPerMinute,
    /// Megapixels of accepted images, as their headers tell them.
    MegapixelsPerMinute,
    /// Bytes of accepted images.
    BytesPerDay,
    /// Jobs that were accepted and have not ended.
    ConcurrentJobs,
    /// Features of accepted images in a month of the calendar (UTC), without those that were given back.
    UnitsPerMonth,
}

/// How a policy is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// So much in this time, evenly.
    Rate(Duration),
    /// So many at once.
    AtOnce,
    /// So much in a month of the calendar.
    Month,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RequestsPerMinute,
        Self::ReadsPerMinute,
        Self::UnitsPerMinute,
        Self::MegapixelsPerMinute,
        Self::BytesPerDay,
        Self::ConcurrentJobs,
        Self::UnitsPerMonth,
    ];

    /// The name in settings, headers and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::ReadsPerMinute => "reads_per_minute",
            Self::UnitsPerMinute => "units_per_minute",
            Self::MegapixelsPerMinute => "megapixels_per_minute",
            Self::BytesPerDay => "bytes_per_day",
            Self::ConcurrentJobs => "concurrent_jobs",
            Self::UnitsPerMonth => "units_per_month",
        }
    }

    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Self::RequestsPerMinute | Self::ReadsPerMinute => "requests",
            Self::UnitsPerMinute | Self::UnitsPerMonth => "units",
            Self::MegapixelsPerMinute => "megapixels",
            Self::BytesPerDay => "bytes",
            Self::ConcurrentJobs => "jobs",
        }
    }

    /// How it is counted.
    pub fn counting(self) -> Counting {
        match self {
            Self::BytesPerDay => Counting::Rate(Duration::from_hours(24)),
            Self::ConcurrentJobs => Counting::AtOnce,
            Self::UnitsPerMonth => Counting::Month,
            _ => Counting::Rate(Duration::from_mins(1)),
        }
    }
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitScope {
    /// The project's: all of its keys share it.
    Project,
    /// The key's own, beside the project's.
    Key,
}

impl LimitScope {
    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Key => "key",
        }
    }
}

/// The names, in the order of [`Policy::ALL`].
const NAMES: [&str; Policy::ALL.len()] = {
    let mut names = [""; Policy::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Policy::ALL[at].name();
        at += 1;
    }
    names
};

/// By hand, from a string: as the name of a member it is a part of the places that mistakes are told with.
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| D::Error::unknown_variant(&name, &NAMES))
    }
}

impl FromStr for Policy {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|policy| policy.name() == name).ok_or(UnknownName)
    }
}

/// Limits by policy; a policy that is not there has no limit, and 0 lets nothing in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = BTreeMap<String, u64>)]
pub struct Limits(pub BTreeMap<Policy, u64>);

/// The largest limit: what counters can count in a day.
pub const MAX_LIMIT: u64 = 1_000_000_000_000_000;

impl Limits {
    /// The limit of a policy; none where there is none.
    pub fn get(&self, policy: Policy) -> Option<u64> {
        self.0.get(&policy).copied()
    }

    /// What can't be a limit, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let too_large = self.0.iter().filter(|(_, limit)| **limit > MAX_LIMIT);
        too_large
            .map(|(policy, limit)| format!("{} is {limit}, more than {MAX_LIMIT}", policy.name()))
            .collect()
    }
}

/// What a project has otherwise than its plan: another limit, or none at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = BTreeMap<String, Option<u64>>)]
pub struct LimitOverrides(pub BTreeMap<Policy, Option<u64>>);

impl LimitOverrides {
    /// The plan's limits with these in their place.
    pub fn over(&self, plan: &Limits) -> Limits {
        let mut limits = plan.clone();
        for (policy, limit) in &self.0 {
            match limit {
                Some(limit) => limits.0.insert(*policy, *limit),
                None => limits.0.remove(policy),
            };
        }
        limits
    }

    /// What can't be a limit, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        self.over(&Limits::default()).check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for policy in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
            assert_eq!(serde_json::to_string(&policy).unwrap(), format!("{:?}", policy.name()));
        }
    }

    #[test]
    fn a_project_may_have_more_less_or_no_limit() {
        let plan: Limits =
            serde_json::from_str(r#"{"requests_per_minute": 60, "units_per_minute": 10}"#).unwrap();
        let own: LimitOverrides =
            serde_json::from_str(r#"{"requests_per_minute": null, "bytes_per_day": 0}"#).unwrap();
        let limits = own.over(&plan);
        assert_eq!(limits.get(Policy::RequestsPerMinute), None);
        assert_eq!(limits.get(Policy::UnitsPerMinute), Some(10));
        assert_eq!(limits.get(Policy::BytesPerDay), Some(0));
        assert_eq!(
            serde_json::from_str::<LimitOverrides>(&serde_json::to_string(&own).unwrap()).unwrap(),
            own
        );
    }

    #[test]
    fn absurd_limits_are_refused() {
        for absurd in
            [r#"{"requests_per_minute": -1}"#, r#"{"requests_per_hour": 1}"#, r#"{"bytes_per_day": 1.5}"#]
        {
            assert!(serde_json::from_str::<Limits>(absurd).is_err(), "{absurd}");
        }
        let huge: Limits = serde_json::from_str(r#"{"bytes_per_day": 18446744073709551615}"#).unwrap();
        assert_eq!(huge.check().len(), 1);
    }
}
