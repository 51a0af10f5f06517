//! Jobs from outside: started, read, listed, and how they end by themselves.

use std::time::Duration;

use eyebolt_server::{HttpSettings, access::KeyOrder, jobs::JobSettings};
use eyebolt_store::StepOutcome;
use eyebolt_types::{Mode, Scope};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    wire::{FORM, bearer, image, key, request},
};

const LATER: (&str, &str) = ("Prefer", "respond-async");
const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn setup(change: impl FnOnce(&mut JobSettings)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.rules.jobs);
    setup
}

/// The ids of a page, and its cursor.
async fn page(app: &TestApp, query: &str) -> (Vec<String>, Value) {
    let page = app.read(&format!("/v1/jobs?{query}")).await;
    let ids = page["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned());
    assert_eq!(page["has_more"], json!(!page["next_cursor"].is_null()));
    (ids.collect(), page["next_cursor"].clone())
}

#[tokio::test]
async fn who_does_not_wait_gets_the_address_of_the_job() {
    let mut app = TestApp::start().await;
    let accepted = app.analyze(b"wait", &[key("k"), LATER]).await;
    assert_eq!(accepted.status, 202);
    let told = ["retry-after", "preference-applied", "cache-control"].map(|name| accepted.header(name));
    assert_eq!(told, [Some("1"), Some("respond-async"), Some("no-store")]);
    assert_eq!(json!(accepted.job()), accepted.json()["id"]);
    assert_eq!(app.running.recv().await, Some(true));
    app.release();
    assert_eq!(app.end_of(&accepted.job()).await["status"], "succeeded");
    let waited = app.analyze(b"cat", &[key("w"), ("Prefer", "respond-async, wait=5")]).await;
    assert_eq!((waited.status, waited.header("preference-applied")), (200, Some("wait=5")));
}

#[tokio::test]
async fn a_reader_waits_for_the_end_or_as_long_as_may_be() {
    let mut app = TestApp::set_up(setup(|jobs| jobs.max_wait = Duration::from_millis(10))).await;
    let job = app.analyze(b"wait", &[key("k"), LATER]).await.job();
    assert_eq!(app.running.recv().await, Some(true));
    let still = app.ask(&format!("GET /v1/jobs/{job}?wait=999"), &[], b"").await;
    assert_eq!((still.status, still.header("retry-after")), (200, Some("1")));
    assert_eq!(still.json()["status"], "processing");
    for wrong in ["wait=soon", "wait=-1", "weight=1"] {
        assert_eq!(app.ask(&format!("GET /v1/jobs/{job}?{wrong}"), &[], b"").await.status, 400, "{wrong}");
    }

    let mut app = app.crash_and_restart(Setup::default()).await;
    assert_eq!(app.running.recv().await, Some(true));
    let mut reader = app.open().await;
    reader.send(&request(&format!("GET /v1/jobs/{job}?wait=50"), &[], b"")).await;
    app.read("/healthz").await;
    app.release();
    let ended = reader.answer().await;
    assert_eq!(ended.json()["status"], "succeeded");
    let again = app.ask(&format!("GET /v1/jobs/{job}"), &[], b"").await;
    assert!(again.body == ended.body && again.header("retry-after").is_none());
}

on_both! {
    async fn jobs_are_listed_newest_first_in_pages(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let mut made = Vec::new();
        for bytes in [&b"1"[..], b"2", b"dark", b"3", b"4"] {
            made.insert(0, app.analyze(bytes, &[]).await.job());
            app.clock.advance(SECOND);
        }
        let (first, cursor) = page(&app, "limit=2").await;
        let newer = app.analyze(b"5", &[]).await.job();
        let (second, cursor) = page(&app, &format!("limit=2&cursor={}", cursor.as_str().unwrap())).await;
        let (third, end) = page(&app, &format!("limit=2&cursor={}", cursor.as_str().unwrap())).await;
        assert_eq!(([first, second, third].concat(), end), (made.clone(), Value::Null));
        assert_eq!(page(&app, "").await.0, [vec![newer], made.clone()].concat());
        assert_eq!(page(&app, "status=failed").await.0, made[2..3]);
        let times = "created_from=2026-01-02T03:04:06Z&created_before=2026-01-02T03:04:08Z";
        assert_eq!(page(&app, times).await.0, made[2..4], "from is in, before is not");
        assert_eq!(page(&app, &format!("{times}&status=succeeded")).await.0, made[3..4]);
        assert_eq!(page(&app, "status=expired").await, (Vec::new(), Value::Null));
    }

    async fn attempts_are_made_until_they_are_used_up(mut setup: Setup) {
        setup.rules.jobs.max_attempts = 3;
        let mut app = TestApp::set_up(setup).await;
        let mut wire = app.begin(b"fail", &[key("k")]).await;
        for _ in 0..3 {
            assert_eq!((app.running.recv().await, app.running.recv().await), (Some(true), Some(false)));
            app.clock.advance(SECOND * 5);
        }
        let failed = wire.answer().await;
        assert_eq!((failed.status, failed.code()), (500, "model_failed"));
        let job = app.read(&format!("/v1/jobs/{}", failed.job())).await;
        assert_eq!((&job["status"], &job["steps"][0]["attempt"]), (&json!("failed"), &json!(3)));
        assert_eq!(job["error"]["code"], "model_failed");
        assert_eq!(app.runs(), 0);
        app.assert_charged(0).await;
    }
}

#[tokio::test]
async fn a_list_reads_nothing_of_what_was_found() {
    let mut app = TestApp::start().await;
    let job = app.analyze(b"wait", &[key("k"), LATER]).await.job();
    assert_eq!(app.running.recv().await, Some(true));
    // Whoever reads this one fails.
    let (result, now) = (Ok(b"no JSON".to_vec()), app.clock.now());
    let (started_at, finished_at) = (now, now);
    let outcome =
        StepOutcome { position: 0, attempt: 1, model: None, result, last: true, started_at, finished_at };
    app.store.finish_step((job.parse().unwrap(), 1), outcome).await.unwrap().unwrap();
    assert_eq!(app.ask(&format!("GET /v1/jobs/{job}"), &[], b"").await.code(), "internal");
    let listed = app.read("/v1/jobs").await["data"][0].clone();
    assert_eq!((&listed["id"], &listed["usage"]["units"]), (&json!(job), &json!(1)));
    app.release();
}

#[tokio::test]
async fn what_no_list_has_is_refused() {
    let app = TestApp::start().await;
    for wrong in
        ["limit=0", "limit=101", "limit=x", "cursor=x", "status=dead", "created_from=today", "colour=red"]
    {
        let answer = app.ask(&format!("GET /v1/jobs?{wrong}"), &[], b"").await;
        assert_eq!((answer.status, answer.header("x-should-retry")), (400, Some("false")), "{wrong}");
        let name = wrong.split('=').next().unwrap();
        let place = answer.json()["errors"][0]["pointer"].clone();
        assert_eq!(place, name, "{wrong}");
    }
    assert_eq!(page(&app, "limit=100").await.0, Vec::<String>::new());
}

#[tokio::test]
async fn jobs_of_others_do_not_exist() {
    let app = TestApp::start().await;
    let job = app.analyze(b"cat", &[key("k")]).await.job();
    let (_, other) = app.keys.create_project("other", Mode::Live).await.unwrap();
    let test = app.keys.create(app.project, KeyOrder::new(Mode::Test, "test")).await.unwrap();
    for secret in [other.secret, test.secret] {
        let (name, value) = bearer(secret.reveal());
        let asked =
            ["GET /v1/jobs/ID", "GET /v1/jobs/ID/steps", "POST /v1/jobs/ID:cancel", "POST /v1/jobs/ID:retry"];
        for line in asked {
            let answer = app.ask(&line.replace("ID", &job), &[(name, &value)], b"").await;
            assert_eq!((answer.status, answer.code()), (404, "job_not_found"), "{line}");
        }
        let list = app.ask("GET /v1/jobs", &[(name, &value)], b"").await;
        assert_eq!(list.json()["data"], json!([]));
    }
    for id in ["job_00000000000000000000000000000000", "job_x", "%FF"] {
        assert_eq!(app.ask(&format!("GET /v1/jobs/{id}"), &[], b"").await.code(), "job_not_found", "{id}");
    }
}

#[tokio::test]
async fn each_scope_opens_its_own_doors() {
    let app = TestApp::start().await;
    let job = app.analyze(b"cat", &[key("k")]).await.job();
    let gets = ["", "/ID", "/ID/steps"].map(|rest| format!("GET /v1/jobs{rest}"));
    let gets = [&gets[..], &["GET /v1/usage", "GET /v1/idempotency-keys/k"].map(str::to_owned)].concat();
    let posts = ["POST /v1/analyze?features=objects", "POST /v1/jobs/ID:cancel", "POST /v1/jobs/ID:retry"];
    for scope in [Scope::Read, Scope::Analyze] {
        let order = KeyOrder { scopes: vec![scope], ..KeyOrder::new(Mode::Live, "one") };
        let (name, value) = bearer(app.keys.create(app.project, order).await.unwrap().secret.reveal());
        for line in gets.iter().map(String::as_str).chain(posts) {
            let answer = app.ask(&line.replace("ID", &job), &[FORM, (name, &value)], &image(b"cat")).await;
            let opens = line.starts_with("GET") == (scope == Scope::Read);
            assert_eq!(answer.status != 403, opens, "{scope:?} {line}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn steps_show_what_was_found_so_far() {
    let app = TestApp::start().await;
    let line = "POST /v1/analyze?features=objects,labels";
    let job = app.ask(line, &[FORM, key("k"), LATER], &image(b"half")).await.job();
    let steps = loop {
        let steps = app.read(&format!("/v1/jobs/{job}/steps")).await["data"].clone();
        if steps[0]["status"] == "succeeded" {
            break steps;
        }
    };
    assert_eq!(steps[0]["results"]["objects"]["items"][0]["label"], "cat");
    assert_eq!((&steps[1]["feature"], &steps[1]["results"]), (&json!("labels"), &Value::Null));
    assert_eq!(steps[1]["finished_at"], Value::Null);
    app.release();
    let ended = app.end_of(&job).await;
    assert_eq!(app.read(&format!("/v1/jobs/{job}/steps")).await["data"][0]["id"], ended["steps"][0]["id"]);
    app.assert_charged(2).await;
}

#[tokio::test]
async fn a_job_that_runs_past_its_deadline_expires() {
    let mut app = TestApp::set_up(setup(|jobs| jobs.deadline = Duration::from_millis(20))).await;
    let expired = app.analyze(b"wait", &[key("k")]).await;
    assert_eq!((expired.status, expired.code()), (410, "job_expired"));
    assert_eq!((app.running.recv().await, app.running.recv().await), (Some(true), Some(false)));
    let again = app.analyze(b"wait", &[key("k")]).await;
    assert!(again.body == expired.body && again.header("idempotent-replayed") == Some("true"));
    app.assert_charged(0).await;
}

#[tokio::test]
async fn a_job_that_waits_past_its_deadline_is_never_begun() {
    let mut app = TestApp::set_up(setup(|jobs| jobs.slots = 1)).await;
    let first = app.analyze(b"wait", &[key("1"), LATER]).await.job();
    assert_eq!(app.running.recv().await, Some(true));
    let second = app.analyze(b"cat", &[key("2"), LATER]).await.job();
    app.clock.advance(SECOND * 15 * 60);
    app.release();
    let expired = app.end_of(&second).await;
    assert_eq!((&expired["status"], &expired["steps"][0]["status"]), (&json!("expired"), &json!("canceled")));
    assert_eq!(app.end_of(&first).await["status"], "succeeded");
    assert_eq!(app.runs(), 0);
    app.assert_charged(1).await;
}

#[tokio::test]
async fn a_stopped_server_gives_back_its_jobs_and_the_next_one_does_them() {
    let http = HttpSettings { drain_timeout: Duration::from_millis(10), ..HttpSettings::default() };
    let mut app = TestApp::set_up(Setup { http, ..setup(|jobs| jobs.slots = 1) }).await;
    let runs = app.analyze(b"wait", &[key("1"), LATER]).await.job();
    assert_eq!(app.running.recv().await, Some(true));
    let waits = app.analyze(b"cat", &[key("2"), LATER]).await.job();
    let mut app = app.stop_and_restart(Setup::default()).await;
    assert_eq!(app.end_of(&waits).await["status"], "succeeded");
    while app.read(&format!("/v1/jobs/{runs}")).await["status"] == "pending" {}
    app.release();
    let ended = app.end_of(&runs).await;
    assert_eq!((&ended["status"], &ended["steps"][0]["attempt"]), (&json!("succeeded"), &json!(1)));
    assert_eq!(app.runs(), 2);
    app.assert_charged(2).await;
}
