//! Streams of server-sent events.

use axum::{
    body::Body,
    extract::{FromRequestParts, Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use eyebolt_types::{ErrorCode, Event, Scope, id::JobId};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};

use super::{
    App,
    accept::accepts,
    caller::Caller,
    openapi::{EventErrors, JobEventErrors, LastEventId},
};
use crate::{ApiError, events::Frames, jobs::missing};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Proof that the client takes a stream.
#[derive(Debug)]
pub(super) struct AcceptsStream;

impl<S: Sync> FromRequestParts<S> for AcceptsStream {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if accepts(&parts.headers, &["text/event-stream", "text/*", "*/*"]) {
            return Ok(Self);
        }
        let detail = "The answer is text/event-stream, which the header Accept rules out.";
        Err(ApiError::new(ErrorCode::NotAcceptable, detail))
    }
}

/// What happens in this project?
///
/// A stream of server-sent events: every event of the key's project and mode, in one order. Without `Last-Event-ID` it
/// begins now; with it, behind that event, so that nothing is missed and nothing comes twice. The stream ends after
/// `events.stream_lifetime`, and when the server stops: clients such as `EventSource` come back by themselves.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "streamEvents", params(LastEventId),
    security(("api_key" = [])),
    responses(
        (status = 200, description = "Events as they happen; the `data` of each is an Event.",
         content_type = "text/event-stream", body = Event),
        EventErrors
    )
)]
pub(super) async fn stream_events(
    caller: Caller,
    _: AcceptsStream,
    State(App(shared)): State<App>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let after = last_event_id(&headers)?;
    Ok(stream(shared.events.of_project(&caller, after).await?))
}

/// How does this job come along?
///
/// A stream of server-sent events: `job.progress` as it goes on, without an id since each says all of it, then the event of
/// its end. Then the stream ends; a client that comes back with `Last-Event-ID` is answered `204`, which tells
/// `EventSource` to stop.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", tag = "events", operation_id = "streamJobEvents",
    params(("id" = JobId, Path, description = "The job."), LastEventId), security(("api_key" = [])),
    responses(
        (status = 200, description = "Events as they happen; the `data` of those with an id is an Event.",
         content_type = "text/event-stream", body = Event),
        (status = 204, description = "The job has ended, and the client knows."),
        JobEventErrors
    )
)]
pub(super) async fn stream_job_events(
    caller: Caller,
    _: AcceptsStream,
    State(App(shared)): State<App>,
    (id, headers): (Result<Path<String>, PathRejection>, HeaderMap),
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let job: JobId = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(missing)?;
    let after = last_event_id(&headers)?.unwrap_or(0);
    let frames = shared.events.of_job(&caller, job, after).await?;
    Ok(frames.map_or_else(|| StatusCode::NO_CONTENT.into_response(), stream))
}

pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(said) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let read = said.to_str().ok().map(str::trim);
    match read {
        Some("") => Ok(None),
        Some(id) if id.len() <= 18 && id.bytes().all(|byte| byte.is_ascii_digit()) => Ok(id.parse().ok()),
        _ => Err(ApiError::wrong_field("Last-Event-ID", "names no event of this stream".to_owned())),
    }
}

pub(super) fn stream(frames: Frames) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies that gather answers would keep the events to themselves.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let body = Body::from_stream(frames.map(Ok::<_, std::convert::Infallible>));
    (headers, body).into_response()
}
