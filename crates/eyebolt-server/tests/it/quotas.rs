//! What was agreed with a project.

use eyebolt_server::quotas::QuotaSettings;
use eyebolt_store::ProjectChange;
use eyebolt_types::{Change, LimitOverrides, Limits, Policy};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    app::{Setup, TestApp},
    wire::{Answer, key},
};

/// An app whose standard plan has these limits.
async fn with(limits: &[(Policy, u64)]) -> TestApp {
    let plans = [("standard".to_owned(), Limits(limits.iter().copied().collect()))];
    let quotas = QuotaSettings { plans: plans.into(), ..QuotaSettings::default() };
    TestApp::set_up(Setup { quotas, ..Setup::default() }).await
}

/// The `r` of a policy in the header `RateLimit`.
fn left(answer: &Answer, policy: Policy) -> i64 {
    let header = answer.header("ratelimit").expect("limits are told with every answer");
    let list = sfv::Parser::new(header).parse::<sfv::List>().expect("a structured field");
    let item = list.iter().find_map(|entry| match entry {
        sfv::ListEntry::Item(item)
            if item.bare_item.as_string().is_some_and(|name| name.as_str() == policy.name()) =>
        {
            Some(item)
        }
        _ => None,
    });
    i64::from(item.expect("the policy").params["r"].as_integer().expect("a number"))
}

fn assert_exceeded(answer: &Answer, policy: Policy) -> i64 {
    assert_eq!((answer.status, answer.code()), (429, "quota_exceeded"));
    let problem = answer.json();
    assert_eq!(problem["violated-policies"], json!([policy.name()]));
    assert_eq!(problem["params"]["limit_name"], policy.name());
    let wait: i64 = answer.header("retry-after").expect("when to come back").parse().expect("seconds");
    assert_eq!(problem["retry_after"], wait);
    wait
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_and_let_in_after_retry_after() {
    let mut app = with(&[(Policy::RequestsPerMinute, 3)]).await;
    for n in 0..3 {
        let answer = app.analyze(b"cat", &[key(&n.to_string())]).await;
        assert_eq!((answer.status, left(&answer, Policy::RequestsPerMinute)), (200, 2 - n));
        assert_eq!(answer.header("ratelimit-policy"), Some(r#""requests_per_minute";q=3;w=60"#));
    }
    let refused = app.analyze(b"cat", &[key("3")]).await;
    let wait = assert_exceeded(&refused, Policy::RequestsPerMinute);
    assert_eq!((wait, left(&refused, Policy::RequestsPerMinute)), (20, 0));
    assert_eq!(app.runs(), 3);
    assert_eq!(app.read("/v1/idempotency-keys/3").await["state"], "unused");
    app.clock.advance(SignedDuration::from_secs(wait - 1));
    assert_exceeded(&app.analyze(b"cat", &[key("3")]).await, Policy::RequestsPerMinute);
    app.clock.advance(SignedDuration::from_secs(1));
    assert_eq!(app.analyze(b"cat", &[key("3")]).await.status, 200);
}

#[tokio::test]
async fn replays_count_as_requests_and_as_nothing_else() {
    let app =
        with(&[(Policy::RequestsPerMinute, 10), (Policy::UnitsPerMinute, 10), (Policy::BytesPerDay, 100)])
            .await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    let again = app.analyze(b"cat", &[key("k")]).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let all = |answer: &Answer| {
        [Policy::RequestsPerMinute, Policy::UnitsPerMinute, Policy::BytesPerDay]
            .map(|policy| left(answer, policy))
    };
    assert_eq!((all(&first), all(&again)), ([9, 9, 97], [8, 9, 97]));
}

#[tokio::test]
async fn reading_and_canceling_have_a_limit_of_their_own() {
    let app = with(&[(Policy::RequestsPerMinute, 1), (Policy::ReadsPerMinute, 2)]).await;
    let job = app.analyze(b"wait", &[key("k"), ("Prefer", "respond-async")]).await.job();
    assert_exceeded(&app.analyze(b"cat", &[key("l")]).await, Policy::RequestsPerMinute);
    assert_eq!(app.ask(&format!("POST /v1/jobs/{job}:cancel"), &[], b"").await.status, 202);
    assert_eq!(app.ask("GET /v1/jobs", &[], b"").await.status, 200);
    assert_exceeded(&app.ask("GET /v1/jobs", &[], b"").await, Policy::ReadsPerMinute);
    for open in ["GET /healthz", "GET /readyz", "GET /openapi.json"] {
        let answer = app.ask(open, &[], b"").await;
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None), "{open}");
    }
}

#[tokio::test]
async fn what_is_refused_costs_nothing() {
    let mut app = with(&[(Policy::UnitsPerMinute, 1), (Policy::BytesPerDay, 5)]).await;
    let empty = app.analyze(b"empty", &[key("e")]).await;
    assert_eq!((empty.status, left(&empty, Policy::UnitsPerMinute)), (422, 1));
    let large = app.analyze(b"larger", &[key("k")]).await;
    assert_eq!((large.status, large.code()), (429, "quota_exhausted"));
    assert_eq!((large.header("retry-after"), large.header("x-should-retry")), (None, Some("false")));
    assert_eq!(large.json()["params"]["resets_at"], json!(null), "it never fits");
    assert_eq!((left(&large, Policy::UnitsPerMinute), left(&large, Policy::BytesPerDay)), (1, 5));
    assert_eq!(app.analyze(b"cat", &[key("k")]).await.status, 200);
    assert_eq!(app.runs(), 1);
}

#[tokio::test]
async fn a_limit_that_is_nearly_used_up_is_told() {
    let app = with(&[(Policy::RequestsPerMinute, 5)]).await;
    let told: Vec<_> = [app.analyze(b"cat", &[key("1")]).await, app.analyze(b"cat", &[key("2")]).await]
        .iter()
        .map(|answer| answer.header("eyebolt-limit-warning").map(str::to_owned))
        .collect();
    assert_eq!(told, [None, None]);
    app.analyze(b"cat", &[key("3")]).await;
    let fourth = app.analyze(b"cat", &[key("4")]).await;
    assert_eq!(fourth.header("eyebolt-limit-warning"), Some(r#""requests_per_minute";used=80"#));
    assert_eq!(app.read("/v1/limits").await["data"][0]["warning"], true);
}

#[tokio::test]
async fn in_shadow_mode_limits_count_and_refuse_nothing() {
    let plans = [("standard".to_owned(), Limits([(Policy::RequestsPerMinute, 1)].into()))];
    let quotas = QuotaSettings { shadow: true, plans: plans.into(), ..QuotaSettings::default() };
    let mut app = TestApp::set_up(Setup { quotas, ..Setup::default() }).await;
    for n in 0..3 {
        let answer = app.analyze(b"cat", &[key(&n.to_string())]).await;
        assert_eq!((answer.status, left(&answer, Policy::RequestsPerMinute)), (200, 0));
    }
    assert_eq!(app.runs(), 3);
    assert_eq!(app.read("/v1/limits").await["shadow"], true);
}

#[tokio::test]
async fn a_project_may_have_limits_of_its_own_without_a_restart() {
    let app = with(&[(Policy::RequestsPerMinute, 0)]).await;
    let nothing = app.analyze(b"cat", &[key("1")]).await;
    assert_eq!((nothing.status, nothing.code()), (429, "quota_exhausted"));
    let change = async |limits: LimitOverrides| {
        let change = ProjectChange { limits: Change::To(limits), ..ProjectChange::default() };
        app.keys.change_project(app.project, change).await.expect("the project");
        app.clock.advance(SignedDuration::from_secs(2));
    };
    change(LimitOverrides([(Policy::RequestsPerMinute, Some(1))].into())).await;
    assert_eq!(app.analyze(b"cat", &[key("1")]).await.status, 200);
    assert_exceeded(&app.analyze(b"cat", &[key("2")]).await, Policy::RequestsPerMinute);
    change(LimitOverrides([(Policy::RequestsPerMinute, None)].into())).await;
    let free = app.analyze(b"cat", &[key("2")]).await;
    assert_eq!((free.status, free.header("ratelimit")), (200, None));
    let limits = app.read("/v1/limits").await;
    assert_eq!((&limits["plan"], &limits["data"]), (&json!("standard"), &json!([])));
}

#[tokio::test]
async fn what_was_used_stays_used_where_a_limit_is_changed() {
    let app = with(&[(Policy::RequestsPerMinute, 4)]).await;
    let change = async |limit: u64| {
        let limits = LimitOverrides([(Policy::RequestsPerMinute, Some(limit))].into());
        let change = ProjectChange { limits: Change::To(limits), ..ProjectChange::default() };
        app.keys.change_project(app.project, change).await.expect("the project");
        app.clock.advance(SignedDuration::from_secs(2));
    };
    for n in ["1", "2", "3", "4"] {
        assert_eq!(app.analyze(b"cat", &[key(n)]).await.status, 200);
    }
    // Of the four, an eighth of one has leaked out meanwhile.
    change(40).await;
    assert_eq!(left(&app.analyze(b"cat", &[key("5")]).await, Policy::RequestsPerMinute), 35);
    // Of the five less that, one and a third.
    change(6).await;
    assert_eq!(left(&app.analyze(b"cat", &[key("6")]).await, Policy::RequestsPerMinute), 1);
    // More than the whole is never used.
    change(1).await;
    assert_eq!(assert_exceeded(&app.analyze(b"cat", &[key("7")]).await, Policy::RequestsPerMinute), 60);
}
