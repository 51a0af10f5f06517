//! Sees how every answer to a known caller came about.

use std::time::Duration;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use eyebolt_types::DedupStatus;
use http::{Extensions, HeaderMap, Method, header};

use super::{
    App, Shared,
    answer::{self, DEDUP_STATUS, IDEMPOTENT_REPLAYED},
    caller::Peer,
    ratelimit::Whose,
};
use crate::clients::{Sighting, Told};

/// The longest `User-Agent` that is looked at, bytes.
const LONGEST_AGENT: usize = 80;

/// Counts the request for its key once it is answered.
pub(super) async fn note(State(App(shared)): State<App>, mut request: Request, next: Next) -> Response {
    let Some(whose) = request.extensions().get::<Whose>().cloned() else { return next.run(request).await };
    let submits = starts_work(&request).then(|| sighting(&shared, (request.headers(), request.extensions())));
    if let Some(sighting) = &submits {
        request.extensions_mut().insert(sighting.clone());
    }
    let mut agent = [0; LONGEST_AGENT];
    let said = request.headers().get(header::USER_AGENT).map_or(&b""[..], |value| value.as_bytes());
    let length = said.len().min(LONGEST_AGENT);
    agent[..length].copy_from_slice(&said[..length]);
    let response = next.run(request).await;
    if let Some(caller) = whose.get() {
        let told = told(&response);
        shared.jobs.clients().note(caller, &agent[..length], (told, submits.as_ref()));
        count(&shared, &response, submits.as_ref());
    }
    response
}

/// What is seen of this request.
pub(super) fn sighting(shared: &Shared, (headers, extensions): (&HeaderMap, &Extensions)) -> Sighting {
    extensions.get::<Sighting>().cloned().unwrap_or_else(|| {
        let address = extensions.get::<Peer>().map(|peer| peer.0.ip());
        shared.jobs.clients().sees(headers, address)
    })
}

/// Reading, canceling and looking for the end of a job are never part of a loop that counts.
fn starts_work(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    request.method() == Method::POST && route == Some("/v1/analyze")
}

fn told(response: &Response) -> Told {
    let headers = response.headers();
    let seconds = |value: &http::HeaderValue| value.to_str().ok()?.parse().ok().map(Duration::from_secs);
    // Problems are written out further on: what they say is not in the headers yet.
    let problem = response.extensions().get::<crate::ApiError>();
    let told =
        problem.and_then(|error| error.problem().retry_after).map(|wait| Duration::from_secs(wait.into()));
    Told {
        status: response.status().as_u16(),
        code: answer::code(response),
        retry_after: told.or_else(|| headers.get(header::RETRY_AFTER).and_then(seconds)),
        duplicate: dedup(response).is_some(),
    }
}

/// Which of the states that tell of an image that was seen before.
fn dedup(response: &Response) -> Option<DedupStatus> {
    let said = response.headers().get(DEDUP_STATUS)?.as_bytes();
    let begins = |status: &DedupStatus| said.starts_with(status.name().as_bytes());
    [DedupStatus::Duplicate, DedupStatus::Reused].into_iter().find(begins)
}

fn count(shared: &Shared, response: &Response, submits: Option<&Sighting>) {
    let metrics = shared.jobs.metrics();
    let replayed = response.headers().contains_key(IDEMPOTENT_REPLAYED);
    if replayed {
        metrics.replayed();
    } else if submits.is_some_and(Sighting::is_known) && response.status().is_success() {
        metrics.joined();
    }
    if let (false, Some(status)) = (replayed, dedup(response)) {
        metrics.seen_before(status);
    }
}
