//! Clients that take their time, or hang up.

use std::time::Duration;

use eyebolt_server::HttpSettings;

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    wire::{FORM, form, request},
};

const SOON: Duration = Duration::from_millis(40);
const NEVER: Duration = Duration::from_hours(1);
const LINE: &str = "POST /v1/analyze?features=objects";

fn whole(image: &[u8]) -> Vec<u8> {
    request(LINE, &[FORM], &form(&[("name=\"image\"", image)]))
}

/// 200 clients send half and go silent: others are served at once, and each of the 200 is told and cut off.
#[tokio::test]
async fn stalled_uploads_are_cut_off_while_others_are_served() {
    let settings = HttpSettings { body_idle_timeout: SOON, body_timeout: NEVER, ..HttpSettings::default() };
    let app = TestApp::with(settings).await;
    let sent = whole(&[b'x'; 2000]);
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut wire = app.open().await;
        wire.send(&sent[..sent.len() / 2]).await;
        stalled.push(wire);
    }
    assert_eq!(app.ask(LINE, &[FORM], &form(&[("name=\"image\"", b"cat")])).await.status, 200);
    for wire in &mut stalled {
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.code()), (408, "request_timeout"));
        assert_eq!(answer.headers["connection"], "close");
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.json()["params"]["limit_name"], "body_idle_timeout");
        assert!(wire.is_closed().await);
    }
}

/// The image is complete, but the body was announced to be longer: nobody can tell what is missing.
#[tokio::test]
async fn a_body_whose_last_bytes_never_come_is_not_taken() {
    let settings = HttpSettings { body_idle_timeout: SOON, body_timeout: NEVER, ..HttpSettings::default() };
    let mut app = TestApp::with(settings).await;
    let sent = whole(b"cat");
    for missing in 1..=2 {
        let mut wire = app.open().await;
        wire.send(&sent[..sent.len() - missing]).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.code()), (408, "request_timeout"), "{missing} missing");
    }
    assert_eq!(app.runs(), 0);
}

#[tokio::test]
async fn a_trickling_upload_is_cut_off_by_its_whole_time() {
    let settings = HttpSettings { body_idle_timeout: NEVER, body_timeout: SOON, ..HttpSettings::default() };
    let app = TestApp::with(settings).await;
    let mut wire = app.open().await;
    let sent = whole(&[b'x'; 2000]);
    wire.send(&sent[..sent.len() - 100]).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.json()["params"]["limit_name"].as_str()), (408, Some("body_timeout")));
}

#[tokio::test]
async fn headers_that_do_not_come_end_the_connection() {
    let app = TestApp::with(HttpSettings { header_timeout: SOON * 5, ..HttpSettings::default() }).await;
    for sent in ["", "POST /v1/analyze HTTP/1.1\r\nHost: x\r\n"] {
        let mut wire = app.open().await;
        wire.send(sent.as_bytes()).await;
        assert!(wire.is_closed().await, "{sent:?}");
    }
    // And so does an idle connection after its answer.
    let mut wire = app.open().await;
    wire.send(&request("GET /healthz", &[], b"")).await;
    assert_eq!(wire.answer().await.status, 200);
    assert!(wire.is_closed().await);
}

/// A client that asks and never reads fills its connection's buffers; then it loses the connection.
#[tokio::test]
async fn a_client_that_takes_no_answer_is_cut_off() {
    let settings = HttpSettings { write_timeout: SOON, max_connections: 1, ..HttpSettings::default() };
    let app = TestApp::with(settings).await;
    let mut deaf = app.open().await;
    deaf.send(&request("GET /v1/errors", &[], b"").repeat(400)).await;
    // The only place is free again.
    assert_eq!(app.ask("GET /healthz", &[], b"").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let mut app = TestApp::with(HttpSettings { request_timeout: SOON, ..HttpSettings::default() }).await;
    let mut wire = app.open().await;
    wire.send(&whole(b"wait")).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.code()), (504, "deadline_exceeded"));
    assert_eq!((app.running.recv().await, app.running.recv().await), (Some(true), Some(false)));
}

#[tokio::test]
async fn hanging_up_cancels_the_work() {
    let mut app = TestApp::start().await;
    let mut wire = app.open().await;
    wire.send(&whole(b"wait")).await;
    assert_eq!(app.running.recv().await, Some(true));
    drop(wire);
    // Without an idempotency key nobody could ask for the answer.
    assert_eq!(app.running.recv().await, Some(false));
}

on_both! {
    // Whoever sends a whole request without a key and hangs up at once has gone before there is a job to be known by: it is
    // seen all the same, wherever the request stands by then.
    async fn whoever_hangs_up_at_once_without_a_key_leaves_nothing_that_runs(setup: Setup) {
        let schema = setup.schema.clone();
        let app = TestApp::set_up(setup).await;
        // Some go before there is a job, which proves nothing: until there is one.
        for round in 1.. {
            for _ in 0..20 {
                let mut wire = app.open().await;
                wire.send(&whole(b"wait")).await;
            }
            // Connections are taken in their order, so all of those have been.
            let jobs = app.read("/v1/jobs?limit=1").await;
            if jobs["data"].as_array().is_some_and(|jobs| !jobs.is_empty()) {
                break;
            }
            assert!(round < 100, "of {} requests none was accepted", round * 20);
        }
        // A job that nobody has noticed waits for ever: given back when the server stops, it would run again.
        let again = schema.as_ref().map_or_else(Setup::default, Setup::on);
        let mut app = app.stop_and_restart(again).await;
        let jobs = app.read("/v1/jobs?limit=100").await;
        let jobs = jobs["data"].as_array().unwrap();
        assert!(jobs.iter().all(|job| job["status"] == "canceled"), "{jobs:#?}");
        assert_eq!(app.runs(), 0);
        app.assert_charged(0).await;
    }
}

/// What bodies may hold is shared: who finds nothing left is told to come back.
#[tokio::test]
async fn a_spent_body_budget_refuses_until_memory_is_given_back() {
    let settings = HttpSettings {
        body_budget_bytes: 128 << 10,
        body_budget_timeout: SOON,
        body_idle_timeout: NEVER,
        body_timeout: NEVER,
        ..HttpSettings::default()
    };
    let mut app = TestApp::with(settings).await;
    let mut hog = app.open().await;
    hog.send(&whole(&[&b"wait"[..], &vec![b'x'; 65_500]].concat())).await;
    assert_eq!(app.running.recv().await, Some(true));

    let answer = app.ask(LINE, &[FORM], &form(&[("name=\"image\"", b"cat")])).await;
    assert_eq!((answer.status, answer.code()), (503, "temporary_reduced_capacity"));
    assert_eq!(answer.headers["retry-after"], "2");

    app.release();
    assert_eq!(hog.answer().await.status, 200);
    // The script keeps submissions until the test takes them.
    drop(app.seen.recv().await);
    assert_eq!(app.ask(LINE, &[FORM], &form(&[("name=\"image\"", b"cat")])).await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let app = TestApp::with(HttpSettings { max_connections: 1, ..HttpSettings::default() }).await;
    let mut first = app.open().await;
    first.send(&request("GET /healthz", &[], b"")).await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = app.open().await;
    second.send(&request("GET /healthz", &[], b"")).await;
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}
