use axum::{
    Json,
    extract::{Path, rejection::PathRejection},
    response::IntoResponse,
};
use eyebolt_types::{ErrorCode, error::Fault};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    accept::{self, AcceptsJson},
    openapi::{LookUpErrors, PageErrors, ReadErrors},
    pages,
};
use crate::ApiError;

/// Everything that can go wrong.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorList {
    /// Always `list`.
    pub object: String,
    /// In the order of the catalogue.
    pub data: Vec<ErrorEntry>,
}

/// One row of the catalogue.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorEntry {
    /// The machine's name; never changes its meaning.
    pub code: ErrorCode,
    /// The HTTP status.
    pub status: u16,
    /// Who has to act.
    pub fault: Fault,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// The same for each problem of this code.
    pub title: String,
    /// What to do, in a sentence.
    pub remedy: String,
    /// Where the page is: the `type` of problems.
    pub url: String,
    /// The page, Markdown.
    pub page: String,
}

impl From<ErrorCode> for ErrorEntry {
    fn from(code: ErrorCode) -> Self {
        let row = code.row();
        Self {
            code,
            status: row.status,
            fault: row.fault,
            retryable: row.retryable,
            title: row.title.to_owned(),
            remedy: row.remedy.to_owned(),
            url: code.doc_path(),
            page: pages::page(code).to_owned(),
        }
    }
}

/// What can go wrong?
#[utoipa::path(
    get, path = "/v1/errors", tag = "errors", operation_id = "listErrors",
    responses((status = 200, description = "The whole catalogue.", body = ErrorList), ReadErrors)
)]
pub(super) async fn list_errors(_: AcceptsJson) -> Json<ErrorList> {
    Json(ErrorList {
        object: "list".to_owned(),
        data: ErrorCode::ALL.iter().copied().map(ErrorEntry::from).collect(),
    })
}

/// What does this code mean?
#[utoipa::path(
    get, path = "/v1/errors/{code}", tag = "errors", operation_id = "getError",
    params(("code" = ErrorCode, Path, description = "The code of a problem.", example = "too_dark")),
    responses((status = 200, description = "The row of this code.", body = ErrorEntry), LookUpErrors)
)]
pub(super) async fn get_error(
    _: AcceptsJson,
    code: Result<Path<String>, PathRejection>,
) -> Result<Json<ErrorEntry>, ApiError> {
    Ok(Json(look_up(code)?.into()))
}

/// The page of this code
///
/// The address in the `type` of every problem. Markdown; a browser gets it as plain text, which it shows.
#[utoipa::path(
    get, path = "/docs/errors/{code}", tag = "errors", operation_id = "explainError",
    params(("code" = ErrorCode, Path, description = "The code of a problem.", example = "too_dark")),
    responses(
        (status = 200, description = "Cause, example and remedy.", content(
            (String = "text/markdown", example = "# too_dark"),
            (String = "text/plain", example = "# too_dark")
        )),
        PageErrors
    )
)]
pub(super) async fn explain_error(
    headers: HeaderMap,
    code: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let page = pages::page(look_up(code)?);
    let browser = headers.contains_key(header::ACCEPT) && accept::accepts(&headers, &["text/html"]);
    let media_type = if browser { "text/plain; charset=utf-8" } else { "text/markdown; charset=utf-8" };
    Ok(([(header::CONTENT_TYPE, media_type), (header::VARY, "accept")], page))
}

fn look_up(code: Result<Path<String>, PathRejection>) -> Result<ErrorCode, ApiError> {
    let wanted = code.map(|Path(code)| code).unwrap_or_default();
    let found = ErrorCode::ALL.iter().copied().find(|code| code.as_str() == wanted);
    found.ok_or_else(|| {
        ApiError::new(ErrorCode::RouteNotFound, "There is no such code; GET /v1/errors lists them all.")
    })
}
