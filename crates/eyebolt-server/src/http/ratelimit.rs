//! Limits as header fields: draft-ietf-httpapi-ratelimit-headers, in the form of its versions 08 to 10. The only place
//! that knows it.

use std::sync::{Arc, OnceLock};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use eyebolt_store::Principal;
use eyebolt_types::Policy;
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{KeyRef, ListSerializer, StringRef};

use super::App;
use crate::quotas::{Standing, whole_seconds};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const WARNING: HeaderName = HeaderName::from_static("eyebolt-limit-warning");

/// Where an extractor leaves whose limits the answer tells of.
#[derive(Debug, Clone, Default)]
pub(super) struct Whose(Arc<OnceLock<Principal>>);

impl Whose {
    pub(super) fn set(&self, principal: &Principal) {
        // One request, one key.
        let _ = self.0.set(principal.clone());
    }

    /// Who it turned out to be.
    pub(super) fn get(&self) -> Option<&Principal> {
        self.0.get()
    }
}

/// Tells the caller how its limits stand, on every answer.
pub(super) async fn tell(State(App(shared)): State<App>, mut request: Request, next: Next) -> Response {
    let whose = Whose::default();
    request.extensions_mut().insert(whose.clone());
    let mut response = next.run(request).await;
    if let Some(principal) = whose.0.get() {
        write(response.headers_mut(), &shared.quotas.standing(principal));
    }
    response
}

fn write(headers: &mut HeaderMap, standing: &[Standing]) {
    let fields = [(POLICY, policies(standing)), (STATE, states(standing)), (WARNING, warnings(standing))];
    for (name, value) in fields {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
}

/// `"requests_per_minute";q=600;w=60`. What is no unit of the draft stands in a parameter of our own.
fn policies(standing: &[Standing]) -> Option<String> {
    list(standing, |list, stands| {
        let mut item = list.bare_item(name(stands.policy)?);
        item = item.parameter(key("q")?, number(stands.limit));
        let unit = match stands.policy {
            Policy::RequestsPerMinute | Policy::ReadsPerMinute => None,
            Policy::BytesPerDay => Some(("qu", "content-bytes")),
            other => Some(("eyebolt-unit", other.unit())),
        };
        if let Some((name, unit)) = unit {
            item = item.parameter(key(name)?, StringRef::from_str(unit).ok()?);
        }
        let _ = item.parameter(key("w")?, number(stands.policy.window().as_secs()));
        Some(())
    })
}

/// `"requests_per_minute";r=42;t=1`: what is left, and how long until there is more. `Retry-After` is never earlier.
fn states(standing: &[Standing]) -> Option<String> {
    list(standing, |list, stands| {
        let item = list.bare_item(name(stands.policy)?).parameter(key("r")?, number(stands.remaining));
        let _ = item.parameter(key("t")?, number(whole_seconds(stands.next_in)));
        Some(())
    })
}

/// Those that are nearly used up: `"units_per_minute";used=83`, in percent.
fn warnings(standing: &[Standing]) -> Option<String> {
    let warned: Vec<_> = standing.iter().filter(|stands| stands.warned).copied().collect();
    list(&warned, |list, stands| {
        let used = stands.limit.saturating_sub(stands.remaining);
        let percent = (u128::from(used) * 100).checked_div(u128::from(stands.limit)).unwrap_or(100);
        let item = list.bare_item(name(stands.policy)?);
        let _ = item.parameter(key("used")?, number(percent as u64));
        Some(())
    })
}

/// `None` where there is nothing to list.
fn list(
    standing: &[Standing],
    mut write: impl FnMut(&mut ListSerializer<String>, &Standing) -> Option<()>,
) -> Option<String> {
    let mut list = ListSerializer::new();
    for stands in standing {
        write(&mut list, stands)?;
    }
    list.finish()
}

fn name(policy: Policy) -> Option<&'static StringRef> {
    StringRef::from_str(policy.name()).ok()
}

fn key(name: &'static str) -> Option<&'static KeyRef> {
    KeyRef::from_str(name).ok()
}

/// An Integer of RFC 9651 has at most fifteen digits.
fn number(number: u64) -> sfv::Integer {
    sfv::Integer::try_from(number).unwrap_or(sfv::Integer::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn fields_are_structured_and_say_what_is_left() {
        let stands = |policy, limit, remaining, full_in| Standing {
            policy,
            limit,
            remaining,
            next_in: Duration::from_millis(full_in / 100),
            full_in: Duration::from_millis(full_in),
            warned: remaining == 0,
        };
        let standing = [
            stands(Policy::RequestsPerMinute, 600, 599, 100),
            stands(Policy::MegapixelsPerMinute, 50, 0, 60_000),
            stands(Policy::BytesPerDay, eyebolt_types::MAX_LIMIT, 7, 86_400_000),
        ];
        let mut headers = HeaderMap::new();
        write(&mut headers, &standing);
        let shown = [POLICY, STATE, WARNING].map(|name| headers[name].to_str().unwrap().to_owned());
        assert_eq!(
            shown,
            [
                r#""requests_per_minute";q=600;w=60, "megapixels_per_minute";q=50;eyebolt-unit="megapixels";w=60, "bytes_per_day";q=999999999999999;qu="content-bytes";w=86400"#,
                r#""requests_per_minute";r=599;t=1, "megapixels_per_minute";r=0;t=1, "bytes_per_day";r=7;t=864"#,
                r#""megapixels_per_minute";used=100"#,
            ]
        );
        for value in shown {
            sfv::Parser::new(&value).parse::<sfv::List>().unwrap();
        }
        let mut none = HeaderMap::new();
        write(&mut none, &[]);
        assert!(none.is_empty());
    }
}
