//! A key when something goes away in the middle: the client, or the server.

use eyebolt_server::jobs::JobSettings;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::{
    app::{ANALYZE, Setup, TestApp},
    database::on_both,
    wire::{FORM, image, key, request},
};

/// Half of a request whose body is `image`.
fn half(bytes: &[u8]) -> Vec<u8> {
    let mut sent = request(ANALYZE, &[FORM, key("k")], &image(bytes));
    sent.truncate(sent.len() - 40);
    sent
}

/// That nothing was accepted, and the key can be used for anything.
async fn assert_free(app: &mut TestApp) {
    assert_eq!(app.read("/v1/idempotency-keys/k").await["state"], "unused");
    assert_eq!(app.read("/v1/jobs").await["data"], json!([]));
    assert_eq!(app.runs(), 0);
    let other = app.analyze(b"other", &[key("k")]).await;
    assert_eq!((other.status, other.header("idempotent-replayed")), (200, None));
    app.assert_charged(1).await;
}

on_both! {
    // Matrix row 17.
    async fn a_job_that_a_crash_interrupts_is_run_again_and_joined(setup: Setup) {
        let (schema, access) = (setup.schema.clone(), setup.access.clone());
        let mut app = TestApp::set_up(setup).await;
        let _lost = app.begin(b"wait", &[key("k")]).await;
        assert_eq!(app.running.recv().await, Some(true));
        let job = app.read("/v1/idempotency-keys/k").await["job"].clone();

        let mut app = app.crash_and_restart(Setup { access, schema, ..Setup::default() }).await;
        assert_eq!(app.running.recv().await, Some(true), "it is taken back at once");
        let mut retry = app.begin(b"wait", &[key("k")]).await;
        app.read("/healthz").await;
        app.release();
        let answer = retry.answer().await;
        assert_eq!((answer.status, json!(answer.job())), (200, job));
        assert_eq!(app.runs(), 0);
        app.assert_charged(1).await;
    }

    // Matrix rows 19 and 20.
    async fn an_answer_that_a_crash_cut_off_is_replayed_whole(setup: Setup) {
        let (schema, access) = (setup.schema.clone(), setup.access.clone());
        let mut app = TestApp::set_up(setup).await;
        let wire = app.begin(b"huge", &[key("k")]).await;
        let mut first = [0; 100];
        wire.stream.readable().await.unwrap();
        assert!(wire.stream.try_read(&mut first).unwrap() > 0, "the answer has begun");
        assert_eq!(app.runs(), 1);

        let mut app = app.crash_and_restart(Setup { access, schema, ..Setup::default() }).await;
        drop(wire);
        let retry = app.analyze(b"huge", &[key("k")]).await;
        assert_eq!((retry.status, retry.header("idempotent-replayed")), (200, Some("true")));
        assert_eq!(retry.json()["results"]["objects"]["items"].as_array().unwrap().len(), 4000);
        assert_eq!(app.runs(), 0);
        app.assert_charged(1).await;
    }
}

// Matrix row 17: it waited for a worker.
#[tokio::test]
async fn a_job_that_waits_at_a_crash_is_run_after_it() {
    let setup = || {
        let mut setup = Setup::default();
        setup.rules.jobs = JobSettings { slots: 1, ..setup.rules.jobs };
        setup
    };
    let mut app = TestApp::set_up(setup()).await;
    let _wire = app.begin(b"wait", &[]).await;
    assert_eq!(app.running.recv().await, Some(true));
    let accepted = app.analyze(b"cat", &[key("k"), ("Prefer", "respond-async")]).await;
    assert_eq!((accepted.status, accepted.json()["status"].clone()), (202, json!("pending")));

    let app = app.crash_and_restart(Setup::default()).await;
    let ended = app.end_of(&accepted.job()).await;
    assert_eq!((&ended["status"], &ended["steps"][0]["attempt"]), (&json!("succeeded"), &json!(1)));
    let replay = app.analyze(b"cat", &[key("k")]).await;
    assert_eq!((replay.status, replay.job()), (200, accepted.job()));
}

// Matrix row 18, and row 44: what was done before the crash is not done again.
#[tokio::test]
async fn a_crash_between_two_steps_repeats_the_second_alone() {
    let line = "POST /v1/analyze?features=objects,labels";
    let mut app = TestApp::start().await;
    let mut wire = app.open().await;
    wire.send(&request(line, &[FORM, key("k")], &image(b"half"))).await;
    assert_eq!(app.running.recv().await, Some(true));
    let job = app.read("/v1/idempotency-keys/k").await["job"].as_str().unwrap().to_owned();
    // The first step is committed while the second one runs.
    while app.read(&format!("/v1/jobs/{job}/steps")).await["data"][0]["status"] != "succeeded" {}

    let mut app = app.crash_and_restart(Setup::default()).await;
    assert_eq!(app.running.recv().await, Some(true));
    assert_eq!(
        app.ask(line, &[FORM, key("k")], &image(b"half")).await.status,
        200,
        "the one left is the first now"
    );
    let steps = app.end_of(&job).await["steps"].clone();
    assert_eq!(steps[0]["attempt"], 1);
    assert_eq!(steps[1]["status"], "succeeded");
    app.assert_charged(2).await;
}

// Matrix row 21.
#[tokio::test]
async fn a_crash_during_an_upload_leaves_the_key_free() {
    let app = TestApp::start().await;
    let mut wire = app.open().await;
    wire.send(&half(&vec![b'x'; 40_000])).await;
    app.read("/healthz").await;
    let mut app = app.crash_and_restart(Setup::default()).await;
    drop(wire);
    assert_free(&mut app).await;
}

// Matrix row 22.
#[tokio::test]
async fn a_client_that_goes_during_its_upload_leaves_the_key_free() {
    let mut app = TestApp::start().await;
    let mut wire = app.open().await;
    wire.send(&half(&vec![b'x'; 40_000])).await;
    wire.stream.shutdown().await.unwrap();
    // The server has seen that nothing more comes.
    assert!(wire.is_closed().await || wire.answer().await.status >= 400);
    assert_free(&mut app).await;
}

// Matrix row 23.
#[tokio::test]
async fn a_job_with_a_key_runs_on_when_its_client_goes() {
    let mut app = TestApp::start().await;
    let wire = app.begin(b"wait", &[key("k")]).await;
    assert_eq!(app.running.recv().await, Some(true));
    drop(wire);
    for _ in 0..5 {
        assert_eq!(app.read("/v1/idempotency-keys/k").await["state"], "running");
    }
    assert!(app.running.try_recv().is_err(), "it was not dropped");
    let mut retry = app.begin(b"wait", &[key("k")]).await;
    app.read("/healthz").await;
    app.release();
    assert_eq!(retry.answer().await.status, 200);
    assert_eq!(app.runs(), 0);
    app.assert_charged(1).await;
}

// Matrix row 23: the same, gone in the moment of acceptance. The time stands still here, so that no lease runs out: a
// job that nobody began would never end.
#[tokio::test]
async fn a_job_is_begun_although_its_client_goes_while_it_is_accepted() {
    let mut app = TestApp::start().await;
    for round in 0..30 {
        let name = round.to_string();
        let wire = app.begin(b"cat", &[key(&name)]).await;
        app.seen.recv().await.expect("it was looked at");
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        drop(wire);
        let retry = app.analyze(b"cat", &[key(&name), ("Prefer", "wait=5")]).await;
        assert_eq!(retry.status, 200, "round {round}: {}", retry.code());
    }
}

// Matrix row 24.
#[tokio::test]
async fn who_waits_no_longer_is_told_where_the_job_is_and_joins_it_later() {
    let mut app = TestApp::start().await;
    let impatient = [key("k"), ("Prefer", "wait=0")];
    let first = app.analyze(b"wait", &impatient).await;
    assert_eq!(first.status, 202);
    assert_eq!(app.running.recv().await, Some(true));
    let twin = app.analyze(b"wait", &impatient).await;
    assert_eq!((twin.status, twin.code()), (409, "idempotency_key_in_use"));
    assert_eq!((twin.job(), twin.header("retry-after")), (first.job(), Some("1")));
    assert_eq!(twin.header("x-should-retry"), Some("true"));
    let patient = app.analyze(b"wait", &[key("k"), ("Prefer", "respond-async")]).await;
    assert_eq!((patient.status, patient.job()), (202, first.job()));
    let mut joins = app.begin(b"wait", &[key("k")]).await;
    app.read("/healthz").await;
    app.release();
    let answer = joins.answer().await;
    assert_eq!((answer.status, answer.job()), (200, first.job()));
    assert_eq!(app.runs(), 0);
    app.assert_charged(1).await;
}

// Matrix row 33.
#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_the_same_key_runs_it_again() {
    let mut app = TestApp::start().await;
    let failed = app.analyze(b"panic", &[key("k")]).await;
    assert_eq!((failed.status, failed.code()), (500, "internal"));
    assert_eq!((failed.header("x-should-retry"), failed.header("retry-after")), (Some("true"), Some("1")));
    assert_eq!(app.read(&format!("/v1/jobs/{}", failed.job())).await["steps"][0]["attempt"], 1);
    app.assert_charged(0).await;
    app.mend();
    let done = app.analyze(b"panic", &[key("k")]).await;
    assert_eq!((done.status, done.job()), (200, failed.job()));
    assert_eq!(done.json()["steps"][0]["attempt"], 2);
    assert_eq!(app.runs(), 2);
    app.assert_charged(1).await;
}

// Matrix row 33: the same, by the server itself.
#[tokio::test]
async fn a_panic_is_tried_again_while_attempts_are_left() {
    let mut setup = Setup::default();
    setup.rules.jobs.max_attempts = 2;
    let mut app = TestApp::set_up(setup).await;
    let mut wire = app.begin(b"panic", &[key("k")]).await;
    assert_eq!((app.running.recv().await, app.running.recv().await), (Some(true), Some(false)));
    app.mend();
    app.clock.advance(jiff::SignedDuration::from_secs(1));
    assert_eq!(wire.answer().await.json()["steps"][0]["attempt"], 2);
    app.assert_charged(1).await;
}
