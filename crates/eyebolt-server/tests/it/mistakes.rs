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
async fn every_mistake_of_a_query_is_told_by_its_name() {
    let app = TestApp::start().await;
    let (batch, job, endpoint) = (BatchId::new(), JobId::new(), EndpointId::new());
    let mut answers = Map::new();
    for line in [
        "GET /v1/jobs?status=done&foo=1&created_from=yesterday&limit=0".to_owned(),
        "GET /v1/jobs?limit=5&limit=6&cursor=7".to_owned(),
        "GET /v1/jobs?%3Cb%3E=1&created_before=2026-11-24".to_owned(),
        format!("GET /v1/jobs/{job}?wait=soon"),
        "GET /v1/batches?status=done&limit=101".to_owned(),
        format!("GET /v1/batches/{batch}/items?status=foo"),
        format!("GET /v1/batches/{batch}/results?limit=foo"),
        "GET /v1/pipelines?limit=-1&nme=a".to_owned(),
        "GET /v1/usage?from=yesterday&to=2026-11-31".to_owned(),
        format!("GET /v1/webhook-endpoints/{endpoint}/deliveries?status=nope&limit=many"),
    ] {
        let name = [job.to_string(), batch.to_string(), endpoint.to_string()];
        let name = name.iter().fold(line.clone(), |line, id| line.replace(id, "ID"));
        answers.insert(name, told(&app.ask(&line, &[], b"").await));
    }
    let line = format!("POST /v1/webhook-endpoints/{endpoint}:replay");
    let replay = app.ask(&line, &[JSON], br#"{"since": "yesterday, expected <b>"}"#).await;
    answers.insert("POST :replay".to_owned(), told(&replay));
    assert!(!json!(answers).to_string().contains('<'), "echoes what the client sent");
    assert_json_snapshot!(answers);

    let many: Vec<_> = (0..100).map(|number| format!("&n{number}=1")).collect();
    let many = many.concat();
    let many = app.ask(&format!("GET /v1/jobs?{many}"), &[], b"").await;
    assert_eq!(many.json()["errors"].as_array().unwrap().len(), 20, "an answer stays small");
}

#[tokio::test]
async fn an_address_that_is_refused_has_its_place() {
    let app = TestApp::start().await;
    let url = "gopher%3A%2F%2Fexample.com%2F";
    let body = image(b"cat");
    let by_field = app.ask(&format!("{ANALYZE}&webhook_url={url}"), &[FORM, key("1")], &body).await;
    let request = json!({"features": ["objects"], "webhook_url": "gopher://example.com/"}).to_string();
    let request = form(&[("name=\"image\"", b"cat"), ("name=\"request\"", request.as_bytes())]);
    let by_document = app.ask("POST /v1/analyze", &[FORM, key("2")], &request).await;
    let endpoint = json!({"url": "gopher://example.com/"}).to_string();
    let endpoint = app.ask("POST /v1/webhook-endpoints", &[JSON], endpoint.as_bytes()).await;
    let line = format!("{CREATE}&webhook_url={url}");
    let batch = app.ask(&line, &[LINES, key("3")], item("a", b"cat").to_string().as_bytes()).await;
    let answers = [
        (by_field, "webhook_url"),
        (by_document, "/webhook_url"),
        (endpoint, "/url"),
        (batch, "/webhook_url"),
    ];
    for (answer, place) in answers {
        assert_eq!((answer.status, answer.code()), (422, "webhook_url_refused"));
        assert_eq!(answer.json()["errors"][0]["pointer"], place);
    }
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
