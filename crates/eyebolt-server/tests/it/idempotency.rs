//! The same key again: with the same request, and with another one.

use std::path::PathBuf;

use eyebolt_server::access::KeyOrder;
use eyebolt_types::Mode;
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    app::{ANALYZE, Setup, TestApp},
    database::{Schema, on_both},
    wire::{Answer, FORM, JSON, bearer, form, image, key},
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// That an answer is the first one given again.
fn assert_replayed(again: &Answer, first: &Answer) {
    assert_eq!((again.status, again.header("idempotent-replayed")), (first.status, Some("true")));
    assert!(again.body == first.body, "byte for byte");
    for name in ["content-type", "location", "x-error-code", "x-should-retry", "retry-after"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    let original = first.header("original-request-id").or_else(|| first.header("x-request-id"));
    assert_eq!(again.header("original-request-id"), original);
    assert_ne!(again.header("x-request-id"), original, "this request has an id of its own");
}

/// That a key was used for something else, and that what it stands for is as it was.
async fn assert_refused(app: &TestApp, refused: &Answer, first: &Answer) {
    assert_eq!((refused.status, refused.code()), (422, "idempotency_key_reused"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let told = String::from_utf8_lossy(&refused.body);
    assert!(!told.contains("cat") && !told.contains(&first.job()), "nothing of the first request: {told}");
    assert_replayed(&app.analyze(b"cat", &[key("k")]).await, first);
}

on_both! {
    // Matrix row 1, and the answers lost on their way of rows 19 and 52.
    async fn the_same_request_is_answered_with_the_same_bytes(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let first = app.analyze(b"cat", &[key("k")]).await;
        assert_eq!((first.status, first.header("idempotent-replayed")), (200, None));
        for _ in 0..3 {
            assert_replayed(&app.analyze(b"cat", &[key("k")]).await, &first);
        }
        // The form of the key is not the key.
        assert_replayed(&app.analyze(b"cat", &[key("\"k\"")]).await, &first);
        assert_eq!(app.runs(), 1);
        app.assert_charged(1).await;
    }

    // Matrix row 2, and row 52: a proxy that sends a request twice.
    async fn a_hundred_twins_at_once_make_one_run(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let mut twins = Vec::new();
        for _ in 0..100 {
            twins.push(app.begin(b"wait", &[key("k")]).await);
        }
        assert_eq!(app.running.recv().await, Some(true));
        app.release();
        let first = twins[0].answer().await;
        assert_eq!(first.status, 200);
        for twin in &mut twins[1..] {
            let answer = twin.answer().await;
            assert_eq!((answer.status, answer.job()), (200, first.job()));
            assert!(answer.body == first.body, "byte for byte");
        }
        assert_eq!(app.runs(), 0, "no second run");
        app.assert_charged(1).await;
    }

    // Matrix row 34.
    async fn what_is_wrong_with_the_pixels_is_stored_and_free(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let first = app.analyze(b"dark", &[key("k")]).await;
        assert_eq!((first.status, first.code()), (422, "too_dark"));
        assert_replayed(&app.analyze(b"dark", &[key("k")]).await, &first);
        assert_eq!(app.runs(), 1);
        app.assert_charged(0).await;
    }
}

// Matrix row 3.
#[tokio::test]
async fn twins_at_two_servers_of_one_database_make_one_run() {
    let schema = Schema::new();
    let (mut one, mut other) =
        (TestApp::set_up(Setup::on(&schema)).await, TestApp::set_up(Setup::on(&schema)).await);
    let mut twins = Vec::new();
    for _ in 0..20 {
        twins.push(one.begin(b"cat", &[key("k")]).await);
        twins.push(other.begin(b"cat", &[key("k")]).await);
    }
    let first = twins[0].answer().await;
    assert_eq!(first.status, 200);
    for twin in &mut twins[1..] {
        assert!(twin.answer().await.body == first.body, "byte for byte");
    }
    assert_eq!(one.runs() + other.runs(), 1);
    one.assert_charged(1).await;
}

// Matrix row 4.
#[tokio::test]
async fn another_image_under_a_used_key_is_refused_and_free() {
    let mut app = TestApp::start().await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    assert_refused(&app, &app.analyze(b"cau", &[key("k")]).await, &first).await;
    assert_eq!(app.runs(), 1);
    app.assert_charged(1).await;
}

// Matrix row 5.
#[tokio::test]
async fn other_settings_under_a_used_key_are_refused_and_free() {
    let mut app = TestApp::start().await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    for query in [
        "features=objects&objects.min_confidence=0.5",
        "features=objects&objects.model=cats",
        "features=objects&detail=low",
        "features=objects,text",
        "features=text",
    ] {
        let line = format!("POST /v1/analyze?{query}");
        assert_refused(&app, &app.ask(&line, &[FORM, key("k")], &image(b"cat")).await, &first).await;
    }
    assert_eq!(app.runs(), 1);
    app.assert_charged(1).await;
}

// Matrix row 6.
#[tokio::test]
async fn the_form_of_a_request_does_not_count() {
    let mut app = TestApp::start().await;
    let cat = ("name=\"image\"", b"cat".as_slice());
    let features = ("name=\"features\"", b"objects".as_slice());
    let (line, k) = ("POST /v1/analyze", key("k"));
    let first = app.ask(line, &[FORM, k], &form(&[cat, features])).await;
    assert_eq!(first.status, 200);

    let turned = app.ask(line, &[FORM, k], &form(&[features, cat])).await;
    assert_replayed(&turned, &first);
    let text = String::from_utf8(form(&[cat, features])).unwrap().replace("--edge", "--brim");
    let other_boundary = ("Content-Type", "multipart/form-data; boundary=brim");
    assert_replayed(&app.ask(line, &[other_boundary, k], text.as_bytes()).await, &first);
    let shouted = ("CONTENT-TYPE", FORM.1);
    assert_replayed(
        &app.ask(line, &[("idempotency-KEY", "k"), shouted], text.replace("brim", "edge").as_bytes()).await,
        &first,
    );
    assert_replayed(&app.ask(ANALYZE, &[FORM, k], &form(&[cat])).await, &first);
    let document = json!({"image_base64": "Y2F0", "features": ["objects"]}).to_string();
    assert_replayed(&app.ask(line, &[JSON, k], document.as_bytes()).await, &first);
    let spelled = json!({"features": ["objects"], "detail": "standard", "image_base64": "Y2F0"}).to_string();
    let detail = app.seen.recv().await.expect("one submission").request.detail;
    assert_eq!(json!(detail), json!("standard"), "the default is spelled out");
    assert_replayed(&app.ask(line, &[JSON, k], spelled.as_bytes()).await, &first);
    assert_eq!(app.runs(), 1);
}

// Matrix row 7.
#[tokio::test]
async fn the_name_and_declared_type_of_the_file_do_not_count() {
    let mut app = TestApp::start().await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    let named = "name=\"image\"; filename=\"IMG_1.jpeg\"\r\nContent-Type: image/jpeg";
    assert_replayed(&app.ask(ANALYZE, &[FORM, key("k")], &form(&[(named, b"cat")])).await, &first);
    assert_eq!(app.runs(), 1);
}

// Matrix row 8.
#[tokio::test]
async fn a_key_says_nothing_on_other_routes_and_in_the_other_mode() {
    let mut app = TestApp::start().await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    for action in ["cancel", "retry"] {
        let line = format!("POST /v1/jobs/{}:{action}", first.job());
        let answer = app.ask(&line, &[key("k")], b"").await;
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (422, None), "{action}");
    }
    let test = app.keys.create(app.project, KeyOrder::new(Mode::Test, "test")).await.unwrap();
    let (name, value) = bearer(test.secret.reveal());
    let other = app.analyze(b"other", &[key("k"), (name, &value)]).await;
    assert_eq!((other.status, other.header("idempotent-replayed")), (200, None));
    assert_replayed(&app.analyze(b"cat", &[key("k")]).await, &first);
    assert_eq!(app.runs(), 2);
}

// Matrix row 9.
#[tokio::test]
async fn keys_of_another_project_are_its_own() {
    let mut app = TestApp::start().await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    let (_, issued) = app.keys.create_project("other", Mode::Live).await.unwrap();
    let (name, value) = bearer(issued.secret.reveal());
    let known = app.ask("GET /v1/idempotency-keys/k", &[(name, &value)], b"").await;
    assert_eq!(known.json()["state"], "unused");
    let other = app.analyze(b"other", &[key("k"), (name, &value)]).await;
    assert_eq!((other.status, other.header("idempotent-replayed")), (200, None));
    assert_ne!(other.job(), first.job());
    assert_replayed(&app.analyze(b"cat", &[key("k")]).await, &first);
    assert_eq!(app.runs(), 2);
    app.assert_charged(1).await;
}

// Matrix row 10.
#[tokio::test]
async fn a_rotated_api_key_knows_the_keys_of_the_old_one() {
    let mut app = TestApp::start().await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    let new = app.keys.rotate(app.key, SignedDuration::ZERO).await.unwrap();
    app.clock.advance(SignedDuration::from_secs(2));
    assert_eq!(app.analyze(b"cat", &[key("k")]).await.code(), "expired_api_key");
    let (name, value) = bearer(new.secret.reveal());
    assert_replayed(&app.analyze(b"cat", &[key("k"), (name, &value)]).await, &first);
    assert_eq!(app.runs(), 1);
}

// Matrix row 16.
#[tokio::test]
async fn a_replay_names_the_model_that_answered_then() {
    let app = TestApp::start().await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    let mut app = app.crash_and_restart(Setup { snapshot: "cats@2", ..Setup::default() }).await;
    let again = app.analyze(b"cat", &[key("k")]).await;
    assert_replayed(&again, &first);
    assert_eq!(again.json()["steps"][0]["model"], "cats@1");
    assert_eq!(app.runs(), 0);
    assert_eq!(app.analyze(b"cat", &[key("new")]).await.json()["steps"][0]["model"], "cats@2");
}

// Matrix row 39.
#[tokio::test]
async fn a_poor_key_used_again_the_next_day_is_refused() {
    let app = TestApp::start().await;
    let first = app.analyze(b"cat", &[key("1")]).await;
    app.clock.advance(DAY);
    let stranger = app.analyze(b"dog", &[key("1")]).await;
    assert_eq!((stranger.status, stranger.code()), (422, "idempotency_key_reused"));
    assert_eq!(stranger.json()["params"]["first_used_at"], json!(first.json()["created_at"]));
    app.assert_charged(1).await;
}

/// The file that holds the answer of a job.
fn document(app: &TestApp, job: &str) -> PathBuf {
    let folders = std::fs::read_dir(app.folder.path().join("blobs/documents")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let mut paths = files.map(|file| file.unwrap().path());
    paths
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(job))
        .expect("a file of the job")
}

// Matrix row 31.
#[tokio::test]
async fn a_large_answer_is_kept_beside_the_rows_and_replayed() {
    let mut app = TestApp::start().await;
    let first = app.analyze(b"huge", &[key("k")]).await;
    assert!(first.body.len() > 256 << 10, "{} bytes", first.body.len());
    assert!(document(&app, &first.job()).is_file());
    assert_replayed(&app.analyze(b"huge", &[key("k")]).await, &first);
    let read = app.ask(&format!("GET /v1/jobs/{}", first.job()), &[], b"").await;
    assert!(read.body == first.body, "the job is read as it was answered");
    assert_eq!(app.runs(), 1);
}

// Matrix row 32.
#[tokio::test]
async fn a_stored_answer_that_is_damaged_or_lost_is_never_made_anew() {
    let mut app = TestApp::start().await;
    let first = app.analyze(b"huge", &[key("k")]).await;
    let blob = document(&app, &first.job());
    let mut damaged = first.body.clone();
    damaged[1000] ^= 1;
    std::fs::write(&blob, damaged).unwrap();
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(&blob).unwrap();
        }
        let again = app.analyze(b"huge", &[key("k")]).await;
        assert_eq!((again.status, again.code()), (500, "stored_response_corrupt"), "lost: {lost}");
        assert_eq!(again.header("x-should-retry"), Some("true"));
        let read = app.ask(&format!("GET /v1/jobs/{}", first.job()), &[], b"").await;
        assert_eq!(read.code(), "stored_response_corrupt");
    }
    assert_eq!(app.runs(), 1);
    app.assert_charged(1).await;
}
