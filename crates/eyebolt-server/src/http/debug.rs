//! A page that shows how busy the machine is. It holds nothing by itself: its script asks for the admin token and reads
//! `GET /admin/v1/capacity` with it.

use axum::response::IntoResponse;
use http::{HeaderName, HeaderValue, header};

use super::openapi::AliveErrors;

const PAGE: &str = include_str!("debug/capacity.html");
const SCRIPT: &str = include_str!("debug/capacity.js");
const STYLE: &str = include_str!("debug/capacity.css");

/// Nothing from elsewhere, nothing inline, no frame around it: what is shown of names and models can't become a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// How busy the machine is, as a page
///
/// Asks for the admin token, and shows what `GET /admin/v1/capacity` tells, second by second.
#[utoipa::path(
    get, path = "/debug/capacity", tag = "operations", operation_id = "showCapacity",
    responses(
        (status = 200, description = "The page.", content((String = "text/html", example = "<!doctype html>"))),
        AliveErrors
    )
)]
pub(super) async fn capacity_page() -> impl IntoResponse {
    file("text/html; charset=utf-8", PAGE)
}

pub(super) async fn capacity_script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn capacity_style() -> impl IntoResponse {
    file("text/css; charset=utf-8", STYLE)
}

fn file(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // A page and a script of two versions do not fit.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text)
}
