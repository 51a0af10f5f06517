//! What came of a batch's items, as lines of JSON.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use eyebolt_types::{ErrorCode, JobStatus, Scope, id::BatchId};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Shared,
    accept::accepts,
    batches::{Named, named, position},
    caller::Caller,
    openapi::BatchErrors,
    query::InQuery,
};
use crate::{ApiError, batches::BatchItemView};

/// Items that a stream of results reads at once: each may have a document of some size.
const PAGE: u32 = 20;

/// Where a stream of results begins.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultsQuery {
    /// The `position` of the last line that was received: the stream goes on behind it.
    #[param(value_type = Option<u32>)]
    cursor: Option<String>,
}

/// What was found?
///
/// A line of JSON for each item that succeeded, in their order, up to the first item that has not ended: `custom_id`,
/// `position` and the `job` as `GET /v1/jobs/{id}` shows it. Who comes back with the last `position` as `cursor` gets what
/// came since, and nothing twice.
#[utoipa::path(
    get, path = "/v1/batches/{id}/results", tag = "batches", operation_id = "streamBatchResults",
    params(("id" = BatchId, Path, description = "The batch."), ResultsQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "Lines of JSON.", content_type = "application/x-ndjson", body = BatchItemView),
        BatchErrors
    )
)]
pub(super) async fn stream_results(
    caller: Caller,
    headers: HeaderMap,
    State(App(shared)): State<App>,
    (id, query): (Named, InQuery<ResultsQuery>),
) -> Result<Response, ApiError> {
    let (id, after) = wanted(&shared, caller, (&headers, id, query)).await?;
    Ok(lines(&shared, (id, after), true))
}

/// What failed?
///
/// A line of JSON for each item that has ended without an answer, in their order, up to the first item that has not ended:
/// the item with its `error`.
#[utoipa::path(
    get, path = "/v1/batches/{id}/errors", tag = "batches", operation_id = "streamBatchErrors",
    params(("id" = BatchId, Path, description = "The batch."), ResultsQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "Lines of JSON.", content_type = "application/x-ndjson", body = BatchItemView),
        BatchErrors
    )
)]
pub(super) async fn stream_errors(
    caller: Caller,
    headers: HeaderMap,
    State(App(shared)): State<App>,
    (id, query): (Named, InQuery<ResultsQuery>),
) -> Result<Response, ApiError> {
    let (id, after) = wanted(&shared, caller, (&headers, id, query)).await?;
    Ok(lines(&shared, (id, after), false))
}

async fn wanted(
    shared: &Shared,
    caller: Caller,
    (headers, id, query): (&HeaderMap, Named, InQuery<ResultsQuery>),
) -> Result<(BatchId, Option<u32>), ApiError> {
    let caller = caller.require(Scope::Read)?;
    let kinds = ["application/x-ndjson", "application/jsonl", "application/json", "application/*", "*/*"];
    if !accepts(headers, &kinds) {
        let detail = "The answer is application/x-ndjson, which the header Accept rules out.";
        return Err(ApiError::new(ErrorCode::NotAcceptable, detail));
    }
    let (id, after) = (named(id)?, position(query?.0.cursor)?);
    shared.batches.read(&caller, id).await?;
    Ok((id, after))
}

/// Reads on as the connection takes what was read.
fn lines(shared: &Shared, (id, after): (BatchId, Option<u32>), succeeded: bool) -> Response {
    let batches = shared.batches.clone();
    let pieces = stream::try_unfold(Some(after), move |place| {
        let batches = batches.clone();
        async move {
            let Some(after) = place else { return Ok(None) };
            let items = batches.ended_items(id, (after, PAGE)).await.map_err(std::io::Error::other)?;
            let last = items.last().map(|(item, _)| item.position);
            let next = last.filter(|_| items.len() == PAGE as usize).map(Some);
            let mut text = Vec::new();
            for (item, document) in items {
                if (item.status == JobStatus::Succeeded) != succeeded {
                    continue;
                }
                let document = match document.filter(|_| succeeded) {
                    Some(document) => batches.bytes(document).await.map_err(std::io::Error::other)?,
                    None => None,
                };
                let view = BatchItemView::of(item).map_err(std::io::Error::other)?;
                write_line(&mut text, &view, document.as_deref());
            }
            Ok::<_, std::io::Error>(last.map(|_| (Bytes::from(text), next)))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let full =
        pieces.filter(|piece| std::future::ready(piece.as_ref().map_or(true, |text| !text.is_empty())));
    (headers, Body::from_stream(full)).into_response()
}

/// The item, and its job byte for byte as it is kept.
fn write_line(text: &mut Vec<u8>, item: &BatchItemView, job: Option<&[u8]>) {
    let mut line = serde_json::to_vec(item).expect("words of the API are plain data");
    if let Some(job) = job {
        line.pop();
        line.extend_from_slice(b",\"job\":");
        line.extend_from_slice(job);
        line.push(b'}');
    }
    line.push(b'\n');
    text.extend_from_slice(&line);
}
