//! Every layer that a request passes, outermost first.

use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use eyebolt_types::{ErrorCode, id::RequestId};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use hyper::body::Body as _;
use tokio::time::{Instant, sleep};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, field};

use super::{
    App, Shared, answer, batches,
    problem::{self, Asked},
    ratelimit, witness,
};
use crate::ApiError;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the layers around the routes.
pub(super) fn around(routes: Router, app: &App) -> Router {
    routes.layer(
        ServiceBuilder::new()
            // Sees every answer, so each has an id, a line in the log and its problem written out.
            .layer(middleware::from_fn_with_state(app.clone(), exchange))
            // Inside the log, so that a panic is answered and logged like any other failure.
            .layer(CatchPanicLayer::custom(after_panic))
            // Limits are told with every answer, refusals too.
            .layer(middleware::from_fn_with_state(app.clone(), ratelimit::tell))
            // How clients behave: each answer to a caller that is known.
            .layer(middleware::from_fn_with_state(app.clone(), witness::note))
            // Before any work: what is refused here has cost nothing yet.
            .layer(middleware::from_fn_with_state(app.clone(), limit_headers))
            // Around the handler alone: nothing outside it waits.
            .layer(middleware::from_fn_with_state(app.clone(), in_time)),
    )
}

/// Gives the request its id and span, and the answer its last headers.
async fn exchange(State(App(shared)): State<App>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = RequestId::new();
    let asked = Asked { path: request.uri().path().to_owned(), has_body: !request.body().is_end_stream() };
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let (route, method) =
        (matched.as_ref().map_or("unmatched", MatchedPath::as_str), request.method().clone());
    let span = tracing::info_span!("request", %id, method = %request.method(), route);
    request.extensions_mut().insert(id);
    async move {
        let mut response = next.run(request).await;
        let (code, took) = (answer::code(&response), began.elapsed());
        shared.jobs.metrics().answered(
            (&method, matched.as_ref().map(MatchedPath::as_str)),
            (response.status(), code),
            took,
        );
        tracing::info!(
            status = response.status().as_u16(),
            code = code.map(field::display),
            milliseconds = took.as_secs_f64() * 1e3,
            "answered"
        );
        problem::write(&mut response, id, &asked);
        seal(response.headers_mut(), id);
        response
    }
    .instrument(span)
    .await
}

/// What every answer carries.
fn seal(headers: &mut HeaderMap, id: RequestId) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The panic's message stays in the process: the default hook has printed it.
fn after_panic(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::new(ErrorCode::Internal, "The server made a mistake; it has been logged under the request id.")
        .closing()
        .into_response()
}

async fn limit_headers(State(App(shared)): State<App>, request: Request, next: Next) -> Response {
    let limit = shared.settings.max_header_bytes;
    let found: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if found <= limit {
        return next.run(request).await;
    }
    let detail = format!("The headers have {found} bytes, more than {limit}.");
    let mut error = ApiError::new(ErrorCode::HeadersTooLarge, detail).closing();
    let params = &mut error.problem_mut().params;
    params.insert("limit_name".to_owned(), "max_header_bytes".into());
    params.insert("limit".to_owned(), limit.into());
    params.insert("found".to_owned(), found.into());
    error.into_response()
}

/// How long a request may take: one that brings a batch, as long as its body may, and then as any other.
fn allowed(shared: &Shared, request: &Request) -> Duration {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let usual = shared.settings.request_timeout;
    if request.method() == Method::POST && route == Some(batches::ROUTE) {
        return shared.batches.settings().body_timeout.saturating_add(usual);
    }
    usual
}

/// Ends the request when its time is over, or when a stopping server waits no longer. A job that was accepted goes on.
async fn in_time(State(App(shared)): State<App>, request: Request, next: Next) -> Response {
    let limit = allowed(&shared, &request);
    tokio::select! {
        response = next.run(request) => response,
        () = sleep(limit) => {
            let detail = format!("The answer was not ready after {limit:?}.");
            let mut error = ApiError::new(ErrorCode::DeadlineExceeded, detail).closing();
            let params = &mut error.problem_mut().params;
            params.insert("limit_name".to_owned(), "request_timeout".into());
            params.insert("limit".to_owned(), limit.as_secs_f64().into());
            error.into_response()
        }
        () = shared.halt.cancelled() => {
            let detail = "The server stopped before the answer was ready.";
            ApiError::new(ErrorCode::ShuttingDown, detail).closing().into_response()
        }
    }
}
