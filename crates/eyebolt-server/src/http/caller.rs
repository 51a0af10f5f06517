use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::FromRequestParts;
use eyebolt_store::Principal;
use eyebolt_types::{Policy, Scope};
use http::{HeaderMap, Method, header, request::Parts};

use super::{App, Shared, accept::AcceptsJson, ratelimit::Whose};
use crate::{ApiError, access};

/// Where the connection comes from: an extension of each request. Headers that name another address are not believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who sends the request, by its API key.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) Principal);

impl Caller {
    /// The principal, where its key may do this.
    pub(crate) fn require(self, scope: Scope) -> Result<Principal, ApiError> {
        access::require(&self.0, scope)?;
        Ok(self.0)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, App(shared): &App) -> Result<Self, ApiError> {
        let shown = bearer(&parts.headers);
        let principal = shared.access.principal(shown, address(parts)).await?;
        let whose = parts.extensions.get::<Whose>().cloned().unwrap_or_default();
        whose.set(&principal);
        // Before anything of the body is read. What was asked counts, whatever comes of it.
        match shared.quotas.take(&principal, &[(class(parts), 1)], whose.told()).await {
            Ok(taken) => {
                taken.spend();
                Ok(Self(principal))
            }
            Err(exceeded) => Err(ApiError::from(exceeded).closing()),
        }
    }
}

/// What a request counts as. To cancel is to take work away: that is never the scarce thing.
fn class(parts: &Parts) -> Policy {
    let reads = matches!(parts.method, Method::GET | Method::HEAD) || parts.uri.path().ends_with(":cancel");
    if reads { Policy::ReadsPerMinute } else { Policy::RequestsPerMinute }
}

/// Proof that the admin token was shown, by somebody who takes JSON.
#[derive(Debug)]
pub(super) struct Operator;

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, App(shared): &App) -> Result<Self, ApiError> {
        operator(shared, parts)?;
        AcceptsJson::from_request_parts(parts, &()).await?;
        Ok(Self)
    }
}

/// Whether the admin token was shown.
pub(super) fn operator(shared: &Shared, parts: &Parts) -> Result<(), ApiError> {
    Ok(shared.access.operator(bearer(&parts.headers), address(parts))?)
}

fn address(parts: &Parts) -> IpAddr {
    parts.extensions.get::<Peer>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0.ip())
}

/// What stands behind `Bearer` in the only `Authorization` header (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, shown) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| shown.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_is_read_and_nothing_else() {
        let read = |values: &[&str]| {
            let values = values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap()));
            let headers: HeaderMap = values.fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
            bearer(&headers).map(str::to_owned)
        };
        for taken in ["Bearer eb_x", "bearer eb_x", "BEARER  eb_x "] {
            assert_eq!(read(&[taken]).as_deref(), Some("eb_x"), "{taken}");
        }
        for refused in [&[][..], &["Basic eb_x"], &["eb_x"], &["Bearer"], &["Bearer a", "Bearer a"]] {
            assert_eq!(read(refused), None, "{refused:?}");
        }
    }
}
