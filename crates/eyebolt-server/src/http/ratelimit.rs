//! Limits as header fields: draft-ietf-httpapi-ratelimit-headers, in the form that the setting `quotas.headers` names. The
//! only place that knows it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use eyebolt_store::Principal;
use eyebolt_types::{ErrorCode, LimitScope, Policy};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sfv::{DictSerializer, ItemSerializer, KeyRef, ListSerializer, StringRef};

use super::{App, Shared};
use crate::{
    ApiError,
    quotas::{HeaderFields, Refused, Standing, Told, whole_seconds},
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const WARNING: HeaderName = HeaderName::from_static("eyebolt-limit-warning");
/// Of draft 06: the limit that is nearest to its end.
const NEAREST: [HeaderName; 3] = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];

/// The partition key of limits that are the key's own: a policy may be there twice, once for the project.
const OF_KEY: &[u8] = b"key";

/// Where an extractor leaves whose limits the answer tells of, and how they stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Whose {
    principal: Arc<OnceLock<Principal>>,
    told: Told,
}

impl Whose {
    pub(super) fn set(&self, principal: &Principal) {
        // One request, one key.
        let _ = self.principal.set(principal.clone());
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }
}

/// Tells the caller how its limits stand, on every answer; notes warnings and refusals.
pub(super) async fn tell(State(App(shared)): State<App>, mut request: Request, next: Next) -> Response {
    let whose = Whose::default();
    request.extensions_mut().insert(whose.clone());
    let mut response = next.run(request).await;
    if let Some(principal) = whose.principal.get() {
        if let Some(error) = response.extensions().get::<ApiError>() {
            record(&shared, principal, error);
        }
        let standing = standing(&shared, principal, whose.told()).await;
        shared.quotas.warn(principal, &standing);
        write(response.headers_mut(), &standing, shared.quotas.settings().headers);
    }
    response
}

/// As this request was told; what the database decides as it was a second ago at most.
pub(super) async fn standing(shared: &Shared, principal: &Principal, told: &Told) -> Vec<Standing> {
    if shared.quotas.is_stale(principal) {
        // Where there is no database, the answer says so by itself.
        _ = shared.jobs.look(principal).await;
    }
    shared.quotas.standing(principal, told).await
}

fn record(shared: &Shared, principal: &Principal, error: &ApiError) {
    let problem = error.problem();
    let limited = matches!(
        problem.code,
        ErrorCode::QuotaExceeded
            | ErrorCode::QuotaExhausted
            | ErrorCode::TemporaryReducedCapacity
            | ErrorCode::AbnormalUsage
    );
    if limited {
        shared.quotas.record(principal, |at| Refused {
            at,
            code: problem.code,
            policies: problem.violated_policies.clone(),
            scope: problem.params.get("scope").and_then(Value::as_str).unwrap_or_default().to_owned(),
            key: principal.key,
            retry_after: problem.retry_after,
        });
    }
}

fn write(headers: &mut HeaderMap, standing: &[Standing], fields: HeaderFields) {
    let mut put = |name: HeaderName, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    };
    put(WARNING, warnings(standing));
    let tightest = || standing.iter().min_by_key(|stands| 100u64.saturating_sub(stands.percent()));
    match fields {
        HeaderFields::Off => {}
        HeaderFields::Draft10 | HeaderFields::Draft11 => {
            put(POLICY, policies(standing));
            put(STATE, states(standing, fields));
        }
        HeaderFields::Draft07 => {
            put(POLICY, plain_policies(standing));
            put(STATE, tightest().and_then(nearest));
        }
        HeaderFields::Draft06 => {
            put(POLICY, plain_policies(standing));
            for (name, value) in NEAREST.into_iter().zip(tightest().into_iter().flat_map(figures)) {
                put(name, Some(ItemSerializer::new().bare_item(number(value)).finish()));
            }
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
            Policy::ConcurrentJobs => Some(("qu", "concurrent-requests")),
            other => Some(("eyebolt-unit", other.unit())),
        };
        if let Some((name, unit)) = unit {
            item = item.parameter(key(name)?, StringRef::from_str(unit).ok()?);
        }
        if let Some(window) = stands.window {
            item = item.parameter(key("w")?, number(window.as_secs()));
        }
        if stands.scope == LimitScope::Key {
            let _ = item.parameter(key("pk")?, OF_KEY);
        }
        Some(())
    })
}

/// `"requests_per_minute";r=42;t=1`: what is left, and how long until there is more. `Retry-After` is never earlier.
fn states(standing: &[Standing], fields: HeaderFields) -> Option<String> {
    list(standing, |list, stands| {
        let (left, next_in) = (number(stands.remaining), stands.next_in.map(seconds));
        let mut item = list.bare_item(name(stands.policy)?).parameter(key("r")?, left);
        if let Some(next_in) = next_in {
            item = item.parameter(key("t")?, next_in);
        }
        if fields == HeaderFields::Draft11 {
            item = item.parameter(key("a")?, left);
            if let Some(next_in) = next_in {
                item = item.parameter(key("w")?, next_in);
            }
        }
        if stands.scope == LimitScope::Key {
            let _ = item.parameter(key("pk")?, OF_KEY);
        }
        Some(())
    })
}

/// `600;w=60`: of draft 06 and 07, which know no names.
fn plain_policies(standing: &[Standing]) -> Option<String> {
    list(standing, |list, stands| {
        let item = list.bare_item(number(stands.limit));
        if let Some(window) = stands.window {
            let _ = item.parameter(key("w")?, number(window.as_secs()));
        }
        Some(())
    })
}

/// `limit=600, remaining=42, reset=1`.
fn nearest(stands: &Standing) -> Option<String> {
    let mut dict = DictSerializer::new();
    for (name, figure) in ["limit", "remaining", "reset"].into_iter().zip(figures(stands)) {
        let _ = dict.bare_item(key(name)?, number(figure));
    }
    dict.finish()
}

/// Limit, what is left, and seconds until there is more.
fn figures(stands: &Standing) -> [u64; 3] {
    [stands.limit, stands.remaining, stands.next_in.map_or(1, whole_seconds)]
}

/// Those that are nearly used up: `"units_per_minute";used=83`, in percent.
fn warnings(standing: &[Standing]) -> Option<String> {
    let warned: Vec<_> = standing.iter().filter(|stands| stands.warned).copied().collect();
    list(&warned, |list, stands| {
        let item = list.bare_item(name(stands.policy)?).parameter(key("used")?, number(stands.percent()));
        if stands.scope == LimitScope::Key {
            let _ = item.parameter(key("pk")?, OF_KEY);
        }
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

fn seconds(time: Duration) -> sfv::Integer {
    number(whole_seconds(time))
}

/// An Integer of RFC 9651 has at most fifteen digits.
fn number(number: u64) -> sfv::Integer {
    sfv::Integer::try_from(number).unwrap_or(sfv::Integer::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(policy: Policy, limit: u64, (remaining, full_in): (u64, u64)) -> Standing {
        let window = Duration::from_secs(if policy == Policy::BytesPerDay { 86_400 } else { 60 });
        Standing {
            scope: LimitScope::Project,
            policy,
            limit,
            remaining,
            window: Some(window),
            next_in: Some(Duration::from_millis(full_in / 100)),
            full_in: Some(Duration::from_millis(full_in)),
            warned: remaining == 0,
        }
    }

    fn all() -> Vec<Standing> {
        let of_key = |stands| Standing { scope: LimitScope::Key, ..stands };
        let open = Standing {
            window: None,
            next_in: None,
            full_in: None,
            ..stands(Policy::ConcurrentJobs, 4, (3, 0))
        };
        vec![
            stands(Policy::RequestsPerMinute, 600, (599, 100)),
            stands(Policy::MegapixelsPerMinute, 50, (0, 60_000)),
            stands(Policy::BytesPerDay, eyebolt_types::MAX_LIMIT, (7, 86_400_000)),
            open,
            of_key(stands(Policy::RequestsPerMinute, 10, (5, 3000))),
        ]
    }

    fn shown(fields: HeaderFields, names: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        write(&mut headers, &all(), fields);
        assert_eq!(headers.len(), names.len() + 1, "{headers:?}");
        names.iter().map(|name| headers[*name].to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn fields_are_structured_and_say_what_is_left() {
        let fields = shown(HeaderFields::Draft10, &["ratelimit-policy", "ratelimit"]);
        assert_eq!(
            fields,
            [
                r#""requests_per_minute";q=600;w=60, "megapixels_per_minute";q=50;eyebolt-unit="megapixels";w=60, "bytes_per_day";q=999999999999999;qu="content-bytes";w=86400, "concurrent_jobs";q=4;qu="concurrent-requests", "requests_per_minute";q=10;w=60;pk=:a2V5:"#,
                r#""requests_per_minute";r=599;t=1, "megapixels_per_minute";r=0;t=1, "bytes_per_day";r=7;t=864, "concurrent_jobs";r=3, "requests_per_minute";r=5;t=1;pk=:a2V5:"#,
            ]
        );
        let later = shown(HeaderFields::Draft11, &["ratelimit-policy", "ratelimit"]);
        assert!(later[1].starts_with(r#""requests_per_minute";r=599;t=1;a=599;w=1, "#), "{later:?}");
        for value in fields.iter().chain(&later) {
            sfv::Parser::new(value).parse::<sfv::List>().unwrap();
        }
    }

    #[test]
    fn older_forms_tell_the_limit_that_is_nearest_to_its_end() {
        let fields = shown(HeaderFields::Draft07, &["ratelimit-policy", "ratelimit"]);
        assert_eq!(fields[0], "600;w=60, 50;w=60, 999999999999999;w=86400, 4, 10;w=60");
        assert_eq!(fields[1], "limit=50, remaining=0, reset=1");
        sfv::Parser::new(&fields[0]).parse::<sfv::List>().unwrap();
        sfv::Parser::new(&fields[1]).parse::<sfv::Dictionary>().unwrap();
        let names = ["ratelimit-policy", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
        assert_eq!(shown(HeaderFields::Draft06, &names)[1..], ["50", "0", "1"]);
        assert_eq!(shown(HeaderFields::Off, &[]), [""; 0]);
    }

    #[test]
    fn what_is_nearly_used_up_is_named() {
        assert_eq!(warnings(&all()).as_deref(), Some(r#""megapixels_per_minute";used=100"#));
        let mut none = HeaderMap::new();
        write(&mut none, &[], HeaderFields::Draft10);
        assert!(none.is_empty());
    }
}
