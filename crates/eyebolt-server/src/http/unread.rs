//! Bodies that nobody needs: a connection whose request was not read to its end can't be used again (RFC 9112, section 9.3).

use std::time::Duration;

use axum::body::{Body, HttpBody};
use http::{header, request::Parts};
use http_body_util::BodyExt;
use tokio::time::timeout;

/// What is larger costs more to read than a new connection, bytes.
const SMALL: u64 = 64 << 10;

/// What has not come by then is not waited for.
const SOON: Duration = Duration::from_millis(10);

/// Throws a small body away, where it has come with its headers; then the connection goes on. One that was only announced
/// (`Expect: 100-continue`) is not asked for.
pub(super) async fn thrown_away(head: &Parts, mut body: Body) -> bool {
    let announced = head.headers.contains_key(header::EXPECT);
    if body.is_end_stream() {
        return true;
    }
    if announced || body.size_hint().exact().is_none_or(|bytes| bytes > SMALL) {
        return false;
    }
    let discard = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    timeout(SOON, discard).await.unwrap_or(false)
}
