//! `GET /v1/usage`.

use eyebolt_types::DedupPolicy;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    wire::{FORM, image, key},
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Day, kind, feature, count and units of each line.
fn lines(report: &Value) -> Vec<Value> {
    let rows = report["data"].as_array().expect("a list");
    let line = |row: &Value| json!([row["day"], row["kind"], row["feature"], row["count"], row["units"]]);
    let mut lines: Vec<_> = rows.iter().map(line).collect();
    lines.sort_by_key(Value::to_string);
    lines
}

on_both! {
    async fn the_statement_lists_steps_duplicates_and_replays_by_day(mut setup: Setup) {
        setup.rules.dedup.policy = DedupPolicy::Reuse;
        let mut app = TestApp::set_up(setup).await;
        let both = "POST /v1/analyze?features=objects,labels";
        assert_eq!(app.ask(both, &[FORM, key("1")], &image(b"cat")).await.status, 200);
        assert_eq!(app.analyze(b"dog", &[key("2")]).await.status, 200);
        assert_eq!(app.analyze(b"dark", &[key("3")]).await.status, 422);
        for _ in 0..2 {
            assert_eq!(app.analyze(b"dog", &[key("2")]).await.status, 200);
        }
        let first = app.read("/v1/usage").await;
        assert_eq!((&first["to"], &first["from"]), (&json!("2026-01-02"), &json!("2025-12-04")));
        assert_eq!((&first["units"], &first["reserved"], &first["mode"]), (&json!(3), &json!(0), &json!("live")));
        let day = "2026-01-02";
        let expected = [
            json!([day, "replay", null, 2, 0]),
            json!([day, "step", "labels", 1, 1]),
            json!([day, "step", "objects", 2, 2]),
        ];
        assert_eq!(lines(&first), expected);
        let key_of = |row: &Value| row["key"] == json!(app.key.to_string());
        assert!(first["data"].as_array().unwrap().iter().all(key_of));

        app.clock.advance(DAY);
        assert_eq!(app.ask(both, &[FORM, key("4")], &image(b"cat")).await.json()["usage"]["units"], 0);
        app.analyze(b"wait", &[key("5"), ("Prefer", "respond-async")]).await;
        let second = app.read("/v1/usage?from=2026-01-03&to=2026-01-03").await;
        let day = "2026-01-03";
        let expected =
            [json!([day, "duplicate", "labels", 1, 0]), json!([day, "duplicate", "objects", 1, 0])];
        assert_eq!((lines(&second), &second["units"]), (expected.to_vec(), &json!(0)));
        assert_eq!(second["reserved"], 1, "held by what runs");
        assert_eq!(lines(&app.read("/v1/usage?to=2026-01-02").await), lines(&first));
        assert_eq!(app.read("/v1/usage?from=2026-01-01").await["units"], 3);
        while app.running.recv().await != Some(true) || app.read("/v1/idempotency-keys/5").await["job_status"] != "processing" {}
        app.release();
    }
}

#[tokio::test]
async fn days_that_are_none_or_too_many_are_refused() {
    let app = TestApp::start().await;
    for wrong in [
        "from=2026-02-30",
        "from=yesterday",
        "from=2026-01-03&to=2026-01-02",
        "from=2025-01-01&to=2026-01-02",
        "to=-9999-01-01",
        "from=9999-12-31&to=9999-12-31",
        "month=2026-01",
    ] {
        let answer = app.ask(&format!("GET /v1/usage?{wrong}"), &[], b"").await;
        assert_eq!(answer.status, 400, "{wrong}: {}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(app.read("/v1/usage?from=2025-01-02&to=2026-01-02").await["units"], 0, "366 days");
}
