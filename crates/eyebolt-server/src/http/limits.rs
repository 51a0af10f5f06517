use axum::{Json, extract::State};
use eyebolt_types::{ImageLimits, Mode, Policy, Scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, accept::AcceptsJson, caller::Caller, openapi::LimitErrors};
use crate::{
    ApiError,
    quotas::{Standing, whole_seconds},
};

/// What a project may use, and what is left of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Limits)]
pub struct LimitReport {
    /// Always `limits`.
    pub object: String,
    /// Real or sandbox: each counts apart.
    pub mode: Mode,
    /// Where the limits come from, unless the project has others.
    pub plan: String,
    /// Whether limits only count, and refuse nothing.
    pub shadow: bool,
    /// Every limit there is; what is not listed has none.
    pub data: Vec<LimitRow>,
    /// How busy the server is.
    pub load: Load,
    /// What an image may be.
    pub image: ImageLimits,
}

/// How busy the server is, as a project sees it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Load {
    /// The project's requests and jobs that wait for a worker.
    pub waiting: usize,
    /// Seconds that a request waits which comes now and is waited for: predicted.
    pub wait_seconds: f64,
}

/// One limit.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Limit)]
pub struct LimitRow {
    /// Its name in headers and problems.
    pub policy: Policy,
    /// What is counted: requests, units, megapixels, bytes.
    pub unit: String,
    /// So much in a window, and so much at once after a quiet one.
    pub limit: u64,
    /// Seconds.
    pub window: u64,
    /// What is left.
    pub remaining: u64,
    /// Seconds until one more is left.
    pub next_in: u64,
    /// Seconds until all of it is left.
    pub full_in: u64,
    /// Whether so little is left that answers warn of it.
    pub warning: bool,
}

/// What may this key use, and what is left of it?
///
/// The same as the headers `RateLimit-Policy` and `RateLimit` tell, in a form for people. Limits are of the project and
/// mode: all keys share them.
#[utoipa::path(
    get, path = "/v1/limits", tag = "jobs", operation_id = "getLimits", security(("api_key" = [])),
    responses((status = 200, description = "The limits.", body = LimitReport), LimitErrors)
)]
pub(super) async fn get_limits(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
) -> Result<Json<LimitReport>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let (plan, _) = shared.quotas.limits(&caller);
    let (waiting, wait_seconds) = shared.jobs.admission().standing(caller.project);
    Ok(Json(LimitReport {
        object: "limits".to_owned(),
        mode: caller.mode,
        plan: plan.to_owned(),
        shadow: shared.quotas.shadow(),
        data: shared.quotas.standing(&caller).into_iter().map(row).collect(),
        load: Load { waiting, wait_seconds },
        image: shared.analyzer.capabilities().limits,
    }))
}

fn row(stands: Standing) -> LimitRow {
    LimitRow {
        policy: stands.policy,
        unit: stands.policy.unit().to_owned(),
        limit: stands.limit,
        window: stands.policy.window().as_secs(),
        remaining: stands.remaining,
        next_in: whole_seconds(stands.next_in),
        full_in: whole_seconds(stands.full_in),
        warning: stands.warned,
    }
}
