use std::time::Duration;

use eyebolt_types::{ErrorCode, Problem};

use super::{ApiError, sentence};
use crate::quotas::{Exceeded, whole_seconds};

/// The problem type that is registered for limits (draft-ietf-httpapi-ratelimit-headers).
const TYPE: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// A client that would wait for longer is better told to stop.
const LONG: Duration = Duration::from_hours(1);

impl From<Exceeded> for ApiError {
    fn from(exceeded: Exceeded) -> Self {
        let short = exceeded.retry_in.filter(|wait| *wait <= LONG);
        let code = if short.is_some() { ErrorCode::QuotaExceeded } else { ErrorCode::QuotaExhausted };
        let mut problem = Problem::new(code, sentence(&exceeded));
        TYPE.clone_into(&mut problem.kind);
        problem.violated_policies = vec![exceeded.policy.name().to_owned()];
        if let Some(wait) = short {
            problem = problem.after(u32::try_from(whole_seconds(wait)).unwrap_or(u32::MAX));
        }
        let resets_at = exceeded.resets_at.map(|at| at.to_string());
        Self::from(problem)
            .limited(exceeded.policy.name(), exceeded.limit, exceeded.needed)
            .with("remaining", exceeded.remaining)
            .with("unit", exceeded.policy.unit())
            .with("scope", exceeded.scope.name())
            .with("resets_at", resets_at)
    }
}
