//! Jobs as answers.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use eyebolt_store::StoredJob;
use eyebolt_types::{ErrorCode, Job, id::JobId};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::problem::{ERROR_CODE, SHOULD_RETRY};
use crate::{
    ApiError,
    jobs::{Ended, Replay, document},
    prefer::Prefer,
};

pub(super) const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub(super) const ORIGINAL_REQUEST_ID: HeaderName = HeaderName::from_static("original-request-id");
pub(super) const DEDUP_STATUS: HeaderName = HeaderName::from_static("dedup-status");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Seconds after which a running job is worth another look.
const LOOK_AGAIN: u32 = 1;

/// What of the header `Prefer` was done (RFC 7240, section 3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Applied {
    respond_async: bool,
    wait: Option<Duration>,
}

impl Applied {
    pub(super) fn of(prefer: Prefer, patience: Duration) -> Self {
        Self { respond_async: prefer.respond_async, wait: prefer.wait.map(|_| patience) }
    }

    fn header(self, running: bool) -> Option<String> {
        let wait = self.wait.map(|wait| format!("wait={}", wait.as_secs()));
        let respond_async = (self.respond_async && running).then(|| "respond-async".to_owned());
        let applied: Vec<_> = respond_async.into_iter().chain(wait).collect();
        (!applied.is_empty()).then(|| applied.join(", "))
    }
}

/// The end of a job, told for the first time.
pub(super) fn ended(ended: &Ended, job: JobId, applied: Applied) -> Response {
    crate::failpoint::hit("before_answer");
    let mut response = of_end(ended, job);
    apply(&mut response, applied.header(false));
    response
}

/// The same bytes as the first time, for a request whose body was not looked at. Unless it was thrown away, the connection ends
/// with it.
pub(super) fn unread(replay: &Replay, thrown_away: bool) -> Response {
    let mut response = replayed(replay);
    if !thrown_away {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The same bytes as the first time.
pub(super) fn replayed(replay: &Replay) -> Response {
    let mut response = of_end(&replay.ended, replay.job);
    let headers = response.headers_mut();
    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    if let Ok(original) = HeaderValue::from_str(&replay.request_id) {
        headers.insert(ORIGINAL_REQUEST_ID, original);
    }
    response
}

/// A job that has not ended: `202`, and where to look.
pub(super) fn running(job: &StoredJob, applied: Applied) -> Result<Response, ApiError> {
    let mut response = accepted(&document::so_far(job)?);
    apply(&mut response, applied.header(true));
    Ok(response)
}

/// A job that waits or runs, after something was done to it.
pub(super) fn accepted(job: &Job) -> Response {
    let mut response = (StatusCode::ACCEPTED, axum::Json(job)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location(job.id));
    headers.insert(header::RETRY_AFTER, LOOK_AGAIN.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The first request with this key has not ended.
pub(super) fn in_use(job: JobId) -> ApiError {
    let mut error =
        ApiError::new(ErrorCode::IdempotencyKeyInUse, format!("The job {job} of this key is still running."));
    error.problem_mut().params.insert("job".to_owned(), job.to_string().into());
    error.at_location(format!("/v1/jobs/{job}"))
}

/// The code of a problem, in an answer that is one.
pub(super) fn code(response: &Response) -> Option<ErrorCode> {
    let extensions = response.extensions();
    let refused = extensions.get::<ApiError>().map(|error| error.problem().code);
    refused.or_else(|| extensions.get::<ErrorCode>().copied())
}

/// A document as it is kept.
pub(super) fn document(bytes: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from(bytes)).into_response()
}

/// The document of a job that was canceled by this request, or before.
pub(super) fn canceled(bytes: Bytes, job: JobId) -> Response {
    let mut response = document(bytes);
    response.headers_mut().insert(header::LOCATION, location(job));
    response
}

fn of_end(ended: &Ended, job: JobId) -> Response {
    let mut response = document(ended.body.clone());
    *response.status_mut() = StatusCode::from_u16(ended.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(code) = ended.code {
        response.extensions_mut().insert(code);
    }
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location(job));
    if let Some(code) = ended.code {
        let row = code.row();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(ERROR_CODE, HeaderValue::from_static(code.as_str()));
        let retry = if row.retryable { "true" } else { "false" };
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(retry));
        if row.retryable {
            headers.insert(header::RETRY_AFTER, LOOK_AGAIN.into());
        }
    }
    if let Some(dedup) = ended.dedup.as_deref().and_then(|dedup| HeaderValue::from_str(dedup).ok()) {
        headers.insert(DEDUP_STATUS, dedup);
    }
    response
}

fn apply(response: &mut Response, applied: Option<String>) {
    if let Some(applied) = applied.and_then(|applied| HeaderValue::try_from(applied).ok()) {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
}

fn location(job: JobId) -> HeaderValue {
    HeaderValue::try_from(format!("/v1/jobs/{job}")).expect("an id is plain ASCII")
}
