//! What a project is told of its limits beside each answer: recent warnings and recent refusals.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use eyebolt_store::Principal;
use eyebolt_types::{
    ErrorCode, LimitScope, Mode, Policy,
    id::{KeyId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};

use super::Standing;

/// Of each kind, by project.
const MOST: usize = 20;

/// So many projects have a record; beyond it all are begun anew.
const MOST_PROJECTS: usize = 4096;

/// A limit came near its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub policy: Policy,
    /// Whose.
    pub scope: LimitScope,
    /// The key, where it is the key's.
    pub key: Option<KeyId>,
    /// Percent.
    pub used: u64,
}

/// A request was refused for a limit or for load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub code: ErrorCode,
    /// The limits that were used up, as `violated-policies` names them.
    pub policies: Vec<String>,
    /// Whose limit: `project`, `key` or `server`.
    pub scope: String,
    /// The key that asked.
    pub key: KeyId,
    /// Seconds that were told.
    pub retry_after: Option<u32>,
}

/// Of all projects. In memory, and of this server alone.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<HashMap<(ProjectId, Mode), Notice>>);

#[derive(Debug, Default)]
struct Notice {
    warnings: VecDeque<Warning>,
    refusals: VecDeque<Refused>,
    /// Until when no second warning of a limit is given.
    warned: HashMap<(Policy, Option<KeyId>), Timestamp>,
}

impl Notices {
    /// Records a warning, unless there was one of this limit in its window. Whether it was recorded.
    pub(super) fn warn(&self, caller: &Principal, standing: &Standing, now: Timestamp) -> bool {
        let key = (standing.scope == LimitScope::Key).then_some(caller.key);
        let window = standing.window.and_then(|window| SignedDuration::try_from(window).ok());
        let until = now.checked_add(window.unwrap_or(SignedDuration::from_mins(1))).unwrap_or(Timestamp::MAX);
        self.with(caller, |notice| {
            notice.warned.retain(|_, until| *until > now);
            if notice.warned.contains_key(&(standing.policy, key)) {
                return false;
            }
            notice.warned.insert((standing.policy, key), until);
            let Standing { policy, scope, .. } = *standing;
            push(&mut notice.warnings, Warning { at: now, policy, scope, key, used: standing.percent() });
            true
        })
    }

    pub(super) fn refuse(&self, caller: &Principal, refused: Refused) {
        self.with(caller, |notice| push(&mut notice.refusals, refused));
    }

    /// Newest first.
    pub(super) fn of(&self, caller: &Principal) -> (Vec<Warning>, Vec<Refused>) {
        self.with(caller, |notice| {
            let warnings = notice.warnings.iter().rev().cloned().collect();
            (warnings, notice.refusals.iter().rev().cloned().collect())
        })
    }

    fn with<T>(&self, caller: &Principal, work: impl FnOnce(&mut Notice) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = (caller.project, caller.mode);
        if all.len() >= MOST_PROJECTS && !all.contains_key(&whose) {
            all.clear();
        }
        work(all.entry(whose).or_default())
    }
}

fn push<T>(list: &mut VecDeque<T>, one: T) {
    if list.len() >= MOST {
        list.pop_front();
    }
    list.push_back(one);
}
