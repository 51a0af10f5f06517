use axum::{Extension, Json, extract::State};
use eyebolt_types::{ErrorCode, ImageLimits, LimitScope, Mode, Policy, Scope, id::KeyId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    accept::AcceptsJson,
    caller::{Caller, Peer},
    openapi::LimitErrors,
    ratelimit::{self, Whose},
};
use crate::{
    ApiError, clients,
    quotas::{Refused, Standing, Warning, whole_seconds},
};

/// What a project may use, and what is left of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = LimitReport)]
pub struct LimitReport {
    /// Always `limits`.
    pub object: String,
    /// Real or sandbox: each counts apart.
    pub mode: Mode,
    /// Where the limits come from, unless the project has others.
    pub plan: String,
    /// Whether limits only count, and refuse nothing.
    pub shadow: bool,
    /// Whether several servers count together. `false`: this one counts by itself, with its share of each limit, since the
    /// shared counters are away. `null`: every server counts by itself.
    pub shared: Option<bool>,
    /// Every limit there is; what is not listed has none.
    pub data: Vec<LimitRow>,
    /// Percent of a limit from which on answers warn.
    pub warn_at_percent: u8,
    /// Limits that came near their end lately, newest first: each once in its window. Of this server.
    pub warnings: Vec<LimitWarning>,
    /// Requests that were refused lately for a limit or for load, newest first. Of this server.
    pub recent_refusals: Vec<RecentRefusal>,
    /// How often the caller of this request, by key and address, came back before it was told to, without an idempotency
    /// key: from 3 on its refusals say so. One is forgiven every 7.5 seconds.
    pub strikes: u8,
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
    /// Whose it is. A policy may be listed twice: then both hold.
    pub scope: LimitScope,
    /// What is counted: requests, units, megapixels, bytes, jobs.
    pub unit: String,
    /// So much in a window, and so much at once after a quiet one.
    pub limit: u64,
    /// Seconds; none: no matter of time.
    pub window: Option<u64>,
    /// What is left.
    pub remaining: u64,
    /// From so much left on answers warn.
    pub warning_below: u64,
    /// Seconds until one more is left, where that is known.
    pub next_in: Option<u64>,
    /// Seconds until all of it is left, where that is known.
    pub full_in: Option<u64>,
    /// Whether so little is left that answers warn of it.
    pub warning: bool,
}

/// A limit that came near its end.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitWarning {
    /// When.
    #[schema(value_type = String, format = DateTime)]
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

/// A request that was refused for a limit or for load.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RecentRefusal {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub code: ErrorCode,
    /// The limits that were used up, as `violated-policies` named them.
    pub policies: Vec<String>,
    /// Whose limit: `project`, `key` or `server`.
    pub scope: String,
    /// The key that asked.
    pub key: KeyId,
    /// Seconds that were told.
    pub retry_after: Option<u32>,
}

/// What may this key use, and what is left of it?
///
/// The same as the headers `RateLimit-Policy` and `RateLimit` tell, in a form for people, and what was refused lately. Limits
/// are of the project and mode, so that all keys share them, and of the key itself where it has some.
#[utoipa::path(
    get, path = "/v1/limits", tag = "jobs", operation_id = "getLimits", security(("api_key" = [])),
    responses((status = 200, description = "The limits.", body = LimitReport), LimitErrors)
)]
pub(super) async fn get_limits(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    (peer, whose): (Option<Extension<Peer>>, Option<Extension<Whose>>),
) -> Result<Json<LimitReport>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let (settings, whose) =
        (shared.quotas.settings(), whose.map(|Extension(whose)| whose).unwrap_or_default());
    let (waiting, wait_seconds) = shared.jobs.admission().standing(caller.project);
    shared.jobs.look(&caller).await?;
    let standing = ratelimit::standing(&shared, &caller, whose.told()).await;
    let (warnings, refusals) = shared.quotas.notices(&caller);
    let sender = clients::caller(caller.key, peer.map(|Extension(peer)| peer.0.ip()));
    Ok(Json(LimitReport {
        object: "limits".to_owned(),
        mode: caller.mode,
        plan: shared.quotas.plan(&caller),
        shadow: settings.shadow,
        shared: shared.quotas.shared(),
        data: standing.into_iter().map(|stands| row(stands, settings.warn_at_percent)).collect(),
        warn_at_percent: settings.warn_at_percent,
        warnings: warnings.into_iter().map(warning).collect(),
        recent_refusals: refusals.into_iter().map(refusal).collect(),
        strikes: shared.jobs.admission().strikes(sender),
        load: Load { waiting, wait_seconds },
        image: shared.analyzer.capabilities().limits,
    }))
}

fn row(stands: Standing, warn_at_percent: u8) -> LimitRow {
    let unwarned = u128::from(stands.limit) * u128::from(100 - warn_at_percent.min(100)) / 100;
    LimitRow {
        policy: stands.policy,
        scope: stands.scope,
        unit: stands.policy.unit().to_owned(),
        limit: stands.limit,
        window: stands.window.map(|window| window.as_secs()),
        remaining: stands.remaining,
        warning_below: unwarned as u64,
        next_in: stands.next_in.map(whole_seconds),
        full_in: stands.full_in.map(whole_seconds),
        warning: stands.warned,
    }
}

fn warning(Warning { at, policy, scope, key, used }: Warning) -> LimitWarning {
    LimitWarning { at, policy, scope, key, used }
}

fn refusal(Refused { at, code, policies, scope, key, retry_after }: Refused) -> RecentRefusal {
    RecentRefusal { at, code, policies, scope, key, retry_after }
}
