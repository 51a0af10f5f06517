//! Limits that the database decides: jobs at once, and units of a month. Here is what was last seen of them, for headers and
//! for a look before anybody waits; what decides is the transaction that accepts a job.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use eyebolt_store::{Cap, Caps, Held, Month, Principal};
use eyebolt_types::{
    LimitScope, Mode, Policy,
    id::{KeyId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};

use super::limit::Limit;

/// A project's key in a mode.
type Whose = (ProjectId, KeyId, Mode);
/// A project (no key) or a key, in a mode.
type Holder = (ProjectId, Option<KeyId>, Mode);
/// Whose counts are to be trusted: a project's (no key) or a key's, in a month.
type Counted = (ProjectId, Option<KeyId>, Mode, Timestamp);

/// How long what was seen is told.
const FRESH: SignedDuration = SignedDuration::from_secs(1);

/// So much is remembered; beyond it everything is forgotten, and looked up again.
const MOST: usize = 16 << 10;

/// What was seen of such limits.
#[derive(Debug, Default)]
pub(super) struct Seen {
    held: Mutex<HashMap<Whose, (Timestamp, Held, Held)>>,
    /// Requests that are to become jobs.
    arriving: Mutex<HashMap<Holder, u64>>,
    counted: Mutex<HashSet<Counted>>,
}

impl Seen {
    /// The limits under which this caller's jobs are accepted; none where it has no such limit. In shadow mode everything is
    /// counted and nothing refused.
    pub(super) fn caps(
        &self,
        caller: &Principal,
        limits: impl Iterator<Item = Limit>,
        (shadow, now): (bool, Timestamp),
    ) -> Option<Caps> {
        let mut caps = Caps { project: Cap::default(), key: Cap::default() };
        for Limit { scope, policy, value } in limits {
            let cap = if scope == LimitScope::Key { &mut caps.key } else { &mut caps.project };
            let value = if shadow { i64::MAX as u64 } else { value };
            match policy {
                Policy::ConcurrentJobs => cap.concurrent_jobs = Some(value),
                Policy::UnitsPerMonth => cap.units_per_month = Some(value),
                _ => {}
            }
        }
        if caps.project.is_none() && caps.key.is_none() {
            return None;
        }
        let (counted, month) = (lock(&self.counted), Month::of(now).begins);
        let known = |key| counted.contains(&(caller.project, key, caller.mode, month));
        caps.project.recount = !known(None);
        caps.key.recount = !known(Some(caller.key));
        Some(caps)
    }

    /// What was counted anew is right from now on.
    pub(super) fn trust(&self, caller: &Principal, caps: &Caps, now: Timestamp) {
        let (mut counted, month) = (lock(&self.counted), Month::of(now).begins);
        if counted.len() >= MOST {
            counted.clear();
        }
        let of = |key| (caller.project, key, caller.mode, month);
        counted.extend(caps.project.units_per_month.map(|_| of(None)));
        counted.extend(caps.key.units_per_month.map(|_| of(Some(caller.key))));
    }

    /// Other limits may have been in force meanwhile.
    pub(super) fn doubt(&self) {
        lock(&self.counted).clear();
    }

    /// The database told this.
    pub(super) fn note(&self, caller: &Principal, (project, key): (Held, Held), now: Timestamp) {
        let mut held = lock(&self.held);
        if held.len() >= MOST {
            held.clear();
        }
        held.insert(whose(caller), (now, project, key));
    }

    /// A job of so many units was accepted.
    pub(super) fn add(&self, caller: &Principal, units: u64) {
        if let Some((_, project, key)) = lock(&self.held).get_mut(&whose(caller)) {
            for held in [project, key] {
                held.jobs = held.jobs.map(|jobs| jobs + 1);
                held.units = held.units.map(|before| before + units);
            }
        }
    }

    /// What was seen last, of one scope.
    pub(super) fn of(&self, caller: &Principal, scope: LimitScope) -> Option<Held> {
        let (_, project, key) = *lock(&self.held).get(&whose(caller))?;
        Some(if scope == LimitScope::Key { key } else { project })
    }

    /// Whether the database was asked a moment ago.
    pub(super) fn is_fresh(&self, caller: &Principal, now: Timestamp) -> bool {
        let held = lock(&self.held);
        held.get(&whose(caller)).is_some_and(|(at, ..)| *at <= now && now.duration_since(*at) < FRESH)
    }

    /// Requests on their way to become jobs.
    pub(super) fn arriving(&self, caller: &Principal, scope: LimitScope) -> u64 {
        let key = (scope == LimitScope::Key).then_some(caller.key);
        lock(&self.arriving).get(&(caller.project, key, caller.mode)).copied().unwrap_or(0)
    }

    /// One more of them.
    pub(super) fn arrive(&self, caller: &Principal) {
        let mut arriving = lock(&self.arriving);
        for key in [None, Some(caller.key)] {
            *arriving.entry((caller.project, key, caller.mode)).or_default() += 1;
        }
    }

    /// It has become a job, or nothing.
    pub(super) fn has_arrived(&self, caller: &Principal) {
        let mut arriving = lock(&self.arriving);
        for key in [None, Some(caller.key)] {
            let name = (caller.project, key, caller.mode);
            match arriving.get_mut(&name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(arriving.remove(&name)),
            }
        }
    }
}

fn whose(caller: &Principal) -> Whose {
    (caller.project, caller.key, caller.mode)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
