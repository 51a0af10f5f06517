//! `POST /v1/analyze`: every way to ask.

use eyebolt_types::{AnalyzeRequest, Detail, Feature, request::QualityGate};
use insta::assert_json_snapshot;
use serde_json::json;

use crate::{
    app::TestApp,
    wire::{FORM, JSON, form},
};

#[tokio::test]
async fn one_image_and_simple_fields_become_a_job() {
    let mut app = TestApp::start().await;
    let body = form(&[
        ("name=\"image\"; filename=\"a cat.JPEG\"\r\nContent-Type: image/jpeg", b"\xff\xd8 cat"),
        ("name=\"features\"", b"objects, text"),
        ("name=\"detail\"", b"low"),
        ("name=\"objects.labels\"", b"cat,dog"),
        ("name=\"objects.min_confidence\"", b"0.5"),
        ("name=\"text.auto_rotate\"", b"false"),
    ]);
    let answer = app.ask("POST /v1/analyze", &[FORM], &body).await;
    assert_json_snapshot!(answer.whole(), {
        ".body.id" => "[id]", ".body.input.image_id" => "[id]", ".body.steps[].id" => "[id]"
    });
    let seen = app.seen.recv().await.expect("one submission");
    let mut wanted = AnalyzeRequest::of([Feature::Objects, Feature::Text]);
    wanted.detail = Detail::Low;
    wanted.parameters.objects.labels = Some(vec!["cat".to_owned(), "dog".to_owned()]);
    wanted.parameters.objects.min_confidence = Some(0.5);
    wanted.parameters.text.auto_rotate = Some(false);
    assert_eq!(seen.request, wanted);
    assert_eq!(&seen.bytes[..], b"\xff\xd8 cat");
    assert_eq!(
        (seen.declared.extension.as_deref(), seen.declared.media_type),
        (Some("jpeg"), Some("image/jpeg"))
    );
}

#[tokio::test]
async fn the_same_request_as_a_part_in_the_query_and_as_json() {
    let mut app = TestApp::start().await;
    let mut wanted = AnalyzeRequest::of([Feature::Faces]);
    wanted.quality_gate = QualityGate::Off;
    wanted.parameters.faces.input_size = Some(320);
    let document = json!({
        "features": ["faces"], "quality_gate": "off", "parameters": {"faces": {"input_size": 320}}
    });

    let text = document.to_string();
    let image: (&str, &[u8]) = ("name=\"image\"", b"cat");
    let body = form(&[("name=\"request\"\r\nContent-Type: application/json", text.as_bytes()), image]);
    assert_eq!(app.ask("POST /v1/analyze", &[FORM], &body).await.status, 200);
    let line = "POST /v1/analyze?features=faces&faces.input_size=320&quality_gate=off";
    assert_eq!(app.ask(line, &[FORM], &form(&[image])).await.status, 200);
    let mut whole = document.clone();
    whole["image_base64"] = json!("Y2F0");
    assert_eq!(app.ask("POST /v1/analyze", &[JSON], whole.to_string().as_bytes()).await.status, 200);
    assert_eq!(app.ask(line, &[JSON], br#"{"image_base64": "Y2F0"}"#).await.status, 200);

    for way in ["part", "query", "json", "json and query"] {
        let seen = app.seen.recv().await.expect("a submission");
        assert_eq!((&seen.request, &seen.bytes[..]), (&wanted, &b"cat"[..]), "{way}");
    }
}
