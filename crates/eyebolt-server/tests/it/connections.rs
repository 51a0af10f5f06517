//! What HTTP/1 allows.

use insta::assert_json_snapshot;
use serde_json::json;

use crate::{
    app::{KEY, TestApp},
    wire::{FORM, form, request},
};

const LINE: &str = "POST /v1/analyze?features=objects";

#[tokio::test]
async fn one_connection_carries_many_requests_and_a_chunked_body() {
    let app = TestApp::start().await;
    let mut wire = app.open().await;
    let body = form(&[("name=\"image\"", b"cat")]);
    wire.send(&request(LINE, &[FORM], &body)).await;
    assert_eq!(wire.answer().await.status, 200);
    // A refusal that has read its body keeps the connection.
    wire.send(&request(LINE, &[FORM], &form(&[]))).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.headers.get("connection")), (400, None));

    let head = format!(
        "{LINE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: multipart/form-data; boundary=edge\r\n\r\n",
        KEY.reveal()
    );
    wire.send(head.as_bytes()).await;
    for piece in body.chunks(7) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        wire.send(&chunk).await;
    }
    wire.send(b"0\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn two_requests_run_at_once() {
    let mut app = TestApp::start().await;
    let sent = request(LINE, &[FORM], &form(&[("name=\"image\"", b"wait")]));
    let (mut first, mut second) = (app.open().await, app.open().await);
    first.send(&sent).await;
    second.send(&sent).await;
    assert_eq!((app.running.recv().await, app.running.recv().await), (Some(true), Some(true)));
    app.release();
    let (first, second) = (first.answer().await, second.answer().await);
    assert_eq!((first.status, second.status), (200, 200));
    assert_ne!(first.json()["id"], second.json()["id"]);
    assert_ne!(first.headers["x-request-id"], second.headers["x-request-id"]);
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let app = TestApp::start().await;
    let mut wire = app.open().await;
    wire.send(b"GET /healthz HTTP/1.0\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (200, json!("ok")));
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_closed() {
    let app = TestApp::start().await;
    for (sent, status) in [
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nBroken header\r\n\r\n", 400),
        ("POST /v1/analyze HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n", 400),
    ] {
        let mut wire = app.open().await;
        wire.send(sent.as_bytes()).await;
        assert_eq!(wire.answer().await.status, status, "{sent:?}");
        assert!(wire.is_closed().await, "{sent:?}");
    }
    assert_eq!(app.ask("GET /healthz", &[], b"").await.status, 200);
}

#[tokio::test]
async fn methods_and_addresses_that_are_not_there() {
    let app = TestApp::start().await;
    let mut answers = serde_json::Map::new();
    for line in [
        "GET /v1/analyze",
        "DELETE /v1/models",
        "BREW /healthz",
        "OPTIONS /v1/analyze",
        "OPTIONS /v1/models",
        "HEAD /healthz",
        "HEAD /v1/errors/no_such_code",
        "GET /",
        "GET /v1/analyze/",
        "GET /v1/models/no-such-model",
        "GET /v1/models/%FF",
        "GET /v1/errors/no_such_code",
        "GET /docs/errors/no_such_code",
    ] {
        answers.insert(line.to_owned(), app.ask(line, &[], b"").await.whole());
    }
    assert_json_snapshot!(answers);
}
