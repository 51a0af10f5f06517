//! How limits are told: headers, warnings, refusals, strikes; and new settings while the server runs.

use eyebolt_server::quotas::{HeaderFields, QuotaSettings};
use eyebolt_types::{Limits, Policy};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    app::{Setup, TestApp},
    wire::key,
};

fn of(limits: &[(Policy, u64)]) -> QuotaSettings {
    let plans = [("standard".to_owned(), Limits(limits.iter().copied().collect()))];
    QuotaSettings { plans: plans.into(), ..QuotaSettings::default() }
}

async fn with(quotas: QuotaSettings) -> TestApp {
    TestApp::set_up(Setup { quotas, ..Setup::default() }).await
}

#[tokio::test]
async fn the_form_of_the_headers_is_a_setting() {
    for (headers, told) in [
        (HeaderFields::Off, None),
        (HeaderFields::Draft06, None),
        (HeaderFields::Draft07, Some("limit=3, remaining=2, reset=20")),
        (HeaderFields::Draft10, Some(r#""requests_per_minute";r=2;t=20"#)),
        (HeaderFields::Draft11, Some(r#""requests_per_minute";r=2;t=20;a=2;w=20"#)),
    ] {
        let app = with(QuotaSettings { headers, ..of(&[(Policy::RequestsPerMinute, 3)]) }).await;
        let answer = app.analyze(b"cat", &[key("k")]).await;
        assert_eq!(answer.header("ratelimit"), told, "{headers:?}");
        let reset = answer.header("ratelimit-reset");
        assert_eq!(reset, (headers == HeaderFields::Draft06).then_some("20"));
    }
}

#[tokio::test]
async fn retry_after_is_what_the_header_says() {
    let app = with(of(&[(Policy::RequestsPerMinute, 4)])).await;
    for n in 0..4 {
        app.analyze(b"cat", &[key(&n.to_string())]).await;
    }
    app.clock.advance(SignedDuration::from_millis(1500));
    let refused = app.analyze(b"cat", &[key("5")]).await;
    assert_eq!(refused.header("ratelimit"), Some(r#""requests_per_minute";r=0;t=14"#));
    assert_eq!(refused.header("retry-after"), Some("14"));
    let limits = app.read("/v1/limits").await;
    assert_eq!((&limits["data"][0]["next_in"], &limits["data"][0]["full_in"]), (&json!(14), &json!(59)));
}

#[tokio::test]
async fn what_is_nearly_used_up_is_recorded_once_in_its_window() {
    let app = with(of(&[(Policy::RequestsPerMinute, 5)])).await;
    for n in 0..7 {
        app.analyze(b"cat", &[key(&n.to_string())]).await;
    }
    let limits = app.read("/v1/limits").await;
    let first = json!({"at": "2026-01-02T03:04:05Z", "policy": "requests_per_minute", "scope": "project", "key": null, "used": 80});
    assert_eq!(limits["warnings"], json!([first]));
    assert_eq!((&limits["warn_at_percent"], &limits["data"][0]["warning_below"]), (&json!(80), &json!(1)));
    app.clock.advance(SignedDuration::from_mins(1));
    for n in 0..5 {
        app.analyze(b"cat", &[key(&format!("later {n}").replace(' ', "-"))]).await;
    }
    let warnings = app.read("/v1/limits").await["warnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(2), "{warnings}");
    assert_eq!((&warnings[0]["at"], &warnings[1]), (&json!("2026-01-02T03:05:05Z"), &first));
}

#[tokio::test]
async fn what_was_refused_lately_is_shown_and_to_nobody_else() {
    let app = with(of(&[(Policy::RequestsPerMinute, 1), (Policy::BytesPerDay, 3)])).await;
    app.analyze(b"cat", &[key("1")]).await;
    app.analyze(b"cat", &[key("2")]).await;
    app.clock.advance(SignedDuration::from_mins(1));
    app.analyze(b"larger", &[key("3")]).await;
    let limits = app.read("/v1/limits").await;
    let refused = |at: &str, code: &str, policy: &str, wait: Option<u32>| json!({"at": at, "code": code, "policies": [policy], "scope": "project", "key": app.key, "retry_after": wait});
    assert_eq!(
        limits["recent_refusals"],
        json!([
            refused("2026-01-02T03:05:05Z", "quota_exhausted", "bytes_per_day", None),
            refused("2026-01-02T03:04:05Z", "quota_exceeded", "requests_per_minute", Some(60)),
        ])
    );
    assert_eq!((&limits["strikes"], &limits["shared"]), (&json!(0), &json!(null)));
    let (_, issued) = app.keys.create_project("other", eyebolt_types::Mode::Live).await.expect("a project");
    let other = crate::wire::bearer(issued.secret.reveal());
    let answer = app.ask("GET /v1/limits", &[(other.0, &other.1)], b"").await;
    assert_eq!((&answer.json()["recent_refusals"], &answer.json()["warnings"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn new_settings_are_in_force_while_the_server_runs() {
    let app = with(of(&[(Policy::RequestsPerMinute, 2)])).await;
    for n in ["1", "2"] {
        assert_eq!(app.analyze(b"cat", &[key(n)]).await.status, 200);
    }
    assert_eq!(app.analyze(b"cat", &[key("3")]).await.status, 429);
    assert_eq!(app.quotas.reload(of(&[(Policy::RequestsPerMinute, 4), (Policy::UnitsPerMonth, 3)])), None);
    // Two are used, and two are left. The month is counted from the ledger, which knows what came before there was a limit.
    let third = app.analyze(b"cat", &[key("3")]).await;
    assert_eq!(third.status, 200);
    assert!(
        third.header("ratelimit").is_some_and(|header| header.contains(r#""requests_per_minute";r=1"#)
            && header.contains(r#""units_per_month";r=0"#)),
        "{third:?}"
    );
    assert_eq!(app.analyze(b"cat", &[key("4")]).await.code(), "quota_exhausted");
    assert_eq!(app.quotas.reload(QuotaSettings::default()), None);
    let free = app.analyze(b"cat", &[key("4")]).await;
    assert_eq!((free.status, free.header("ratelimit")), (200, None));
    let elsewhere = QuotaSettings { counters_url: "redis://elsewhere".into(), ..QuotaSettings::default() };
    assert!(app.quotas.reload(elsewhere).is_some_and(|what| what.contains("new start")));
}
