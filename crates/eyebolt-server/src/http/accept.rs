use axum::extract::FromRequestParts;
use eyebolt_types::ErrorCode;
use http::{HeaderMap, header, request::Parts};

use crate::ApiError;

/// Proof that the client takes JSON. Without an `Accept` header it takes anything (RFC 9110, section 12.5.1).
#[derive(Debug)]
pub(super) struct AcceptsJson;

impl<S: Sync> FromRequestParts<S> for AcceptsJson {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if accepts(&parts.headers, &["application/json", "application/*", "*/*"]) {
            return Ok(Self);
        }
        let detail = "The answer is application/json, which the header Accept rules out.";
        // The body is not read.
        Err(ApiError::new(ErrorCode::NotAcceptable, detail).closing())
    }
}

/// Whether one of the media ranges is accepted with a weight above 0.
pub(super) fn accepts(headers: &HeaderMap, ranges: &[&str]) -> bool {
    let mut said = false;
    let mut accepted = false;
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for item in value.split(',') {
            let mut pieces = item.split(';').map(str::trim);
            let range = pieces.next().unwrap_or_default();
            said |= !range.is_empty();
            let refused = pieces.any(|piece| {
                piece.strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok()) == Some(0.0)
            });
            accepted |= !refused && ranges.iter().any(|wanted| wanted.eq_ignore_ascii_case(range));
        }
    }
    accepted || !said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_acceptable_unless_ruled_out() {
        let json = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            accepts(&headers, &["application/json", "application/*", "*/*"])
        };
        assert!(accepts(&HeaderMap::new(), &["application/json"]));
        for taken in
            ["", "*/*", "application/json", "text/html, application/*;q=0.1", "Application/JSON; q=1"]
        {
            assert!(json(taken), "{taken}");
        }
        for refused in ["text/html", "application/json;q=0", "application/json; q=0.000, image/png"] {
            assert!(!json(refused), "{refused}");
        }
    }
}
