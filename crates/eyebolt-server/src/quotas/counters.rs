use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eyebolt_admission::{Decision, Gcra, Quota};
use eyebolt_types::{Mode, Policy, id::ProjectId};

/// Whose counter, and of what.
pub(super) type Name = (ProjectId, Mode, Policy);

/// What one request costs of a policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) policy: Policy,
    pub(super) quota: Quota,
    pub(super) units: u64,
}

/// Counters in memory. Those that are full again are forgotten.
#[derive(Debug, Default)]
pub(super) struct Counters {
    counters: Mutex<HashMap<Name, Gcra>>,
}

/// With so many counters the full ones are looked for; then again at twice what is left.
const TIDY_AT: usize = 4096;

impl Counters {
    /// Takes all costs, or none where one of them is too much. How each stands after that, in their order.
    pub(super) fn take(
        &self,
        (project, mode): (ProjectId, Mode),
        costs: &[Cost],
        now: Duration,
    ) -> Vec<Decision> {
        let mut counters = self.counters();
        let name = |cost: &Cost| (project, mode, cost.policy);
        let asked: Vec<_> = costs
            .iter()
            .map(|cost| {
                let mut gcra = counters.get(&name(cost)).copied().unwrap_or_default();
                let decision = gcra.ask(cost.quota, cost.units, now);
                (gcra, decision)
            })
            .collect();
        if asked.iter().any(|(_, decision)| !decision.admitted) {
            return asked.into_iter().map(|(_, decision)| decision).collect();
        }
        tidy(&mut counters, now);
        for (cost, (gcra, _)) in costs.iter().zip(&asked) {
            counters.insert(name(cost), *gcra);
        }
        asked.into_iter().map(|(_, decision)| decision).collect()
    }

    /// Takes costs although they may be too much, as far as they are not.
    pub(super) fn take_what_is_left(
        &self,
        (project, mode): (ProjectId, Mode),
        costs: &[Cost],
        now: Duration,
    ) {
        let mut counters = self.counters();
        for cost in costs {
            let gcra = counters.entry((project, mode, cost.policy)).or_default();
            let left = gcra.look(cost.quota, now).remaining;
            gcra.ask(cost.quota, cost.units.min(left), now);
        }
    }

    pub(super) fn give_back(&self, (project, mode): (ProjectId, Mode), costs: &[Cost]) {
        let mut counters = self.counters();
        for cost in costs {
            if let Some(gcra) = counters.get_mut(&(project, mode, cost.policy)) {
                gcra.give_back(cost.quota, cost.units);
            }
        }
    }

    pub(super) fn look(&self, name: Name, quota: Quota, now: Duration) -> Decision {
        self.counters().get(&name).copied().unwrap_or_default().look(quota, now)
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<Name, Gcra>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tidy(counters: &mut HashMap<Name, Gcra>, now: Duration) {
    if counters.len() < TIDY_AT || counters.len() < counters.capacity() {
        return;
    }
    counters.retain(|_, gcra| !gcra.is_full(now));
    counters.reserve(counters.len());
}
