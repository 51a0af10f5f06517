//! `:cancel` and `:retry`.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    wire::{Answer, FORM, image, key, request},
};

const LATER: (&str, &str) = ("Prefer", "respond-async");
const DAY: SignedDuration = SignedDuration::from_hours(24);

async fn act(app: &TestApp, job: &str, action: &str) -> Answer {
    app.ask(&format!("POST /v1/jobs/{job}:{action}"), &[], b"").await
}

/// The status, attempt and results of each step.
fn steps(job: &Value) -> Vec<(Value, Value)> {
    let steps = job["steps"].as_array().expect("a list");
    steps.iter().map(|step| (step["status"].clone(), step["attempt"].clone())).collect()
}

fn step(status: &str, attempt: u32) -> (Value, Value) {
    (json!(status), json!(attempt))
}

on_both! {
    async fn only_what_failed_is_run_again(setup: Setup) {
        let line = "POST /v1/analyze?features=objects,labels,text";
        let mut app = TestApp::set_up(setup).await;
        let failed = app.ask(line, &[FORM, key("k")], &image(b"fail")).await;
        assert_eq!((failed.status, failed.code()), (500, "model_failed"));
        let job = app.read(&format!("/v1/jobs/{}", failed.job())).await;
        assert_eq!(steps(&job), [step("succeeded", 1), step("failed", 1), step("failed", 1)]);
        assert_eq!(job["retryable_until"], json!((app.clock.now() + DAY).to_string()));
        app.assert_charged(1).await;

        app.mend();
        let again = act(&app, &failed.job(), "retry").await;
        assert_eq!((again.status, again.job(), again.header("retry-after")), (202, failed.job(), Some("1")));
        let ended = app.end_of(&failed.job()).await;
        assert_eq!(steps(&ended), [step("succeeded", 1), step("succeeded", 2), step("succeeded", 2)]);
        assert_eq!((&ended["usage"]["units"], &ended["retryable_until"]), (&json!(3), &Value::Null));
        let replay = app.ask(line, &[FORM, key("k")], &image(b"fail")).await;
        assert_eq!((replay.status, replay.json()), (200, ended));
        assert_eq!(app.runs(), 2);
        app.assert_charged(3).await;
    }

    // Matrix row 45.
    async fn many_retries_at_once_make_one_run(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let failed = app.analyze(b"fail", &[key("k")]).await.job();
        assert_eq!(app.runs(), 1);
        app.mend();
        let mut wires = Vec::new();
        for _ in 0..10 {
            let mut wire = app.open().await;
            wire.send(&request(&format!("POST /v1/jobs/{failed}:retry"), &[], b"")).await;
            wires.push(wire);
        }
        for wire in &mut wires {
            let answer = wire.answer().await;
            // One that comes after the end finds nothing to run again.
            assert!(answer.status == 202 || answer.code() == "job_not_retryable", "{}", answer.status);
        }
        assert_eq!(steps(&app.end_of(&failed).await), [step("succeeded", 2)]);
        assert_eq!(app.runs(), 1);
        app.assert_charged(1).await;
    }

    // Matrix row 46.
    async fn of_cancel_and_completion_one_wins(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let mut succeeded = 0;
        for round in 0..20 {
            let name = round.to_string();
            let mut wire = app.begin(b"wait", &[key(&name)]).await;
            assert_eq!(app.running.recv().await, Some(true));
            let job = app.read(&format!("/v1/idempotency-keys/{name}")).await["job"].as_str().unwrap().to_owned();
            let mut cancels = app.open().await;
            cancels.send(&request(&format!("POST /v1/jobs/{job}:cancel"), &[], b"")).await;
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            app.release();
            let (answer, canceled) = (wire.answer().await, cancels.answer().await);
            let end = app.end_of(&job).await["status"].clone();
            assert_eq!(end == "succeeded", answer.status == 200, "{}", answer.code());
            assert!(end == "succeeded" || (end == "canceled" && answer.code() == "job_canceled"));
            assert!([200, 202, 422].contains(&canceled.status));
            assert!(canceled.status != 200 || end == "canceled", "200 says that it is canceled: {end}");
            assert_eq!(app.analyze(b"wait", &[key(&name)]).await.body, answer.body);
            succeeded += i64::from(end == "succeeded");
            assert_eq!(app.running.recv().await, Some(false));
        }
        app.assert_charged(succeeded).await;
    }
}

#[tokio::test]
async fn a_retry_keeps_the_models_of_the_first_run() {
    let app = TestApp::start().await;
    let failed = app.analyze(b"fail", &[key("k")]).await.job();
    let app = app.crash_and_restart(Setup { snapshot: "cats@2", ..Setup::default() }).await;
    app.mend();
    assert_eq!(act(&app, &failed, "retry").await.status, 202);
    let ended = app.end_of(&failed).await;
    assert_eq!((&ended["status"], &ended["steps"][0]["model"]), (&json!("succeeded"), &json!("cats@1")));
}

#[tokio::test]
async fn what_did_not_fail_or_will_not_pass_is_not_run_again() {
    let mut app = TestApp::start().await;
    let done = app.analyze(b"cat", &[key("done")]).await.job();
    let dark = app.analyze(b"dark", &[key("dark")]).await.job();
    let late = app.analyze(b"fail", &[key("late")]).await;
    app.mend();
    app.clock.advance(DAY);
    for (job, status) in [(done, "succeeded"), (dark, "failed"), (late.job(), "failed")] {
        let answer = act(&app, &job, "retry").await;
        assert_eq!((answer.status, answer.code()), (422, "job_not_retryable"), "{status}");
        assert_eq!(answer.json()["params"]["status"], status);
    }
    let replay = app.analyze(b"fail", &[key("late")]).await;
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (500, Some("true")));
    assert!(replay.body == late.body, "after its time the problem is replayed");
    assert_eq!(app.runs(), 3);
}

#[tokio::test]
async fn a_job_that_waits_is_canceled_at_once() {
    let mut setup = Setup::default();
    setup.rules.jobs.slots = 1;
    let mut app = TestApp::set_up(setup).await;
    app.analyze(b"wait", &[key("1"), LATER]).await;
    assert_eq!(app.running.recv().await, Some(true));
    let job = app.analyze(b"cat", &[key("2"), LATER]).await.job();
    let mut waiter = app.begin(b"cat", &[key("2")]).await;
    let canceled = act(&app, &job, "cancel").await;
    assert_eq!((canceled.status, canceled.json()["status"].clone()), (200, json!("canceled")));
    let told = waiter.answer().await;
    assert_eq!((told.status, told.code(), told.job()), (410, "job_canceled", job.clone()));
    let again = act(&app, &job, "cancel").await;
    assert!(again.status == 200 && again.body == canceled.body, "a canceled job stays so");
    assert_eq!(act(&app, &job, "retry").await.code(), "job_not_retryable");
    app.release();
    let replay = app.analyze(b"cat", &[key("2")]).await;
    assert!(replay.body == told.body && replay.header("idempotent-replayed") == Some("true"));
    assert_eq!(app.runs(), 0);
}

#[tokio::test]
async fn a_job_that_runs_is_asked_to_stop() {
    let mut app = TestApp::start().await;
    let mut waiter = app.begin(b"wait", &[key("k")]).await;
    assert_eq!(app.running.recv().await, Some(true));
    let job = app.read("/v1/idempotency-keys/k").await["job"].as_str().unwrap().to_owned();
    let asked = act(&app, &job, "cancel").await;
    // 200 where it has ended by then.
    assert!([200, 202].contains(&asked.status));
    assert_eq!(asked.job(), job);
    assert_eq!(app.running.recv().await, Some(false), "nobody had to release it");
    assert_eq!(waiter.answer().await.code(), "job_canceled");
    let ended = app.end_of(&job).await;
    assert_eq!((&ended["usage"]["units"], steps(&ended)), (&json!(0), vec![step("canceled", 1)]));
    app.assert_charged(0).await;
}

/// What was done before the cancel is kept, and costs nothing.
#[tokio::test]
async fn a_job_canceled_between_two_steps_is_free() {
    let app = TestApp::start().await;
    let line = "POST /v1/analyze?features=objects,labels";
    let job = app.ask(line, &[FORM, key("k"), LATER], &image(b"half")).await.job();
    while app.read(&format!("/v1/jobs/{job}/steps")).await["data"][0]["status"] != "succeeded" {}
    act(&app, &job, "cancel").await;
    let ended = app.end_of(&job).await;
    assert_eq!(steps(&ended), [step("succeeded", 1), step("canceled", 1)]);
    assert_eq!((&ended["status"], &ended["usage"]["units"]), (&json!("canceled"), &json!(0)));
    app.assert_charged(0).await;
}

#[tokio::test]
async fn what_has_ended_is_not_canceled() {
    let app = TestApp::start().await;
    for (bytes, status) in [(&b"cat"[..], "succeeded"), (b"dark", "failed")] {
        let job = app.analyze(bytes, &[]).await.job();
        let answer = act(&app, &job, "cancel").await;
        assert_eq!((answer.status, answer.code()), (422, "job_not_cancelable"));
        assert_eq!(answer.json()["params"]["status"], status);
    }
}

#[tokio::test]
async fn other_actions_do_not_exist() {
    let app = TestApp::start().await;
    let job = app.analyze(b"cat", &[]).await.job();
    for action in [":explode", ":", "", ":cancel:retry"] {
        let answer = app.ask(&format!("POST /v1/jobs/{job}{action}"), &[], b"").await;
        assert_eq!((answer.status, answer.code()), (404, "route_not_found"), "{action}");
    }
    assert_eq!(app.ask("POST /v1/jobs/x:cancel", &[], b"").await.code(), "job_not_found");
}
