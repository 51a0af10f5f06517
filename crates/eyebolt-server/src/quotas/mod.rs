//! The room "quotas": what was agreed with a project, and what is left of it. Refusing here says "you", not "we": the
//! machine may be idle.

mod counters;
mod refusals;
mod settings;

use std::{sync::Arc, time::Duration};

use eyebolt_admission::{Decision, Quota};
use eyebolt_store::Principal;
use eyebolt_types::{Clock, Limits, Mode, Policy, id::ProjectId};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use self::counters::{Cost, Counters};
pub(crate) use self::refusals::Refusals;
pub use self::settings::QuotaSettings;

/// A limit of the project is used up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the limit {} of {limit} is used up: {needed} would be needed, {remaining} are left", policy.name())]
pub struct Exceeded {
    /// Which one.
    pub policy: Policy,
    /// Its value.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// What the request would have taken.
    pub needed: u64,
    /// When it could be had; none: never, since it is more than the limit.
    pub retry_in: Option<Duration>,
    /// The same on the clock.
    pub resets_at: Option<Timestamp>,
}

/// How one limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub policy: Policy,
    /// Its value.
    pub limit: u64,
    /// What is left.
    pub remaining: u64,
    /// Until one more is left.
    pub next_in: Duration,
    /// Until all of it is left.
    pub full_in: Duration,
    /// Whether so little is left that the client is warned.
    pub warned: bool,
}

/// What was taken for a request: given back when dropped, unless it was spent.
#[derive(Debug)]
#[must_use = "what is not spent is given back"]
pub(crate) struct Taken {
    quotas: Quotas,
    whose: (ProjectId, Mode),
    costs: Vec<Cost>,
}

impl Taken {
    /// It was used.
    pub(crate) fn spend(mut self) {
        self.costs.clear();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.costs.is_empty() {
            self.quotas.0.counters.give_back(self.whose, &self.costs);
        }
    }
}

/// The limits of all projects. Cheap to clone; every clone counts in the same place.
#[derive(Debug, Clone)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: QuotaSettings,
    counters: Counters,
    refused: refusals::Counted,
    clock: Clock,
}

impl Quotas {
    /// Nothing is used yet.
    pub fn new(settings: QuotaSettings, clock: Clock) -> Self {
        let (counters, refused) = (Counters::default(), refusals::Counted::default());
        Self(Arc::new(Inner { settings, counters, refused, clock }))
    }

    /// Whether limits only count.
    pub fn shadow(&self) -> bool {
        self.0.settings.shadow
    }

    /// Whether there is such a plan.
    ///
    /// # Errors
    /// Where there is not: with those that there are.
    pub fn check_plan(&self, plan: &str) -> Result<(), String> {
        self.0.settings.check_plan(plan)
    }

    /// The plan of a caller's project, and its limits.
    pub fn limits<'a>(&'a self, caller: &'a Principal) -> (&'a str, Limits) {
        let settings = &self.0.settings;
        let own = caller.plan.as_deref().filter(|plan| settings.plans.contains_key(*plan));
        if let (None, Some(plan)) = (own, &caller.plan) {
            tracing::debug!(project = %caller.project, plan, "there is no such plan: the standard one is taken");
        }
        let plan = own.unwrap_or(&settings.plan);
        let limits = settings.plans.get(plan).cloned().unwrap_or_default();
        (plan, caller.limits.over(&limits))
    }

    /// Takes this much of each policy, or nothing. Megapixels come in thousandths.
    ///
    /// # Errors
    /// Where a limit is used up; of several, the one that lasts longest.
    pub(crate) fn take(&self, caller: &Principal, wanted: &[(Policy, u64)]) -> Result<Taken, Exceeded> {
        let (_, limits) = self.limits(caller);
        let cost = |&(policy, units): &(Policy, u64)| {
            let quota = quota(policy, limits.get(policy)?);
            Some(Cost { policy, quota, units })
        };
        let costs: Vec<_> = wanted.iter().filter_map(cost).collect();
        let (whose, now) = ((caller.project, caller.mode), self.now());
        let decisions = self.0.counters.take(whose, &costs, now);
        let refused = costs.iter().zip(&decisions).filter(|(_, decision)| !decision.admitted);
        let Some(mut exceeded) = refused.map(exceeded).max_by_key(lasts) else {
            return Ok(Taken { quotas: self.clone(), whose, costs });
        };
        let resets_in = exceeded.retry_in.and_then(|wait| SignedDuration::try_from(wait).ok());
        exceeded.resets_at = resets_in.and_then(|wait| self.0.clock.now().checked_add(wait).ok());
        self.0.refused.add(exceeded.policy, self.shadow());
        tracing::info!(project = %caller.project, policy = exceeded.policy.name(), shadow = self.shadow(), "over the limit");
        if self.shadow() {
            self.0.counters.take_what_is_left(whose, &costs, now);
            return Ok(Taken { quotas: self.clone(), whose, costs: Vec::new() });
        }
        Err(exceeded)
    }

    /// How often somebody was over a limit.
    pub(crate) fn refusals(&self) -> Refusals {
        self.0.refused.read()
    }

    /// How every limit of a caller's project stands, by policy.
    pub fn standing(&self, caller: &Principal) -> Vec<Standing> {
        let (now, warn) = (self.now(), u64::from(self.0.settings.warn_at_percent));
        let (_, limits) = self.limits(caller);
        let stands = |(&policy, &limit): (&Policy, &u64)| {
            let name = (caller.project, caller.mode, policy);
            let decision = self.0.counters.look(name, quota(policy, limit), now);
            let remaining = decision.remaining / scale(policy);
            let used = limit.saturating_sub(remaining);
            let warned = u128::from(used) * 100 >= u128::from(limit) * u128::from(warn);
            let Decision { next_in, full_in, .. } = decision;
            Standing { policy, limit, remaining, next_in, full_in, warned }
        };
        limits.0.iter().map(stands).collect()
    }

    /// Since the epoch: what other processes count from, too.
    fn now(&self) -> Duration {
        Duration::try_from(self.0.clock.now().as_duration()).unwrap_or_default()
    }
}

/// Rounded up: whoever waits so long has waited long enough.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Parts that a unit is counted in.
fn scale(policy: Policy) -> u64 {
    if policy == Policy::MegapixelsPerMinute { 1000 } else { 1 }
}

fn quota(policy: Policy, limit: u64) -> Quota {
    Quota::new(limit.saturating_mul(scale(policy)), policy.window())
}

fn exceeded((cost, decision): (&Cost, &Decision)) -> Exceeded {
    let scale = scale(cost.policy);
    Exceeded {
        policy: cost.policy,
        limit: cost.quota.units / scale,
        remaining: decision.remaining / scale,
        needed: cost.units.div_ceil(scale),
        retry_in: decision.retry_in,
        resets_at: None,
    }
}

fn lasts(exceeded: &Exceeded) -> Duration {
    exceeded.retry_in.unwrap_or(Duration::MAX)
}
