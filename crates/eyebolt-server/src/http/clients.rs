use axum::{Json, extract::State};
use eyebolt_types::id::ProjectId;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App,
    caller::Operator,
    openapi::AdminListErrors,
    query::{InQuery, PageSize, maybe_instant},
};
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
    #[serde(default, deserialize_with = "maybe_instant")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Keys at most, 1 to 200; default: 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<PageSize<MAX_LIMIT>>,
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
    query: InQuery<ClientQuery>,
) -> Result<Json<ClientList>, ApiError> {
    let ClientQuery { project, since, limit } = query?.0;
    let now = shared.access.clock().now();
    let earliest = now - LONGEST;
    let since = since.unwrap_or(now - SINCE).max(earliest);
    Ok(Json(shared.jobs.clients().report(since, project, PageSize::or(limit, LIMIT)).await?))
}
