use axum::{Json, extract::State};
use eyebolt_store::{UsageKind, UsageLine};
use eyebolt_types::{Feature, Mode, Scope, id::KeyId};
use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time},
    tz::Offset,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    accept::AcceptsJson,
    caller::Caller,
    openapi::UsageErrors,
    query::{InQuery, maybe_day},
};
use crate::ApiError;

/// Days in one answer at most, and where nothing is said.
const MAX_DAYS: i64 = 366;
const DAYS: i64 = 30;

/// What a project used.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// Always `usage`.
    pub object: String,
    /// Real or sandbox.
    pub mode: Mode,
    /// The first day (UTC).
    #[schema(value_type = String, format = Date)]
    pub from: Date,
    /// The last day (UTC), included.
    #[schema(value_type = String, format = Date)]
    pub to: Date,
    /// Units charged on these days: the sum of `data`.
    pub units: u64,
    /// Units held now by jobs that have not ended.
    pub reserved: i64,
    /// By day, key, feature and model.
    pub data: Vec<UsageRow>,
}

/// One line of the statement.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageRow {
    /// The day (UTC).
    #[schema(value_type = String, format = Date)]
    pub day: Date,
    /// Why it is listed.
    pub kind: RowKind,
    /// The API key that asked.
    pub key: Option<KeyId>,
    /// What was answered; none for a `replay`, which is a whole answer.
    pub feature: Option<Feature>,
    /// The snapshot that answered.
    pub model: Option<String>,
    /// How often.
    pub count: u64,
    /// What it cost.
    pub units: u64,
}

/// Why a line is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A feature was answered: one unit each.
    Step,
    /// A feature was answered from an earlier job with the same image: free.
    Duplicate,
    /// A stored answer was given again to its key: free.
    Replay,
}

/// Which days are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// The first day (UTC); default: 30 days in all.
    #[serde(default, deserialize_with = "maybe_day")]
    #[param(value_type = Option<String>, format = Date)]
    from: Option<Date>,
    /// The last day (UTC), included; default: today.
    #[serde(default, deserialize_with = "maybe_day")]
    #[param(value_type = Option<String>, format = Date)]
    to: Option<Date>,
}

/// What was used?
///
/// From the ledger, in which each charge is written by the transaction that ends its job. Replays and duplicates are
/// listed at no price.
#[utoipa::path(
    get, path = "/v1/usage", tag = "jobs", operation_id = "getUsage", params(UsageQuery), security(("api_key" = [])),
    responses((status = 200, description = "The statement.", body = UsageReport), UsageErrors)
)]
pub(super) async fn get_usage(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    query: InQuery<UsageQuery>,
) -> Result<Json<UsageReport>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let (from, to) = days(&query?.0, shared.jobs.today())?;
    let (lines, reserved) = shared.jobs.usage(&caller, (start(from)?, end(to)?)).await?;
    let data: Vec<_> = lines.into_iter().map(row).collect();
    Ok(Json(UsageReport {
        object: "usage".to_owned(),
        mode: caller.mode,
        from,
        to,
        units: data.iter().map(|row| row.units).sum(),
        reserved,
        data,
    }))
}

fn days(query: &UsageQuery, today: Date) -> Result<(Date, Date), ApiError> {
    let to = query.to.unwrap_or(today);
    let standard = || to.saturating_sub(SignedDuration::from_hours((DAYS - 1) * 24));
    let from = query.from.unwrap_or_else(standard);
    let found = i64::from(from.until(to).map_or(i32::MAX, |span| span.get_days())) + 1;
    if !(1..=MAX_DAYS).contains(&found) {
        return Err(ApiError::wrong_field(
            "from",
            format!("to the day in `to` is {found} days, outside 1 to {MAX_DAYS}"),
        ));
    }
    Ok((from, to))
}

fn start(day: Date) -> Result<Timestamp, ApiError> {
    let instant = Offset::UTC.to_timestamp(day.to_datetime(Time::midnight()));
    instant.map_err(|_| ApiError::wrong_field("from", "is no day of our time".to_owned()))
}

fn end(day: Date) -> Result<Timestamp, ApiError> {
    day.tomorrow()
        .map_err(|_| ApiError::wrong_field("to", "is no day of our time".to_owned()))
        .and_then(start)
}

fn row(line: UsageLine) -> UsageRow {
    UsageRow {
        day: Offset::UTC.to_datetime(line.day).date(),
        kind: match line.kind {
            UsageKind::Step => RowKind::Step,
            UsageKind::Duplicate => RowKind::Duplicate,
            UsageKind::Replay => RowKind::Replay,
        },
        key: line.key,
        feature: line.feature,
        model: line.model,
        count: line.count,
        units: line.units,
    }
}
