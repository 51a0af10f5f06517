//! Problems as answers (RFC 9457).

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use eyebolt_types::{ErrorCode, Problem, id::RequestId};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::ApiError;

pub(super) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The longest request path that is repeated in an answer, bytes.
const MAX_INSTANCE: usize = 256;

/// What a problem repeats of the request, or depends on.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) has_body: bool,
}

impl IntoResponse for ApiError {
    /// Only the status and the problem itself: the outermost layer knows the request and writes the rest.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the problem that a response carries into its body and headers.
pub(super) fn write(response: &mut Response, id: RequestId, asked: &Asked) {
    let Some(mut error) = response.extensions_mut().remove::<ApiError>() else { return };
    let problem = error.problem_mut();
    problem.request_id = Some(id.to_string());
    problem.instance = (asked.path.len() <= MAX_INSTANCE).then(|| asked.path.clone());
    if let Ok(body) = serde_json::to_vec(problem) {
        *response.body_mut() = Body::from(body);
    }
    let headers = response.headers_mut();
    write_headers(headers, error.problem());
    if let Some(location) = error.location().and_then(|location| HeaderValue::from_str(location).ok()) {
        headers.insert(header::LOCATION, location);
    }
    if asked.has_body && error.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn write_headers(headers: &mut HeaderMap, problem: &Problem) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ERROR_CODE, HeaderValue::from_static(problem.code.as_str()));
    headers.insert(SHOULD_RETRY, HeaderValue::from_static(if problem.retryable { "true" } else { "false" }));
    if problem.status == 401 {
        // RFC 6750, section 3: what to show, and, where a key was shown, that it is wrong.
        let shown = !matches!(problem.code, ErrorCode::Unauthorized | ErrorCode::InvalidAdminToken);
        let challenge = if shown { r#"Bearer error="invalid_token""# } else { "Bearer" };
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
}
