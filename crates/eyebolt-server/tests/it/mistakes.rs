//! Each mistake is told with its place, in the words of whoever made it.

use eyebolt_types::id::{BatchId, EndpointId, JobId};
use insta::assert_json_snapshot;
use serde_json::{Map, Value, json};

use crate::{
    app::{Setup, TestApp},
    batches::{CREATE, LINES, item},
    pipelines::{run, signs},
    wire::{Answer, FORM, JSON, form, image, key},
};

const ANALYZE: &str = "POST /v1/analyze?features=objects";

/// What a client learns of its mistake.
fn told(answer: &Answer) -> Value {
    let problem = answer.json();
    json!({"status": answer.status, "detail": problem["detail"], "errors": problem["errors"]})
}

#[tokio::test]
async fn mistakes_of_a_whole_batch_are_not_its_first_items() {
    let app = TestApp::start().await;
    let image = ("name=\"image\"; filename=\"a.jpg\"", &b"cat"[..]);
    let features = ("name=\"features\"", &b"objects"[..]);
    let a = item("a", b"cat");
    let mut coloured = a.clone();
    coloured["colour"] = json!(1);
    let document = |head: &str, tail: &str| format!("{{{head}\"items\": [{a}]{tail}}}").into_bytes();
    let mut answers = Map::new();
    for (name, query, kind, body) in [
        ("settings behind the files", "", FORM, form(&[image, features])),
        ("settings behind the items", "", JSON, document("", r#", "features": ["objects"]"#)),
        ("lines without settings", "", LINES, a.to_string().into_bytes()),
        ("an unknown member", "", JSON, document(r#""features": ["objects"], "prio": 1, "#, "")),
        ("an unknown setting", "?features=objects&prio=1", LINES, a.to_string().into_bytes()),
        ("a check alone", "", JSON, document(r#""features": ["objects"], "validate_only": true, "#, "")),
        ("a check alone, by query", "?validate_only=true", LINES, a.to_string().into_bytes()),
        ("an unknown feature", "", JSON, document(r#""features": ["cats"], "#, "")),
        ("no list of features", "", JSON, document(r#""features": "objects", "#, "")),
        ("a value out of range", "?features=text&text.max_results=0", LINES, a.to_string().into_bytes()),
        ("a value out of range, by form", "", FORM, form(&[features, ("name=\"detail\"", b"huge"), image])),
        ("an item with an unknown member", "?features=objects", LINES, coloured.to_string().into_bytes()),
        (
            "a name twice",
            "",
            JSON,
            format!(r#"{{"features": ["objects"], "items": [{a}, {a}]}}"#).into_bytes(),
        ),
        ("a name twice, by line", "?features=objects", LINES, format!("{a}\n{a}").into_bytes()),
    ] {
        let answer = app.ask(&format!("POST /v1/batches{query}"), &[kind, key("k")], &body).await;
        answers.insert(name.to_owned(), told(&answer));
    }
    assert_json_snapshot!(answers);
    let own = json!({"custom_id": "b", "image_base64": a["image_base64"], "features": ["objects"]});
    let body = format!(r#"{{"parameters": {{"text": {{"max_results": 3}}}}, "items": [{own}]}}"#);
    let accepted = app.ask("POST /v1/batches", &[JSON, key("own")], body.as_bytes()).await;
    assert_eq!(accepted.status, 202, "each item may ask for itself");
}

#[tokio::test]
async fn who_has_nothing_to_run_again_learns_what_to_do() {
    let mut app = TestApp::set_up(Setup::default()).await;
    let mut answers = Map::new();
    let done = app.analyze(b"cat", &[key("done")]).await.job();
    let running =
        app.ask(ANALYZE, &[FORM, key("run"), ("Prefer", "respond-async")], &image(b"wait")).await.job();
    assert_eq!(app.running.recv().await, Some(true));
    let canceled = app.ask(&format!("POST /v1/jobs/{running}:cancel"), &[], b"").await.job();
    app.sitter.breaks("read/1", eyebolt_types::ErrorCode::ModelFailed);
    let mut pipeline = signs(&json!({}));
    pipeline["steps"].as_array_mut().unwrap().push(json!({"id": "name", "feature": "labels"}));
    let failed = run(&app, b"three", (&pipeline, "failed")).await.job();
    app.end_of(&canceled).await;
    for (name, line) in [
        ("a job that succeeded", format!("{done}:retry")),
        ("a job that was canceled", format!("{canceled}:retry")),
        ("a step that succeeded", format!("{failed}/steps/name:retry")),
        ("a part that succeeded", format!("{failed}/steps/read/tasks/0:retry")),
    ] {
        let answer = app.ask(&format!("POST /v1/jobs/{line}"), &[], b"").await;
        assert_eq!(answer.code(), "job_not_retryable", "{name}");
        answers.insert(name.to_owned(), answer.json()["detail"].clone());
    }
    assert_json_snapshot!(answers);
}

#[tokio::test]
async fn settings_of_what_is_not_asked_are_told() {
    let app = TestApp::start().await;
    let line = format!("{ANALYZE}&objects.max_results=3&text.languages=en&faces.detail=low");
    let warned = app.ask(&line, &[FORM, key("k")], &image(b"cat")).await;
    let detail = "Parameters of features that were not asked change nothing: faces, text.";
    assert_eq!(warned.json()["warnings"], json!([{"code": "unused_parameters", "detail": detail}]));
}
