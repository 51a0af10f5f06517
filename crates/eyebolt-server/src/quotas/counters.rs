//! Where it is counted how much of each limit is used. Wherever that is, a counter keeps one number and what a unit of it
//! stands for (so that what was used stays used where a limit is changed), and what it means is decided by
//! [`Quota::decide`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eyebolt_admission::{Decision, Gcra, Quota};
use eyebolt_types::{
    Clock, Mode, Policy,
    id::{KeyId, ProjectId},
};
use thiserror::Error;

/// Whose counter, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) project: ProjectId,
    /// None: the project's own.
    pub(super) key: Option<KeyId>,
    pub(super) mode: Mode,
    pub(super) policy: Policy,
}

/// What one request costs of a limit; nothing: it is only looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) name: Name,
    pub(super) quota: Quota,
    pub(super) units: u64,
}

/// What happens where a cost is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing is taken, of any limit.
    Refuse,
    /// What is left is taken.
    TakeLeft,
}

/// What a counter said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// By what it was counted.
    pub(super) quota: Quota,
    /// What was still to leak out before, nanoseconds.
    pub(super) backlog: u128,
}

/// The counters can't be asked now.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Away(pub(super) String);

/// Counters, one for each name.
pub(super) trait Counters: Send + Sync + 'static {
    /// Takes all costs, or as `over` says; what each counter said before, in their order.
    fn take(&self, costs: &[Cost], over: Over) -> impl Future<Output = Result<Vec<Counted>, Away>> + Send;

    /// Gives back what was taken and not used.
    fn give_back(&self, costs: &[Cost]) -> impl Future<Output = Result<(), Away>> + Send;
}

/// Whether each cost was let in for itself: all were taken where all were.
pub(super) fn decisions<'a>(
    costs: &'a [Cost],
    counted: &'a [Counted],
) -> impl Iterator<Item = (&'a Cost, Decision)> {
    costs
        .iter()
        .zip(counted)
        .map(|(cost, counted)| (cost, counted.quota.decide(cost.units, counted.backlog).0))
}

/// How each limit stands after that.
pub(super) fn standing<'a>(
    costs: &'a [Cost],
    counted: &'a [Counted],
    over: Over,
) -> impl Iterator<Item = (&'a Cost, Decision)> {
    let all = decisions(costs, counted).all(|(_, decision)| decision.admitted);
    costs.iter().zip(counted).map(move |(cost, Counted { quota, backlog })| {
        let taken = match over {
            _ if all => cost.units,
            Over::Refuse => 0,
            Over::TakeLeft => cost.units.min(quota.decide(0, *backlog).0.remaining),
        };
        (cost, quota.decide(taken, *backlog).0)
    })
}

/// Counters in this process. Those that are full again are forgotten.
#[derive(Debug)]
pub(super) struct Memory {
    counters: Mutex<HashMap<Name, Gcra>>,
    clock: Clock,
}

/// With so many counters the full ones are looked for; then again at twice what is left.
const TIDY_AT: usize = 4096;

impl Memory {
    pub(super) fn new(clock: Clock) -> Self {
        Self { counters: Mutex::default(), clock }
    }

    /// As [`Counters::take`].
    pub(super) fn take_now(&self, costs: &[Cost], over: Over) -> Vec<Counted> {
        let now = self.now();
        let mut counters = self.counters();
        let count = |cost: &Cost| {
            let backlog = counters.get_mut(&cost.name).map(|gcra| gcra.count_by(cost.quota, now));
            Counted { quota: cost.quota, backlog: backlog.unwrap_or_default() }
        };
        let counted: Vec<_> = costs.iter().map(count).collect();
        let all = decisions(costs, &counted).all(|(_, decision)| decision.admitted);
        if !all && over == Over::Refuse {
            return counted;
        }
        tidy(&mut counters, now);
        for Cost { name, quota, units } in costs.iter().filter(|cost| cost.units > 0) {
            let gcra = counters.entry(*name).or_default();
            let left = if all { *units } else { gcra.look(*quota, now).remaining.min(*units) };
            gcra.ask(*quota, left, now);
        }
        counted
    }

    /// As [`Counters::give_back`].
    pub(super) fn give_back_now(&self, costs: &[Cost]) {
        let mut counters = self.counters();
        for cost in costs {
            if let Some(gcra) = counters.get_mut(&cost.name) {
                gcra.give_back(cost.units);
            }
        }
    }

    /// Goes on from what another one counted.
    pub(super) fn go_on_from(&self, other: &Self) {
        let counted = other.counters().clone();
        *self.counters() = counted;
    }

    /// Since the epoch.
    fn now(&self) -> Duration {
        Duration::try_from(self.clock.now().as_duration()).unwrap_or_default()
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<Name, Gcra>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters for Memory {
    async fn take(&self, costs: &[Cost], over: Over) -> Result<Vec<Counted>, Away> {
        Ok(self.take_now(costs, over))
    }

    async fn give_back(&self, costs: &[Cost]) -> Result<(), Away> {
        self.give_back_now(costs);
        Ok(())
    }
}

fn tidy(counters: &mut HashMap<Name, Gcra>, now: Duration) {
    if counters.len() < TIDY_AT || counters.len() < counters.capacity() {
        return;
    }
    counters.retain(|_, gcra| !gcra.is_full(now));
    counters.reserve(counters.len());
}
