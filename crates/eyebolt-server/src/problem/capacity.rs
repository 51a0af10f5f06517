use eyebolt_admission::Refusal;
use eyebolt_types::{ErrorCode, Problem};

use super::ApiError;
use crate::quotas::whole_seconds;

/// The problem types that are registered for limits (draft-ietf-httpapi-ratelimit-headers).
pub(super) const REDUCED: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
pub(super) const ABNORMAL: &str = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected";

/// What the server's own limit is called among `violated-policies`: no header tells it, since it is nobody's.
pub(super) const CAPACITY: &str = "capacity";

/// Who came back too early so often is told that it is about that, not about the machine.
const MANY_STRIKES: u8 = 3;

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let rude = refusal.strikes >= MANY_STRIKES;
        let (code, kind) = if rude {
            (ErrorCode::AbnormalUsage, ABNORMAL)
        } else {
            (ErrorCode::TemporaryReducedCapacity, REDUCED)
        };
        let wait = u32::try_from(whole_seconds(refusal.retry_in)).unwrap_or(u32::MAX);
        let Refusal { work, bound, strikes, .. } = refusal;
        let mut detail = format!("{work:.1} s of work wait, and no more than {bound:.1} s may.");
        if rude {
            detail = format!("{detail} This client came back {strikes} times before it was told to.");
        }
        let mut problem = Problem::new(code, detail).after(wait);
        kind.clone_into(&mut problem.kind);
        problem.violated_policies = vec![CAPACITY.to_owned()];
        let error = Self::from(problem)
            .limited("work_seconds", rounded(bound), rounded(work))
            .with("scope", "server");
        let error = if strikes > 0 { error.with("strikes", strikes) } else { error };
        error.held_for(refusal.hold)
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
