//! How limits stand.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eyebolt_admission::Decision;
use eyebolt_types::{LimitScope, Policy};

use super::{QuotaSettings, counters::Cost, limit::scale};

/// How one limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whose.
    pub scope: LimitScope,
    /// Which one.
    pub policy: Policy,
    /// Its value.
    pub limit: u64,
    /// What is left.
    pub remaining: u64,
    /// In what time; none where it is no matter of time.
    pub window: Option<Duration>,
    /// Until one more is left.
    pub next_in: Option<Duration>,
    /// Until all of it is left.
    pub full_in: Option<Duration>,
    /// Whether so little is left that the client is warned.
    pub warned: bool,
}

impl Standing {
    /// How much of it is used.
    pub fn percent(&self) -> u64 {
        let used = u128::from(self.limit.saturating_sub(self.remaining)) * 100;
        used.checked_div(u128::from(self.limit)).map_or(100, |percent| percent as u64)
    }
}

/// How the limits of a request's caller stood when they were last asked for it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Option<Vec<Standing>>>>);

impl Told {
    pub(super) fn set(&self, standing: Vec<Standing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }

    pub(super) fn get(&self) -> Option<Vec<Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn scope_of(cost: &Cost) -> LimitScope {
    if cost.name.key.is_some() { LimitScope::Key } else { LimitScope::Project }
}

pub(super) fn stands(cost: &Cost, left: Decision, settings: &QuotaSettings) -> Standing {
    let (policy, limit) = (cost.name.policy, value_of(cost));
    let remaining = (left.remaining / scale(policy)).min(limit);
    Standing {
        scope: scope_of(cost),
        policy,
        limit,
        remaining,
        window: Some(cost.quota.window),
        next_in: Some(left.next_in),
        full_in: Some(left.full_in),
        warned: is_warned(limit, remaining, settings),
    }
}

pub(super) fn value_of(cost: &Cost) -> u64 {
    cost.quota.units / scale(cost.name.policy)
}

pub(super) fn is_warned(limit: u64, remaining: u64, settings: &QuotaSettings) -> bool {
    let used = limit.saturating_sub(remaining);
    u128::from(used) * 100 >= u128::from(limit) * u128::from(settings.warn_at_percent)
}
