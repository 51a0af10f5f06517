//! Did the server keep its promises? A pure function over what was recorded.

mod again;
mod batches;
mod executions;
mod jobs;
mod keys;
mod ledger;
#[cfg(test)]
mod made;
mod operations;
mod pipelines;
mod telling;
mod wishes;
mod work;

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use executions::Effect;
pub(crate) use operations::Operations;

use crate::{
    history::{Event, What},
    listening::{Receipt, Told},
    profile::Setup,
    settle::FinalState,
};

/// Everything that a run left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// In the order of their times.
    pub(crate) events: Vec<Event>,
    /// What the fake backend really ran.
    pub(crate) effects: Vec<Effect>,
    /// What receivers of webhooks got.
    pub(crate) receipts: Vec<Receipt>,
    /// What readers of streams were told.
    pub(crate) told: Vec<Told>,
    /// What the server shows in the end.
    pub(crate) state: FinalState,
}

/// A promise. Numbers without a name here need parts of the server that this test does not drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum Invariant {
    /// What was accepted is never lost.
    I1,
    /// A key has one job, and a step runs again only where a crash came between.
    I2,
    /// A key's final answer is the same for ever, byte for byte.
    I3,
    /// A key never succeeds for a second payload.
    I4,
    /// What is charged is what was done.
    I5,
    /// Every end is told, once by its id, to all who listen and to nobody else.
    I6,
    /// Every job ends after the last fault.
    I7,
    /// Whoever lost the lease changes nothing.
    I8,
    /// Ends are final, and progress does not go back.
    I9,
    /// Of a batch's items none is lost and none is doubled.
    I10,
    /// Every unknown outcome becomes known by asking again.
    I14,
    /// The run did enough to mean something.
    I16,
    /// A project sees nothing of another.
    Isolation,
    /// A server ends only when it is killed.
    Exit,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    /// What is wrong, with the job or key.
    pub(crate) what: String,
    /// What shows it.
    pub(crate) evidence: Vec<String>,
}

impl Violation {
    fn new(invariant: Invariant, what: impl Into<String>, evidence: Vec<String>) -> Self {
        Self { invariant, what: what.into(), evidence }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    /// What was looked at.
    pub(crate) counts: Vec<(String, u64)>,
}

/// Checks everything.
pub(crate) fn check(record: &Record) -> Verdict {
    let setup = setup(&record.events);
    let operations = Operations::of(&record.events);
    let wishes = wishes::Wishes::of(&operations, record);
    let mut violations = Vec::new();
    violations.extend(keys::check(&operations, &record.state, &wishes));
    violations.extend(jobs::check(&operations, record, (&setup, &wishes)));
    violations.extend(executions::check(&operations, record, (&setup, &wishes)));
    violations.extend(pipelines::check(&operations, record, (&setup, &wishes)));
    violations.extend(again::unwished(record, &wishes));
    violations.extend(ledger::check(&operations, record));
    violations.extend(telling::check(&operations, record, &wishes));
    violations.extend(batches::check(&operations, record, &wishes));
    let counts = work::Counts::of(&operations, record);
    violations.extend(counts.check(&setup));
    violations.sort_by_key(|violation| violation.invariant);
    Verdict { violations, counts: counts.table() }
}

/// What the run was like.
pub(crate) fn setup(events: &[Event]) -> Setup {
    let setup = events.iter().find_map(|event| match &event.what {
        What::Run(setup) => Some(setup.clone()),
        _ => None,
    });
    setup.unwrap_or_default()
}
