//! Many images at once.

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use eyebolt_types::{
    BatchStatus, ErrorCode, Event, JobStatus, Scope,
    id::{BatchId, RequestId},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    accept::AcceptsJson,
    analyze::incoming,
    answer::{IDEMPOTENT_REPLAYED, ORIGINAL_REQUEST_ID},
    caller::Caller,
    events::{AcceptsStream, last_event_id, stream as event_stream},
    openapi::{
        BatchCancelErrors, BatchCreateErrors, BatchErrors, BatchEventErrors, BatchListErrors,
        BatchRetryErrors, BatchSettingsInQuery, LastEventId, RetryHeaders,
    },
    query::{InQuery, PageSize},
    ratelimit::Whose,
    witness,
};
use crate::{
    ApiError,
    batches::{Ask, BatchItemList, BatchList, BatchView, Submitted, missing},
    idempotency::IdempotencyKey,
    ingest::{BatchLimits, DeclaredDigest},
};

/// The route, as digests of whole requests name it.
pub(super) const ROUTE: &str = "/v1/batches";

/// Batches or items on a page where nothing is said.
const LIMIT: u32 = 20;

pub(super) type Named = Result<Path<String>, PathRejection>;

/// What a page of batches is made of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BatchesQuery {
    /// Only batches in this state.
    status: Option<BatchStatus>,
    /// Batches on this page.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<PageSize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What a page of items is made of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ItemsQuery {
    /// Only items in this state.
    status: Option<JobStatus>,
    /// Items on this page.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<PageSize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A batch as one JSON document. The settings of `AnalyzeRequest` may stand beside `items`, for all of them, and in each item.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "described; it is read member by member")]
pub(crate) struct BatchDocument {
    /// Which of the project's batches goes first: the greater, -100 to 100. Default 0.
    priority: Option<i64>,
    /// The part of the items that may fail, 0 to 1. As soon as more have failed, the others are canceled. Default 1.
    max_failure_rate: Option<f64>,
    /// Seconds that the items have, 60 to 604800. Default: what the server's operator says.
    expires_in: Option<u64>,
    /// Where the batch's end is told, beside the project's webhook endpoints.
    webhook_url: Option<String>,
    /// The images. It is the last member.
    items: Vec<BatchItemDocument>,
}

/// One image of a batch: a line of JSON, or an element of `items`. Settings that are there go before those of the batch.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "described; it is read member by member")]
pub(crate) struct BatchItemDocument {
    /// Your name for it: 1 to 255 characters, each name once in a batch.
    custom_id: String,
    /// The file in base64.
    image_base64: Option<String>,
    /// Or the name of an image that was sent before.
    image_id: Option<String>,
    /// What its job is known by beside all analyses of the project: as the header `Idempotency-Key` of a call for this image
    /// alone. Each key once in a batch.
    #[schema(min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

/// What is in these images?
///
/// Up to 10,000 images under one name. They come as one JSON document with the member `items`, as lines of JSON
/// (`application/x-ndjson`), or as the files of a form; what is said of all of them comes in the query, before `items`, or
/// before the first file. Images are written to the disk as they come, so that a body may be as long as it likes. The answer is
/// `202` once all of them are durable. An image that can't be taken is a failed item, and the others stand.
///
/// Items run when the machine has time, and never before calls that somebody waits for.
#[utoipa::path(
    post, path = "/v1/batches", tag = "batches", operation_id = "createBatch",
    params(RetryHeaders, BatchSettingsInQuery), security(("api_key" = [])),
    responses(
        (status = 202, description = "The batch, whose items wait. `Location` says where to look.", body = BatchView),
        BatchCreateErrors
    )
)]
pub(super) async fn create_batch(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Analyze).map_err(ApiError::closing)?;
    let sighting = witness::sighting(&shared, (request.headers(), request.extensions()));
    let knocked = shared.jobs.clients().knock(&caller, &sighting);
    knocked.map_err(|runs_away| ApiError::from(runs_away).closing())?;
    let headers = request.headers();
    let key = if shared.jobs.key_required() {
        Some(IdempotencyKey::required(headers)?)
    } else {
        IdempotencyKey::of(headers)?
    };
    let digest = DeclaredDigest::of(headers)?;
    let form = headers.get(header::CONTENT_TYPE);
    let body = digest.map(|digest| digest.of_request(ROUTE, (request.uri().query(), form)));
    if let (Some(key), Some(body)) = (&key, &body)
        && let Some(record) =
            shared.batches.replay_unread(&caller, (key, body)).await.map_err(ApiError::closing)?
    {
        let mut response = answered(record.batch, record.answer.into(), Some(&record.request_id));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(response);
    }
    let request_id = request.extensions().get::<RequestId>().copied().unwrap_or_default().to_string();
    let told = request.extensions().get::<Whose>().map(|whose| whose.told().clone()).unwrap_or_default();
    let settings = shared.batches.settings();
    let limits = BatchLimits { max_bytes: settings.max_body_bytes, timeout: settings.body_timeout };
    let read = shared.ingest.batch(incoming(request.into_parts(), digest)?, limits)?;
    let ask = Ask { key, body, request_id, told };
    Ok(match shared.batches.submit(&caller, read, ask).await? {
        Submitted::New(id, body) => answered(id, body, None),
        Submitted::Replay(record) => answered(record.batch, record.answer.into(), Some(&record.request_id)),
    })
}

/// `replayed`: the request that was answered so before.
fn answered(id: BatchId, body: Bytes, replayed: Option<&str>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let mut response = (StatusCode::ACCEPTED, headers, Body::from(body)).into_response();
    let headers = response.headers_mut();
    if let Ok(place) = HeaderValue::try_from(format!("{ROUTE}/{id}")) {
        headers.insert(header::LOCATION, place);
    }
    if let Some(original) = replayed {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        if let Ok(original) = HeaderValue::from_str(original) {
            headers.insert(ORIGINAL_REQUEST_ID, original);
        }
    }
    response
}

/// Which batches are there?
///
/// Batches of the key's project and mode, newest first.
#[utoipa::path(
    get, path = "/v1/batches", tag = "batches", operation_id = "listBatches", params(BatchesQuery),
    security(("api_key" = [])),
    responses((status = 200, description = "A page of batches.", body = BatchList), BatchListErrors)
)]
pub(super) async fn list_batches(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    query: InQuery<BatchesQuery>,
) -> Result<Json<BatchList>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let BatchesQuery { status, limit, cursor } = query?.0;
    let after = cursor.map(|cursor| cursor.parse().map_err(|_| no_cursor())).transpose()?;
    let (data, has_more) = shared.batches.list(&caller, (status, after, PageSize::or(limit, LIMIT))).await?;
    let next_cursor = data.last().filter(|_| has_more).map(|batch| batch.id.to_string());
    Ok(Json(BatchList { object: "list".to_owned(), data, has_more, next_cursor }))
}

/// Where does this batch stand?
#[utoipa::path(
    get, path = "/v1/batches/{id}", tag = "batches", operation_id = "getBatch",
    params(("id" = BatchId, Path, description = "The batch.")), security(("api_key" = [])),
    responses((status = 200, description = "The batch.", body = BatchView), BatchErrors)
)]
pub(super) async fn get_batch(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    id: Named,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let batch = shared.batches.read(&caller, named(id)?).await?;
    let ended = batch.status.is_terminal();
    let mut response = Json(batch).into_response();
    if !ended {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// Where does each item stand?
#[utoipa::path(
    get, path = "/v1/batches/{id}/items", tag = "batches", operation_id = "listBatchItems",
    params(("id" = BatchId, Path, description = "The batch."), ItemsQuery), security(("api_key" = [])),
    responses((status = 200, description = "A page of items.", body = BatchItemList), BatchErrors)
)]
pub(super) async fn list_items(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    (id, query): (Named, InQuery<ItemsQuery>),
) -> Result<Json<BatchItemList>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let ItemsQuery { status, limit, cursor } = query?.0;
    let after = position(cursor)?;
    let (data, has_more) =
        shared.batches.items((&caller, named(id)?), (status, after, PageSize::or(limit, LIMIT))).await?;
    let next_cursor = data.last().filter(|_| has_more).map(|item| item.position.to_string());
    Ok(Json(BatchItemList { object: "list".to_owned(), data, has_more, next_cursor }))
}

/// How does this batch come along?
///
/// A stream of server-sent events: `batch.progress` as it goes on, without an id since each says all of it, the end of each
/// item's job, and the batch's own end. Then the stream ends; a client that comes back with `Last-Event-ID` is answered `204`,
/// which tells `EventSource` to stop.
#[utoipa::path(
    get, path = "/v1/batches/{id}/events", tag = "events", operation_id = "streamBatchEvents",
    params(("id" = BatchId, Path, description = "The batch."), LastEventId), security(("api_key" = [])),
    responses(
        (status = 200, description = "Events as they happen; the `data` of those with an id is an Event.",
         content_type = "text/event-stream", body = Event),
        (status = 204, description = "The batch has ended, and the client knows."),
        BatchEventErrors
    )
)]
pub(super) async fn stream_batch_events(
    caller: Caller,
    _: AcceptsStream,
    State(App(shared)): State<App>,
    (id, headers): (Named, HeaderMap),
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let after = last_event_id(&headers)?;
    let frames = shared.events.of_batch(&caller, named(id)?, after).await?;
    Ok(frames.map_or_else(|| StatusCode::NO_CONTENT.into_response(), event_stream))
}

/// Stop this batch
///
/// Items that wait are canceled at once, those that run before their next step, within seconds. What was found stays. A batch
/// that was canceled before stays so.
#[utoipa::path(
    post, path = "/v1/batches/{id}:cancel", tag = "batches", operation_id = "cancelBatch",
    params(("id" = BatchId, Path, description = "The batch.")), security(("api_key" = [])),
    responses((status = 200, description = "The batch, which ends.", body = BatchView), BatchCancelErrors)
)]
pub(super) async fn cancel_batch(
    caller: Caller,
    app: State<App>,
    id: BatchId,
) -> Result<Json<BatchView>, ApiError> {
    let (caller, State(App(shared))) = (caller.require(Scope::Analyze)?, app);
    Ok(Json(shared.batches.cancel(&caller, id).await?))
}

/// Run failed items again
///
/// Those that failed for a passing reason, as `POST /v1/jobs/{id}:retry` does: steps that succeeded stay, and are not charged
/// again. Items that succeeded are not touched. Two such requests at once make one run of each.
#[utoipa::path(
    post, path = "/v1/batches/{id}:retry", tag = "batches", operation_id = "retryBatch",
    params(("id" = BatchId, Path, description = "The batch.")), security(("api_key" = [])),
    responses((status = 202, description = "The batch, which is worked on again.", body = BatchView), BatchRetryErrors)
)]
pub(super) async fn retry_batch(
    caller: Caller,
    app: State<App>,
    id: BatchId,
) -> Result<(StatusCode, Json<BatchView>), ApiError> {
    let (caller, State(App(shared))) = (caller.require(Scope::Analyze)?, app);
    Ok((StatusCode::ACCEPTED, Json(shared.batches.retry(&caller, id).await?)))
}

/// `POST /v1/batches/{id}:cancel` and `:retry`: the router knows whole segments alone.
pub(super) async fn act_on_batch(
    caller: Caller,
    _: AcceptsJson,
    app: State<App>,
    action: Named,
) -> Result<Response, ApiError> {
    let action = action.map(|Path(action)| action).unwrap_or_default();
    match action.split_once(':') {
        Some((id, "cancel")) => {
            Ok(cancel_batch(caller, app, id.parse().map_err(|_| missing())?).await?.into_response())
        }
        Some((id, "retry")) => {
            Ok(retry_batch(caller, app, id.parse().map_err(|_| missing())?).await?.into_response())
        }
        _ => Err(ApiError::new(
            ErrorCode::RouteNotFound,
            "A batch can be sent `:cancel` and `:retry`, as in POST /v1/batches/{id}:cancel.",
        )
        .closing()),
    }
}

pub(super) fn named(id: Named) -> Result<BatchId, ApiError> {
    // What is no id names no batch.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(missing)
}

pub(super) fn position(cursor: Option<String>) -> Result<Option<u32>, ApiError> {
    cursor.map(|cursor| cursor.parse().map_err(|_| no_cursor())).transpose()
}

fn no_cursor() -> ApiError {
    ApiError::wrong_field("cursor", "is not the cursor of a page, or the position of a line".to_owned())
}
