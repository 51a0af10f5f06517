//! Webhook endpoints: made, changed, tried, and what was delivered to them.

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use eyebolt_store::{DeliveryFilter, DeliveryState, EndpointChange, Principal};
use eyebolt_types::{
    Change, ErrorCode, EventType, Scope,
    id::{EndpointId, EventId},
};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    accept::AcceptsJson,
    caller::Caller,
    json,
    openapi::{
        DeliveryErrors, DeliveryListErrors, EndpointActErrors, EndpointChangeErrors, EndpointCreateErrors,
        EndpointErrors, EndpointListErrors, EndpointReplayErrors, RotateDefaultErrors, RotateErrors,
    },
    query::{InQuery, PageSize, instant},
};
use crate::{
    ApiError,
    access::period,
    webhooks::{
        DeletedEndpoint, DeliveryList, DeliveryStatus, DeliveryView, EndpointList, EndpointOrder,
        EndpointView, NewEndpointView, ReplayView, Scheme, SecretView, WebhookError,
    },
};

/// How long an old secret signs on where nothing else is said.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// Deliveries on a page where nothing else is said.
const LIMIT: u32 = 20;

type Named = Result<Path<String>, PathRejection>;

/// An endpoint to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointRequest {
    /// Where messages go: `https://`, to a host on the internet, unless the operator allows others.
    url: String,
    /// Of what it is told; of everything where it is left out.
    events: Option<Vec<EventType>>,
    /// In your own words, at most 200 characters.
    #[serde(default)]
    description: String,
    /// How its messages are signed.
    #[serde(default)]
    signature: Scheme,
}

/// What is to be changed of an endpoint; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointChangeRequest {
    /// Where messages go.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    url: Change<String>,
    /// Of what it is told; `null`: of everything.
    #[serde(default)]
    #[schema(value_type = Option<Vec<EventType>>)]
    events: Change<Option<Vec<EventType>>>,
    /// In your own words.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Change<String>,
    /// `false` switches it off: what was on its way is given up. `true` switches it on again.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    enabled: Change<bool>,
}

/// How a secret is rotated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RotateSecretRequest {
    /// How long messages are signed with the old secret too, such as `24h`, which it is where it is left out.
    overlap: Option<String>,
}

/// What is to be sent again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// All that the endpoint did not get of what happened then or later.
    #[serde(deserialize_with = "instant")]
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

/// What a page of deliveries is made of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// Only those that stand so.
    status: Option<DeliveryStatus>,
    /// Deliveries on this page.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<PageSize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which webhook endpoints are there?
///
/// Those of the key's project and mode, oldest first.
#[utoipa::path(
    get, path = "/v1/webhook-endpoints", tag = "webhooks", operation_id = "listWebhookEndpoints",
    security(("api_key" = [])),
    responses((status = 200, description = "All endpoints.", body = EndpointList), EndpointListErrors)
)]
pub(super) async fn list_endpoints(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
) -> Result<Json<EndpointList>, ApiError> {
    let caller = caller.require(Scope::Webhooks)?;
    let data = shared.webhooks.list(&caller).await?.into_iter().map(Into::into).collect();
    Ok(Json(EndpointList { object: "list".to_owned(), data }))
}

/// Make a webhook endpoint
///
/// It is told what happens in the key's project and mode from now on. Its secret is in this answer and nowhere else. A
/// project has one endpoint of an address: whoever lost the answer finds it in the list, and rotates its secret.
#[utoipa::path(
    post, path = "/v1/webhook-endpoints", tag = "webhooks", operation_id = "createWebhookEndpoint",
    security(("api_key" = [])), request_body = EndpointRequest,
    responses(
        (status = 201, description = "The endpoint with its secret.", body = NewEndpointView),
        EndpointCreateErrors
    )
)]
pub(super) async fn create_endpoint(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Webhooks)?;
    let EndpointRequest { url, events, description, signature } = json::read(body).await?;
    let order = EndpointOrder { url, description, events, scheme: signature };
    let (endpoint, secret) = shared.webhooks.create(&caller, order).await?;
    Ok(json::secret(StatusCode::CREATED, NewEndpointView { endpoint: endpoint.into(), secret }))
}

/// What is this webhook endpoint?
#[utoipa::path(
    get, path = "/v1/webhook-endpoints/{id}", tag = "webhooks", operation_id = "getWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint.")), security(("api_key" = [])),
    responses((status = 200, description = "The endpoint.", body = EndpointView), EndpointErrors)
)]
pub(super) async fn get_endpoint(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    id: Named,
) -> Result<Json<EndpointView>, ApiError> {
    let caller = caller.require(Scope::Webhooks)?;
    Ok(Json(shared.webhooks.get(&caller, named(id)?).await?.into()))
}

/// Change a webhook endpoint
///
/// What is on its way goes to the new address. One that was disabled is switched on by `enabled: true`; what it missed is
/// sent by `:replay`.
#[utoipa::path(
    patch, path = "/v1/webhook-endpoints/{id}", tag = "webhooks", operation_id = "updateWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint.")), security(("api_key" = [])),
    request_body = EndpointChangeRequest,
    responses((status = 200, description = "The endpoint, changed.", body = EndpointView), EndpointChangeErrors)
)]
pub(super) async fn update_endpoint(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    (id, body): (Named, Body),
) -> Result<Json<EndpointView>, ApiError> {
    let (caller, id) = (caller.require(Scope::Webhooks)?, named(id)?);
    let EndpointChangeRequest { url, events, description, enabled } = json::read(body).await?;
    let change = EndpointChange { url, description, events, enabled };
    Ok(Json(shared.webhooks.change(&caller, id, change).await?.into()))
}

/// Remove a webhook endpoint
///
/// With its secrets, its deliveries and their log. Nothing more is sent to it.
#[utoipa::path(
    delete, path = "/v1/webhook-endpoints/{id}", tag = "webhooks", operation_id = "deleteWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint.")), security(("api_key" = [])),
    responses((status = 200, description = "It was removed.", body = DeletedEndpoint), EndpointErrors)
)]
pub(super) async fn delete_endpoint(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    id: Named,
) -> Result<Json<DeletedEndpoint>, ApiError> {
    let (caller, id) = (caller.require(Scope::Webhooks)?, named(id)?);
    shared.webhooks.delete(&caller, id).await?;
    Ok(Json(DeletedEndpoint { id, object: "webhook_endpoint".to_owned(), deleted: true }))
}

/// Give a webhook endpoint a new secret
///
/// For the overlap each message carries a signature by either, so that a receiver changes over without a gap. The secret
/// is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/webhook-endpoints/{id}:rotate-secret", tag = "webhooks",
    operation_id = "rotateWebhookSecret",
    params(("id" = EndpointId, Path, description = "The endpoint.")), security(("api_key" = [])),
    request_body = RotateSecretRequest,
    responses((status = 201, description = "The endpoint with its new secret.", body = NewEndpointView), RotateErrors)
)]
pub(super) async fn rotate_secret(
    app: App,
    (caller, id): (Principal, EndpointId),
    body: Body,
) -> Result<Response, ApiError> {
    let overlap = overlap(body).await?;
    let (endpoint, secret) = app.0.webhooks.rotate(&caller, id, overlap).await?;
    Ok(json::secret(StatusCode::CREATED, NewEndpointView { endpoint: endpoint.into(), secret }))
}

/// Give the addresses that requests name a new secret
///
/// Messages to a `webhook_url` of a request are signed with the project's own secret, one for each mode. Those before it
/// sign on for the overlap. The secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/webhook-secret:rotate", tag = "webhooks", operation_id = "rotateDefaultWebhookSecret",
    security(("api_key" = [])), request_body = RotateSecretRequest,
    responses((status = 201, description = "The new secret.", body = SecretView), RotateDefaultErrors)
)]
pub(super) async fn rotate_default_secret(
    caller: Caller,
    _: AcceptsJson,
    State(app): State<App>,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Webhooks)?;
    let secret = app.0.webhooks.rotate_default(&caller, overlap(body).await?).await?;
    Ok(json::secret(StatusCode::CREATED, SecretView { object: "webhook_secret".to_owned(), secret }))
}

/// Send a test to a webhook endpoint
///
/// An event `webhook.test`, to this endpoint alone, whatever it wants to be told of. `deliveries` tells what came of it.
#[utoipa::path(
    post, path = "/v1/webhook-endpoints/{id}:test", tag = "webhooks", operation_id = "testWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint.")), security(("api_key" = [])),
    responses((status = 202, description = "The delivery, on its way.", body = DeliveryView), EndpointActErrors)
)]
pub(super) async fn test_endpoint(
    app: App,
    (caller, id): (Principal, EndpointId),
) -> Result<Response, ApiError> {
    let delivery: DeliveryView = app.0.webhooks.test(&caller, id).await?.into();
    Ok((StatusCode::ACCEPTED, Json(delivery)).into_response())
}

/// Send a webhook endpoint what it missed
///
/// What failed, what waits for another attempt, and what happened while it was switched off: at most 10,000 of either in one
/// request, each with the id that it always has.
#[utoipa::path(
    post, path = "/v1/webhook-endpoints/{id}:replay", tag = "webhooks", operation_id = "replayWebhooks",
    params(("id" = EndpointId, Path, description = "The endpoint.")), security(("api_key" = [])),
    request_body = ReplayRequest,
    responses((status = 202, description = "What was begun.", body = ReplayView), EndpointReplayErrors)
)]
pub(super) async fn replay(
    app: App,
    (caller, id): (Principal, EndpointId),
    body: Body,
) -> Result<Response, ApiError> {
    let wanted: ReplayRequest = json::read(body).await?;
    let since = wanted.since.max(app.0.events.kept_since());
    let (replayed, has_more) = app.0.webhooks.replay_since(&caller, id, since).await?;
    let view = ReplayView { object: "webhook_replay".to_owned(), replayed, has_more };
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

/// `:rotate-secret`, `:test` and `:replay`: the router knows whole segments alone.
pub(super) async fn act_on_endpoint(
    (caller, _): (Caller, AcceptsJson),
    State(app): State<App>,
    action: Named,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Webhooks)?;
    let action = action.map(|Path(action)| action).unwrap_or_default();
    let endpoint = |id: &str| id.parse().map_err(|_| ApiError::from(WebhookError::NoEndpoint).closing());
    match action.split_once(':') {
        Some((id, "rotate-secret")) => rotate_secret(app, (caller, endpoint(id)?), body).await,
        Some((id, "test")) => test_endpoint(app, (caller, endpoint(id)?)).await,
        Some((id, "replay")) => replay(app, (caller, endpoint(id)?), body).await,
        _ => Err(ApiError::new(
            ErrorCode::RouteNotFound,
            "An endpoint can be sent `:rotate-secret`, `:test` and `:replay`, as in POST \
             /v1/webhook-endpoints/{id}:test.",
        )
        .closing()),
    }
}

/// What was delivered to a webhook endpoint?
///
/// Newest first, each with what came of its last 20 attempts: address, status, time, and the first bytes of the answer.
#[utoipa::path(
    get, path = "/v1/webhook-endpoints/{id}/deliveries", tag = "webhooks", operation_id = "listWebhookDeliveries",
    params(("id" = EndpointId, Path, description = "The endpoint."), DeliveryQuery), security(("api_key" = [])),
    responses((status = 200, description = "A page of deliveries.", body = DeliveryList), DeliveryListErrors)
)]
pub(super) async fn list_deliveries(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    (id, query): (Named, InQuery<DeliveryQuery>),
) -> Result<Json<DeliveryList>, ApiError> {
    let caller = caller.require(Scope::Webhooks)?;
    let filter = filter(named(id)?, query?.0)?;
    let (found, has_more) = shared.webhooks.deliveries(&caller, filter).await?;
    let last = found.last().filter(|_| has_more);
    let next_cursor = last.map(|last| format!("{}.{}", last.created_at.as_microsecond(), last.event));
    let data = found.into_iter().map(Into::into).collect();
    Ok(Json(DeliveryList { object: "list".to_owned(), data, has_more, next_cursor }))
}

/// Send one event to a webhook endpoint again
///
/// Whether it was delivered or not; with the id that it always has, and the attempts before it in its log.
#[utoipa::path(
    post, path = "/v1/webhook-endpoints/{id}/deliveries/{event}:replay", tag = "webhooks",
    operation_id = "replayWebhook",
    params(
        ("id" = EndpointId, Path, description = "The endpoint."),
        ("event" = EventId, Path, description = "The event.")
    ),
    security(("api_key" = [])),
    responses((status = 202, description = "The delivery, on its way.", body = DeliveryView), DeliveryErrors)
)]
pub(super) async fn replay_delivery(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    names: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Webhooks)?;
    let (id, action) = names.map(|Path(names)| names).unwrap_or_default();
    let id = id.parse().map_err(|_| WebhookError::NoEndpoint)?;
    let Some((event, "replay")) = action.split_once(':') else {
        let detail = "A delivery can be sent `:replay`, as in POST \
                      /v1/webhook-endpoints/{id}/deliveries/{event}:replay.";
        return Err(ApiError::new(ErrorCode::RouteNotFound, detail).closing());
    };
    let event = event.parse().map_err(|_| WebhookError::NoDelivery)?;
    let delivery: DeliveryView = shared.webhooks.replay(&caller, id, event).await?.into();
    Ok((StatusCode::ACCEPTED, Json(delivery)).into_response())
}

fn named(id: Named) -> Result<EndpointId, ApiError> {
    // What is no id names no endpoint.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(|| WebhookError::NoEndpoint.into())
}

async fn overlap(body: Body) -> Result<SignedDuration, ApiError> {
    let wanted: RotateSecretRequest = json::read(body).await?;
    Ok(wanted.overlap.map_or(Ok(OVERLAP), |text| period("overlap", &text))?)
}

fn filter(endpoint: EndpointId, query: DeliveryQuery) -> Result<DeliveryFilter, ApiError> {
    let wrong = || ApiError::wrong_field("cursor", "is not the next_cursor of a page".to_owned());
    let before = query.cursor.map(|cursor| {
        let (at, event) = cursor.split_once('.').ok_or_else(wrong)?;
        let at = at.parse().ok().and_then(|at| Timestamp::from_microsecond(at).ok()).ok_or_else(wrong)?;
        Ok::<_, ApiError>((at, event.parse().map_err(|_| wrong())?))
    });
    let state = query.status.map(|status| match status {
        DeliveryStatus::Pending => DeliveryState::Pending,
        DeliveryStatus::Delivered => DeliveryState::Delivered,
        DeliveryStatus::Failed => DeliveryState::Failed,
    });
    Ok(DeliveryFilter {
        endpoint,
        state,
        before: before.transpose()?,
        limit: PageSize::or(query.limit, LIMIT),
    })
}
