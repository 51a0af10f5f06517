//! A limit that has no room for a request.

use std::time::Duration;

use eyebolt_admission::Decision;
use eyebolt_types::{LimitScope, Policy};
use jiff::Timestamp;
use thiserror::Error;

use super::{
    counters::Cost,
    limit::scale,
    standing::{scope_of, value_of},
};

/// A limit of the project or its key is used up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the limit {} of {limit}{} is used up: {needed} would be needed, {remaining} are left", policy.name(), whose(*scope))]
pub struct Exceeded {
    /// Whose.
    pub scope: LimitScope,
    /// Which one.
    pub policy: Policy,
    /// Its value.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// What the request would have taken.
    pub needed: u64,
    /// When it could be had; none: never, since it is more than the limit. Of jobs at once it is a guess.
    pub retry_in: Option<Duration>,
    /// The same on the clock.
    pub resets_at: Option<Timestamp>,
}

impl Exceeded {
    /// The same of something that is taken in pieces and needs this much altogether.
    pub(crate) fn of_all(self, needed: u64) -> Self {
        let (retry_in, resets_at) =
            if needed > self.limit { (None, None) } else { (self.retry_in, self.resets_at) };
        Self { needed, retry_in, resets_at, ..self }
    }
}

fn whose(scope: LimitScope) -> &'static str {
    match scope {
        LimitScope::Project => "",
        LimitScope::Key => " of this key",
    }
}

pub(super) fn exceeded((cost, decision): (&Cost, Decision)) -> Exceeded {
    let scale = scale(cost.name.policy);
    Exceeded {
        scope: scope_of(cost),
        policy: cost.name.policy,
        limit: value_of(cost),
        remaining: decision.remaining / scale,
        needed: cost.units.div_ceil(scale),
        retry_in: decision.retry_in,
        resets_at: None,
    }
}

pub(super) fn lasts(exceeded: &Exceeded) -> Duration {
    exceeded.retry_in.unwrap_or(Duration::MAX)
}
