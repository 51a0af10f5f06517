//! Which limits a caller has.

use std::time::Duration;

use eyebolt_admission::Quota;
use eyebolt_store::Principal;
use eyebolt_types::{Counting, LimitScope, MAX_LIMIT, Policy};

use super::{
    QuotaSettings,
    counters::{Cost, Name},
};

/// One limit of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) scope: LimitScope,
    pub(super) policy: Policy,
    pub(super) value: u64,
}

/// Those of the caller's project, then those of its key. A plan that there is no more is the standard one.
pub(super) fn limits<'a>(
    settings: &'a QuotaSettings,
    caller: &'a Principal,
) -> impl Iterator<Item = Limit> + 'a {
    let plan = settings.plans.get(plan(settings, caller));
    let of_project = move |policy| match caller.limits.0.get(&policy) {
        Some(own) => *own,
        None => plan.and_then(|plan| plan.get(policy)),
    };
    let limit = |scope, policy, value: Option<u64>| value.map(|value| Limit { scope, policy, value });
    let project = move |policy| limit(LimitScope::Project, policy, of_project(policy));
    let key = move |policy| limit(LimitScope::Key, policy, caller.key_limits.get(policy));
    Policy::ALL.into_iter().filter_map(project).chain(Policy::ALL.into_iter().filter_map(key))
}

/// The plan of a caller's project.
pub(super) fn plan<'a>(settings: &'a QuotaSettings, caller: &'a Principal) -> &'a str {
    let own = caller.plan.as_deref().filter(|plan| settings.plans.contains_key(*plan));
    if let (None, Some(plan)) = (own, &caller.plan) {
        tracing::debug!(project = %caller.project, plan, "there is no such plan: the standard one is taken");
    }
    own.unwrap_or(&settings.plan)
}

impl Limit {
    /// So many units of it as something that is counted by time; none where it is not.
    pub(super) fn cost(self, caller: &Principal, units: u64) -> Option<Cost> {
        let Counting::Rate(window) = self.policy.counting() else { return None };
        Some(Cost { name: self.name(caller), quota: self.quota(window), units })
    }

    pub(super) fn name(self, caller: &Principal) -> Name {
        let key = (self.scope == LimitScope::Key).then_some(caller.key);
        Name { project: caller.project, key, mode: caller.mode, policy: self.policy }
    }

    /// More than any counter counts to is as good as no limit.
    fn quota(self, window: Duration) -> Quota {
        Quota::new(self.value.saturating_mul(scale(self.policy)).min(MAX_LIMIT), window)
    }
}

/// Parts that a unit is counted in.
pub(super) fn scale(policy: Policy) -> u64 {
    if policy == Policy::MegapixelsPerMinute { 1000 } else { 1 }
}
