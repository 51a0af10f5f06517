use eyebolt_admission::RunawayCause;
use eyebolt_types::{ErrorCode, Problem};

use super::{ApiError, capacity::ABNORMAL};
use crate::{clients::RunsAway, quotas::whole_seconds};

impl From<RunsAway> for ApiError {
    fn from(RunsAway { detained, limit: (name, limit) }: RunsAway) -> Self {
        let what = match detained.cause {
            RunawayCause::Repeated => "The same image was sent with the same question under new keys",
            RunawayCause::Replayed => "The same Idempotency-Key was sent",
            RunawayCause::Early => "A request came back before the time that Retry-After had named",
            RunawayCause::FinalError => "A request came back after an error that no retry mends",
        };
        let times = detained.times;
        let detail = format!("{what}, {times} times and again: more often than {limit} times a minute.");
        let wait = u32::try_from(whole_seconds(detained.retry_in)).unwrap_or(u32::MAX);
        let mut problem = Problem::new(ErrorCode::AbnormalUsage, detail).after(wait.max(1));
        ABNORMAL.clone_into(&mut problem.kind);
        problem.violated_policies = vec![name.to_owned()];
        Self::from(problem)
            .limited(name, limit, times)
            .with("scope", "client")
            .with("cause", detained.cause.name())
            .with("strikes", detained.strikes)
    }
}
