//! Limits that are decided as a job is accepted: jobs at once, units of a month. And limits of a key.

use eyebolt_server::quotas::QuotaSettings;
use eyebolt_types::{Limits, Policy};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    wire::{Answer, key},
};

const LATER: (&str, &str) = ("Prefer", "respond-async");

/// The same app with these limits in its standard plan.
fn limited(setup: Setup, limits: &[(Policy, u64)]) -> Setup {
    let plans = [("standard".to_owned(), Limits(limits.iter().copied().collect()))];
    Setup { quotas: QuotaSettings { plans: plans.into(), ..QuotaSettings::default() }, ..setup }
}

fn assert_refused(answer: &Answer, (code, policy, scope): (&str, Policy, &str)) {
    let problem = answer.json();
    assert_eq!((answer.status, answer.code()), (429, code), "{problem}");
    assert_eq!(problem["violated-policies"], json!([policy.name()]));
    assert_eq!(
        (&problem["params"]["limit_name"], &problem["params"]["scope"]),
        (&json!(policy.name()), &json!(scope))
    );
}

on_both! {
    async fn jobs_at_once_are_limited_and_their_end_makes_room(setup: Setup) {
        let app = TestApp::set_up(limited(setup, &[(Policy::ConcurrentJobs, 2)])).await;
        let first = app.analyze(b"wait", &[key("1"), LATER]).await;
        let second = app.analyze(b"wait", &[key("2"), LATER]).await;
        assert_eq!((first.status, second.status), (202, 202));
        assert_eq!(second.header("ratelimit"), Some(r#""concurrent_jobs";r=0"#));
        assert_eq!(second.header("ratelimit-policy"), Some(r#""concurrent_jobs";q=2;qu="concurrent-requests""#));
        let third = app.analyze(b"cat", &[key("3")]).await;
        assert_refused(&third, ("quota_exceeded", Policy::ConcurrentJobs, "project"));
        assert!(third.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait >= 1)));
        assert_eq!(app.read("/v1/idempotency-keys/3").await["state"], "unused");
        // Whose key is known is let through.
        let again = app.analyze(b"wait", &[key("2"), LATER]).await;
        assert_eq!((again.status, again.job()), (202, second.job()));
        app.ask(&format!("POST /v1/jobs/{}:cancel", first.job()), &[], b"").await;
        app.end_of(&first.job()).await;
        assert_eq!(app.analyze(b"cat", &[key("3")]).await.status, 200);
        app.release();
        app.end_of(&second.job()).await;
        let limits = app.read("/v1/limits").await;
        let row = &limits["data"][0];
        assert_eq!((&row["remaining"], &row["window"], &row["unit"]), (&json!(2), &json!(null), &json!("jobs")));
    }

    // Matrix row 35.
    async fn a_key_that_met_a_limit_is_free_and_its_retry_is_processed_once(setup: Setup) {
        let mut app = TestApp::set_up(limited(setup, &[(Policy::ConcurrentJobs, 1)])).await;
        let busy = app.analyze(b"wait", &[key("busy"), LATER]).await;
        for _ in 0..2 {
            let refused = app.analyze(b"cat", &[key("k")]).await;
            assert_refused(&refused, ("quota_exceeded", Policy::ConcurrentJobs, "project"));
            assert_eq!(app.read("/v1/idempotency-keys/k").await["state"], "unused");
        }
        app.release();
        app.end_of(&busy.job()).await;
        // Another image than the one that was refused: nothing of that was kept.
        let first = app.analyze(b"dog", &[key("k")]).await;
        let again = app.analyze(b"dog", &[key("k")]).await;
        assert_eq!((first.status, again.status, again.header("idempotent-replayed")), (200, 200, Some("true")));
        assert_eq!(app.analyze(b"cat", &[key("k")]).await.code(), "idempotency_key_reused");
        assert_eq!(app.runs(), 2);
        app.assert_charged(2).await;
    }

    async fn of_many_that_come_at_once_as_many_run_as_may(setup: Setup) {
        let app = TestApp::set_up(limited(setup, &[(Policy::ConcurrentJobs, 3)])).await;
        let names: Vec<_> = (0..12).map(|n| n.to_string()).collect();
        let mut begun = Vec::new();
        for name in &names {
            begun.push(app.begin(b"wait", &[key(name), LATER]).await);
        }
        let mut statuses = Vec::new();
        for mut wire in begun {
            statuses.push(wire.answer().await.status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![202; 3], vec![429; 9]].concat());
        app.release();
    }

    async fn a_month_is_used_up_until_the_next_one(setup: Setup) {
        let access = setup.access.clone();
        let mut app = TestApp::set_up(limited(setup, &[(Policy::UnitsPerMonth, 2)])).await;
        let dark = app.analyze(b"dark", &[key("dark")]).await;
        assert_eq!(dark.status, 422, "it is no good, and costs nothing");
        let told: Vec<_> = [app.analyze(b"cat", &[key("1")]).await, app.analyze(b"cat", &[key("2")]).await]
            .iter()
            .map(|answer| (answer.status, answer.header("ratelimit").map(str::to_owned)))
            .collect();
        let seconds = 2_580_955; // From 2026-01-02T03:04:05Z to the first of February.
        let left = |left| (200, Some(format!(r#""units_per_month";r={left};t={seconds}"#)));
        assert_eq!(told, [left(1), left(0)]);
        let third = app.analyze(b"cat", &[key("3")]).await;
        assert_refused(&third, ("quota_exhausted", Policy::UnitsPerMonth, "project"));
        assert_eq!(third.json()["params"]["resets_at"], "2026-02-01T00:00:00Z");
        assert_eq!((third.header("retry-after"), third.header("x-should-retry")), (None, Some("false")));
        assert_eq!(app.analyze(b"cat", &[key("2")]).await.status, 200, "a replay is free");
        app.runs();

        let setup = limited(Setup { access, ..Setup::default() }, &[(Policy::UnitsPerMonth, 2)]);
        let app = app.stop_and_restart(setup).await;
        let still = app.analyze(b"cat", &[key("3")]).await;
        assert_refused(&still, ("quota_exhausted", Policy::UnitsPerMonth, "project"));
        app.clock.advance(SignedDuration::from_secs(seconds));
        assert_eq!(app.analyze(b"cat", &[key("3")]).await.status, 200);
    }
}

#[tokio::test]
async fn a_limit_of_no_jobs_and_no_units_is_no_matter_of_waiting() {
    for policy in [Policy::ConcurrentJobs, Policy::UnitsPerMonth] {
        let app = TestApp::set_up(limited(Setup::default(), &[(policy, 0)])).await;
        let refused = app.analyze(b"cat", &[key("1")]).await;
        assert_refused(&refused, ("quota_exhausted", policy, "project"));
        assert_eq!(refused.json()["params"]["resets_at"], json!(null));
        assert_eq!(app.ask("GET /v1/jobs", &[], b"").await.status, 200);
    }
}

#[tokio::test]
async fn in_shadow_mode_nobody_is_refused_and_everything_is_told() {
    let mut setup = limited(Setup::default(), &[(Policy::ConcurrentJobs, 1), (Policy::UnitsPerMonth, 1)]);
    setup.quotas.shadow = true;
    let app = TestApp::set_up(setup).await;
    for n in 0..3 {
        assert_eq!(app.analyze(b"wait", &[key(&n.to_string()), LATER]).await.status, 202);
    }
    let limits = app.read("/v1/limits").await;
    assert_eq!(limits["data"].as_array().map(Vec::len), Some(2));
    assert!(limits["data"].as_array().into_iter().flatten().all(|row| row["remaining"] == 0), "{limits}");
    app.release();
}

#[tokio::test]
async fn a_key_has_limits_of_its_own_at_once_and_the_projects_count_too() {
    let app = TestApp::set_up(limited(Setup::default(), &[(Policy::RequestsPerMinute, 3)])).await;
    let other = app
        .keys
        .create(app.project, eyebolt_server::access::KeyOrder::new(eyebolt_types::Mode::Live, "other"));
    let other = crate::wire::bearer(other.await.expect("a key").secret.reveal());
    let other = (other.0, other.1.as_str());
    app.keys.limit(app.key, Limits([(Policy::RequestsPerMinute, 1)].into())).await.expect("the key");
    app.clock.advance(SignedDuration::from_secs(2));
    let first = app.analyze(b"cat", &[key("1")]).await;
    assert_eq!(first.status, 200);
    assert_eq!(
        (first.header("ratelimit-policy"), first.header("ratelimit")),
        (
            Some(r#""requests_per_minute";q=3;w=60, "requests_per_minute";q=1;w=60;pk=:a2V5:"#),
            Some(r#""requests_per_minute";r=2;t=20, "requests_per_minute";r=0;t=60;pk=:a2V5:"#),
        )
    );
    let refused = app.analyze(b"cat", &[key("2")]).await;
    assert_refused(&refused, ("quota_exceeded", Policy::RequestsPerMinute, "key"));
    assert_eq!(refused.header("retry-after"), Some("60"));
    for n in ["3", "4"] {
        assert_eq!(
            app.analyze(b"cat", &[key(n), other]).await.status,
            200,
            "what is refused costs the project nothing"
        );
    }
    let refused = app.analyze(b"cat", &[key("5"), other]).await;
    assert_refused(&refused, ("quota_exceeded", Policy::RequestsPerMinute, "project"));
    app.keys.limit(app.key, Limits::default()).await.expect("the key");
    app.clock.advance(SignedDuration::from_mins(1));
    for n in ["6", "7"] {
        assert_eq!(app.analyze(b"cat", &[key(n)]).await.status, 200);
    }
}

#[tokio::test]
async fn jobs_of_a_key_are_limited_beside_those_of_its_project() {
    let app = TestApp::start().await;
    app.keys
        .limit(app.key, Limits([(Policy::ConcurrentJobs, 1), (Policy::UnitsPerMonth, 1)].into()))
        .await
        .expect("the key");
    app.clock.advance(SignedDuration::from_secs(2));
    let job = app.analyze(b"wait", &[key("1"), LATER]).await.job();
    assert_refused(
        &app.analyze(b"cat", &[key("2")]).await,
        ("quota_exceeded", Policy::ConcurrentJobs, "key"),
    );
    app.release();
    app.end_of(&job).await;
    assert_refused(
        &app.analyze(b"cat", &[key("2")]).await,
        ("quota_exhausted", Policy::UnitsPerMonth, "key"),
    );
}
