//! Small JSON bodies, and answers that hold a secret.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use eyebolt_types::ErrorCode;
use http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::{ApiError, ingest};

/// Bytes of such a body.
const MAX_BODY: usize = 64 << 10;

/// Reads a JSON body. None at all is an empty object.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let text = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| {
        let detail = format!("The body broke off or has more than {MAX_BODY} bytes.");
        ApiError::new(ErrorCode::InvalidRequest, detail).closing()
    })?;
    let text = if text.is_empty() { &b"{}"[..] } else { &text };
    Ok(ingest::of_small_json(text)?)
}

/// An answer that holds a secret: no cache may keep it.
pub(super) fn secret(status: StatusCode, answer: impl serde::Serialize) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, no_store, Json(answer)).into_response()
}
