//! The same image under another key.

use std::time::Duration;

use eyebolt_server::jobs::DedupSettings;
use eyebolt_store::ProjectChange;
use eyebolt_types::{Change, DedupPolicy};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{ANALYZE, Setup, TestApp},
    database::on_both,
    wire::{FORM, form, image, key},
};

const AGAIN: (&str, &[u8]) = ("name=\"reprocess\"", b"true");

async fn under(policy: DedupPolicy, mut setup: Setup) -> TestApp {
    setup.rules.dedup = DedupSettings { policy, window: Duration::from_hours(24) };
    TestApp::set_up(setup).await
}

/// What is told of a job that has the same file as another.
fn seen(status: &str, of: &str) -> Value {
    json!({"status": status, "of": of, "kind": "bytes"})
}

on_both! {
    // Matrix row 11.
    async fn a_flagged_duplicate_is_processed_and_charged(setup: Setup) {
        let mut app = under(DedupPolicy::Flag, setup).await;
        let first = app.analyze(b"cat", &[key("1")]).await;
        assert_eq!(first.json()["dedup"], json!({"status": "unique", "of": null, "kind": null}));
        assert_eq!(first.header("dedup-status"), Some("unique"));
        for name in ["2", "3"] {
            let again = app.analyze(b"cat", &[key(name)]).await;
            assert_eq!(again.json()["dedup"], seen("duplicate", &first.job()), "the oldest is named");
            let told = format!("duplicate;of=\"{}\";kind=bytes", first.job());
            assert_eq!(again.header("dedup-status"), Some(told.as_str()));
            assert_eq!(again.json()["usage"]["units"], 1);
        }
        assert_eq!(app.runs(), 3);
        app.assert_charged(3).await;
    }

    // Matrix row 12.
    async fn a_reused_answer_is_not_run_and_not_charged(setup: Setup) {
        let mut app = under(DedupPolicy::Reuse, setup).await;
        let first = app.analyze(b"cat", &[key("1")]).await;
        let reused = app.analyze(b"cat", &[key("2")]).await;
        assert_eq!((reused.status, reused.header("idempotent-replayed")), (200, None));
        let (was, is) = (first.json(), reused.json());
        assert_eq!(is["dedup"], seen("reused", &first.job()));
        assert_eq!((&is["results"], &is["usage"]["units"]), (&was["results"], &json!(0)));
        assert_eq!(is["input"], was["input"]);
        assert!(is["id"] != was["id"] && is["steps"][0]["id"] != was["steps"][0]["id"]);
        let replay = app.analyze(b"cat", &[key("2")]).await;
        assert!(replay.body == reused.body && replay.header("idempotent-replayed") == Some("true"));
        assert_eq!(app.end_of(&reused.job()).await, is);
        assert_eq!(app.runs(), 1);
        app.assert_charged(1).await;
        let rows = app.read("/v1/usage").await["data"].clone();
        let duplicate = rows.as_array().unwrap().iter().find(|row| row["kind"] == "duplicate").unwrap();
        assert_eq!((&duplicate["count"], &duplicate["units"]), (&json!(1), &json!(0)));
    }

    // Matrix row 14.
    async fn reprocess_under_a_new_key_runs_again(setup: Setup) {
        let mut app = under(DedupPolicy::Reuse, setup).await;
        assert_eq!(app.analyze(b"cat", &[key("1")]).await.status, 200);
        let again = app.ask(ANALYZE, &[FORM, key("2")], &form(&[("name=\"image\"", b"cat"), AGAIN])).await;
        assert_eq!(again.json()["dedup"], json!({"status": "bypassed", "of": null, "kind": null}));
        assert_eq!(app.runs(), 2);
        app.assert_charged(2).await;
    }
}

// Matrix row 15.
#[tokio::test]
async fn reprocess_under_a_used_key_is_a_replay() {
    let mut app = under(DedupPolicy::Flag, Setup::default()).await;
    let first = app.analyze(b"cat", &[key("1")]).await;
    let again = app.ask(ANALYZE, &[FORM, key("1")], &form(&[("name=\"image\"", b"cat"), AGAIN])).await;
    assert!(again.body == first.body && again.header("idempotent-replayed") == Some("true"));
    assert_eq!(app.runs(), 1);
    app.assert_charged(1).await;
}

#[tokio::test]
async fn only_the_same_question_with_an_answer_is_reused() {
    let mut app = under(DedupPolicy::Reuse, Setup::default()).await;
    let first = app.analyze(b"cat", &[key("1")]).await.job();
    for (name, query) in [("2", "features=labels"), ("3", "features=objects&objects.min_confidence=0.5")] {
        let line = format!("POST /v1/analyze?{query}");
        let other = app.ask(&line, &[FORM, key(name)], &image(b"cat")).await;
        assert_eq!(other.json()["dedup"], seen("duplicate", &first), "{query}");
    }
    for name in ["4", "5"] {
        assert_eq!(
            app.analyze(b"dark", &[key(name)]).await.header("dedup-status"),
            Some("unique"),
            "it failed"
        );
    }
    assert_eq!(app.runs(), 5);
    let running = app.analyze(b"wait", &[key("6"), ("Prefer", "respond-async")]).await.job();
    assert_eq!(app.running.recv().await, Some(true));
    let mut twin = app.begin(b"wait", &[key("7")]).await;
    assert_eq!(app.running.recv().await, Some(true), "what still runs is not reused");
    app.release();
    assert_eq!(twin.answer().await.json()["dedup"], seen("duplicate", &running));
}

#[tokio::test]
async fn another_model_is_another_question() {
    let app = under(DedupPolicy::Reuse, Setup::default()).await;
    let first = app.analyze(b"cat", &[key("1")]).await.job();
    let mut setup = Setup { snapshot: "cats@2", ..Setup::default() };
    setup.rules.dedup.policy = DedupPolicy::Reuse;
    let app = app.crash_and_restart(setup).await;
    assert_eq!(app.analyze(b"cat", &[key("2")]).await.json()["dedup"], seen("duplicate", &first));
}

// Matrix row 13.
#[tokio::test]
async fn a_file_with_other_bytes_is_analysed() {
    let mut app = under(DedupPolicy::Reuse, Setup::default()).await;
    let first = app.analyze(b"cat", &[key("1")]).await;
    let other = app.analyze(b"cat with other metadata", &[key("2")]).await;
    assert_eq!(other.json()["dedup"], json!({"status": "unique", "of": null, "kind": null}));
    assert_ne!(other.job(), first.job());
    assert_eq!(app.runs(), 2);
    app.assert_charged(2).await;
}

#[tokio::test]
async fn a_replay_tells_what_the_answer_told() {
    let app = under(DedupPolicy::Flag, Setup::default()).await;
    for name in ["1", "2"] {
        let first = app.analyze(b"cat", &[key(name)]).await;
        let again = app.analyze(b"cat", &[key(name)]).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert!(first.header("dedup-status").is_some());
        assert_eq!(again.header("dedup-status"), first.header("dedup-status"));
    }
}

#[tokio::test]
async fn a_project_may_have_a_policy_of_its_own() {
    let mut app = under(DedupPolicy::Off, Setup::default()).await;
    let told = async |app: &TestApp, name: &str| {
        app.analyze(b"cat", &[key(name)]).await.json()["dedup"]["status"].clone()
    };
    let change = async |app: &TestApp, policy| {
        let change = ProjectChange { dedup_policy: Change::To(policy), ..ProjectChange::default() };
        app.keys.change_project(app.project, change).await.unwrap();
        app.clock.advance(SignedDuration::from_secs(2));
    };
    assert_eq!(told(&app, "1").await, "none");
    for (policy, names) in
        [(Some(DedupPolicy::Reuse), ["unique", "reused"]), (Some(DedupPolicy::Flag), ["duplicate"; 2])]
    {
        change(&app, policy).await;
        for (number, status) in names.into_iter().enumerate() {
            let name = format!("{policy:?}-{number}");
            assert_eq!(told(&app, &name).await, status);
        }
    }
    change(&app, None).await;
    assert_eq!(told(&app, "6").await, "none");
    assert_eq!(app.runs(), 5);
}

/// The job of another key's request says when it was accepted; so long ago it is not looked at.
#[tokio::test]
async fn an_image_is_forgotten_after_the_window() {
    let app = under(DedupPolicy::Flag, Setup::default()).await;
    assert_eq!(app.analyze(b"cat", &[key("1")]).await.status, 200);
    app.clock.advance(SignedDuration::from_hours(24));
    assert_eq!(
        app.analyze(b"cat", &[key("2")]).await.header("dedup-status").unwrap().split(';').next(),
        Some("duplicate")
    );
    app.clock.advance(SignedDuration::from_hours(25));
    assert_eq!(app.analyze(b"cat", &[key("3")]).await.header("dedup-status"), Some("unique"));
}

#[tokio::test]
async fn nothing_is_told_where_nothing_is_looked_up() {
    let mut app = under(DedupPolicy::Off, Setup::default()).await;
    for name in ["1", "2"] {
        assert_eq!(app.analyze(b"cat", &[key(name)]).await.json()["dedup"]["status"], "none");
    }
    assert_eq!(app.runs(), 2);
}
