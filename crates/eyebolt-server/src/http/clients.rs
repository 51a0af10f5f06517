use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use eyebolt_types::id::ProjectId;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{App, caller::Operator, openapi::AdminListErrors};
use crate::{ApiError, clients::ClientList};

/// Keys on a page at most, and where nothing is said.
const MAX_LIMIT: u32 = 200;
const LIMIT: u32 = 50;

/// How far back is looked where nothing is said, and at most.
const SINCE: SignedDuration = SignedDuration::from_hours(24);
const LONGEST: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Whose clients, and since when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ClientQuery {
    /// Of this project alone.
    #[param(value_type = Option<ProjectId>)]
    project: Option<ProjectId>,
    /// From the hour of this instant on; default: the last 24 hours. Counts are kept for 90 days.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Keys at most, 1 to 200; default: 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// How do clients behave?
///
/// By API key: how many of their requests are retries, duplicates, errors or were refused, what programs they are, and
/// whether one of them runs away. Who makes most trouble stands first.
#[utoipa::path(
    get, path = "/admin/v1/clients", tag = "admin", operation_id = "listClients", params(ClientQuery),
    security(("admin_token" = [])),
    responses((status = 200, description = "The keys that were used.", body = ClientList), AdminListErrors)
)]
pub(super) async fn list_clients(
    _: Operator,
    State(App(shared)): State<App>,
    query: Result<Query<ClientQuery>, QueryRejection>,
) -> Result<Json<ClientList>, ApiError> {
    let wrong = |_| {
        let what = "project is an id, since an instant as in 2026-11-24T12:00:00Z, limit a number";
        ApiError::wrong_field("query", what.to_owned())
    };
    let ClientQuery { project, since, limit } = query.map_err(wrong)?.0;
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::wrong_field("limit", format!("is {limit}, outside 1 to {MAX_LIMIT}")));
    }
    let now = shared.access.clock().now();
    let earliest = now - LONGEST;
    let since = since.unwrap_or(now - SINCE).max(earliest);
    Ok(Json(shared.jobs.clients().report(since, project, limit).await?))
}
