use axum::{
    Json,
    extract::{Query, Request, State},
};
use eyebolt_types::{ErrorCode, Job, Scope};

use super::{
    App,
    accept::AcceptsJson,
    caller::Caller,
    openapi::{AnalyzeErrors, SimpleFields},
};
use crate::{ApiError, ingest::Incoming};

/// What is in this image?
///
/// One image in, one finished job out. The image comes as a part of `multipart/form-data`, or in base64 inside JSON.
/// The features, and settings where the defaults won't do, come in one of three ways: as the JSON part `request` (or
/// beside the image in a JSON body), as simple parts, or in the query. Which ones can be named is listed under the
/// parameters of this operation. A client that hangs up cancels the work.
#[utoipa::path(
    post, path = "/v1/analyze", tag = "analysis", operation_id = "analyze",
    params(SimpleFields),
    security(("api_key" = [])),
    responses((status = 200, description = "The job, finished.", body = Job), AnalyzeErrors)
)]
pub(super) async fn analyze(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    request: Request,
) -> Result<Json<Job>, ApiError> {
    let principal = caller.require(Scope::Analyze)?;
    let submission = shared.ingest.submission(incoming(request)?).await?;
    let job = shared.analyzer.analyze(submission).await?;
    Ok(Json(Job { mode: principal.mode, ..job }))
}

fn incoming(request: Request) -> Result<Incoming, ApiError> {
    let query = Query::try_from_uri(request.uri()).map_err(|_| {
        ApiError::new(ErrorCode::InvalidRequest, "The query is not a list of name=value.").closing()
    })?;
    let (parts, body) = request.into_parts();
    Ok(Incoming { headers: parts.headers, query: query.0, body })
}
