//! Jobs with a pipeline, and pipelines that have a name.

use eyebolt_types::ErrorCode;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    wire::{Answer, FORM, form, key, request},
};

pub(crate) const LINE: &str = "POST /v1/analyze";

/// Things, and something on each of them.
pub(crate) fn signs(more: &Value) -> Value {
    let mut read = json!({"id": "read", "feature": "text", "for_each": {"step": "find", "max_items": 40}});
    read.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"steps": [{"id": "find", "feature": "objects"}, read]})
}

/// The body of a request with a pipeline.
pub(crate) fn body(bytes: &[u8], pipeline: &Value) -> Vec<u8> {
    form(&[
        ("name=\"image\"", bytes),
        ("name=\"request\"", json!({ "pipeline": pipeline }).to_string().as_bytes()),
    ])
}

pub(crate) async fn run(app: &TestApp, bytes: &[u8], (pipeline, name): (&Value, &str)) -> Answer {
    app.ask(LINE, &[FORM, key(name)], &body(bytes, pipeline)).await
}

async fn post(app: &TestApp, address: &str) -> Answer {
    app.ask(&format!("POST {address}"), &[], b"").await
}

/// The status of each part of a step.
pub(crate) fn parts<'a>(job: &'a Value, step: &str) -> Vec<&'a str> {
    let items = job["results"][step]["items"].as_array().expect("a list");
    items.iter().map(|item| item["status"].as_str().expect("a status")).collect()
}

on_both! {
    async fn a_step_is_done_on_each_thing_of_another_and_the_image_decoded_once(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let answer = run(&app, b"three", (&signs(&json!({})), "k")).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let job = answer.json();
        assert_eq!(app.sitter.ordered(), ["find", "read/0", "read/1", "read/2"]);
        assert_eq!((app.sitter.decoded(), &job["usage"]["units"]), (1, &json!(4)));
        assert_eq!(job["results"]["find"]["result"]["objects"]["items"].as_array().unwrap().len(), 3);
        let item = &job["results"]["read"]["items"][1];
        assert_eq!(item["region"]["box"], json!({"x": 30.0, "y": 0.0, "width": 25.0, "height": 25.0}));
        assert_eq!(item["result"]["labels"]["items"][0]["label"], "read/1");
        assert_eq!(job["steps"][1]["tasks"], json!({"total": 3, "succeeded": 3, "failed": 0, "skipped": 0}));
        let keys: Vec<_> = job["results"]["read"]["items"].as_array().unwrap().iter().map(|item| &item["key"]).collect();
        assert!(keys[0] != keys[1] && keys[0].as_str().unwrap().len() == 64);
        app.assert_charged(4).await;
        // The same again is the same answer; in another project's eyes it is the same work of another job.
        let replay = run(&app, b"three", (&signs(&json!({})), "k")).await;
        assert!(replay.body == answer.body && replay.header("idempotent-replayed") == Some("true"));
        let other = run(&app, b"three", (&signs(&json!({})), "other")).await.json();
        assert_eq!(&other["results"]["read"]["items"][0]["key"], keys[0], "the same work is known by the same key");
        assert_eq!(app.sitter.ordered().len(), 4);
        app.assert_charged(8).await;
    }

    // Matrix row 43.
    async fn one_of_forty_parts_fails_and_a_retry_runs_it_alone(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        app.sitter.breaks("read/7", ErrorCode::ModelFailed);
        let failed = run(&app, b"many 40 signs", (&signs(&json!({})), "k")).await;
        assert_eq!((failed.status, failed.code()), (500, "model_failed"));
        assert_eq!((failed.json()["step"].clone(), app.sitter.ordered().len()), (json!("read"), 41));
        let address = format!("/v1/jobs/{}", failed.job());
        let job = app.read(&address).await;
        let kept = parts(&job, "read");
        assert_eq!((kept.iter().filter(|one| **one == "succeeded").count(), kept[7]), (39, "failed"));
        assert_eq!(job["usage"]["units"], 40);
        app.assert_charged(40).await;

        app.sitter.mend();
        assert_eq!(post(&app, &format!("{address}:retry")).await.status, 202);
        let ended = app.end_of(&failed.job()).await;
        assert_eq!((&ended["status"], app.sitter.ordered()), (&json!("succeeded"), vec!["read/7".to_owned()]));
        assert_eq!((ended["results"]["read"]["items"][7]["attempt"].clone(), parts(&ended, "read").len()), (json!(2), 40));
        app.assert_charged(41).await;
    }

    async fn a_list_tells_what_steps_and_parts_cost(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        app.sitter.breaks("read/1", ErrorCode::ModelFailed);
        run(&app, b"three", (&signs(&json!({})), "failed")).await;
        app.sitter.mend();
        run(&app, b"three", (&signs(&json!({})), "whole")).await;
        run(&app, b"many 0", (&signs(&json!({})), "bare")).await;
        app.sitter.ordered();
        app.sitter.holds("read/2");
        let later = ("Prefer", "respond-async");
        let runs = app.ask(LINE, &[FORM, key("runs"), later], &body(b"three", &signs(&json!({})))).await.job();
        app.sitter.until_ordered("read/2").await;
        let task = format!("/v1/jobs/{runs}/steps/read/tasks/1");
        while app.read(&task).await["status"] != "succeeded" {}
        let costs = async |status: &str| {
            let list = app.read(&format!("/v1/jobs{status}")).await;
            let costs = list["data"].as_array().unwrap().iter().map(|job| job["usage"]["units"].as_u64().unwrap());
            costs.collect::<Vec<_>>()
        };
        assert_eq!(costs("").await, [3, 1, 4, 3], "a step, and the parts that succeeded");
        post(&app, &format!("/v1/jobs/{runs}:cancel")).await;
        app.end_of(&runs).await;
        assert_eq!(costs("?status=canceled").await, [0], "nobody got an answer");
        let features = app.read("/v1/jobs").await["data"][0]["features"].clone();
        assert_eq!(features, json!(["objects", "text"]));
        app.sitter.lets_go();
    }

    async fn what_succeeded_stays_so_whatever_becomes_of_the_wish_to_do_more(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        app.sitter.breaks("read/1", ErrorCode::ModelFailed);
        let first = run(&app, b"three", (&signs(&json!({"on_error": "skip"})), "k")).await;
        assert_eq!((first.status, parts(&first.json(), "read")[1]), (200, "skipped"));
        app.assert_charged(3).await;
        app.sitter.mend();
        app.sitter.ordered();
        app.sitter.holds("read/1");
        let address = format!("/v1/jobs/{}", first.job());
        assert_eq!(post(&app, &format!("{address}/steps/read/tasks/1:retry")).await.status, 202);
        app.sitter.until_ordered("read/1").await;
        assert_eq!(post(&app, &format!("{address}:cancel")).await.status, 202);
        let ended = app.end_of(&first.job()).await;
        assert_eq!((&ended["status"], parts(&ended, "read")[1]), (&json!("succeeded"), "skipped"));
        assert_eq!(run(&app, b"three", (&signs(&json!({"on_error": "skip"})), "k")).await.status, 200);
        app.assert_charged(3).await;
        app.sitter.lets_go();
    }

    async fn what_is_not_run_again_with_the_rest_is_not_told_to_be(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        for place in ["read/0", "read/2"] {
            app.sitter.breaks(place, ErrorCode::ModelFailed);
        }
        let failed = run(&app, b"three", (&signs(&json!({})), "k")).await.job();
        app.sitter.mend();
        app.sitter.ordered();
        app.sitter.holds("read/0");
        let retry = |task: u32| format!("/v1/jobs/{failed}/steps/read/tasks/{task}:retry");
        assert_eq!(post(&app, &retry(0)).await.status, 202);
        app.sitter.until_ordered("read/0").await;
        assert_eq!(post(&app, &retry(0)).await.status, 202, "that is what runs");
        let beside = post(&app, &retry(2)).await;
        assert_eq!((beside.status, beside.code(), beside.header("retry-after")), (409, "job_running", Some("1")));
        app.sitter.lets_go();
        assert_eq!(app.end_of(&failed).await["status"], "failed");
        assert_eq!(post(&app, &retry(2)).await.status, 202);
        assert_eq!(app.end_of(&failed).await["status"], "succeeded");
        assert_eq!(app.sitter.ordered(), ["read/0", "read/2"]);
        app.assert_charged(4).await;
    }

    // Matrix row 45.
    async fn two_retries_of_a_part_make_one_attempt(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        app.sitter.breaks("read/1", ErrorCode::ModelFailed);
        let failed = run(&app, b"three", (&signs(&json!({})), "k")).await.job();
        app.sitter.mend();
        app.sitter.ordered();
        let line = format!("POST /v1/jobs/{failed}/steps/read/tasks/1:retry");
        let mut wires = Vec::new();
        for _ in 0..10 {
            let mut wire = app.open().await;
            wire.send(&request(&line, &[], b"")).await;
            wires.push(wire);
        }
        for wire in &mut wires {
            let answer = wire.answer().await;
            assert!(answer.status == 202 || answer.code() == "job_not_retryable", "{}", answer.status);
        }
        assert_eq!(app.end_of(&failed).await["status"], "succeeded");
        assert_eq!(app.sitter.ordered(), ["read/1"]);
        app.assert_charged(4).await;
    }

    async fn what_may_be_missing_is_and_can_be_done_later(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        app.sitter.breaks("read/0", ErrorCode::ModelFailed);
        app.sitter.breaks("read/2", ErrorCode::ModelFailed);
        let answer = run(&app, b"three", (&signs(&json!({"on_error": "skip"})), "k")).await;
        let job = answer.json();
        assert_eq!((answer.status, parts(&job, "read")), (200, vec!["skipped", "succeeded", "skipped"]));
        assert_eq!(job["warnings"][0]["code"], "parts_skipped");
        assert!(job["retryable_until"].is_string() && job["usage"]["units"] == 2);
        app.assert_charged(2).await;

        app.sitter.mend();
        app.sitter.ordered();
        let address = format!("/v1/jobs/{}", answer.job());
        assert_eq!(post(&app, &format!("{address}/steps/read/tasks/2:retry")).await.status, 202);
        let ended = app.end_of(&answer.job()).await;
        assert_eq!(parts(&ended, "read"), ["skipped", "succeeded", "succeeded"]);
        assert_eq!(app.sitter.ordered(), ["read/2"]);
        app.assert_charged(3).await;
        assert_eq!(post(&app, &format!("{address}/steps/read:retry")).await.status, 202);
        let ended = app.end_of(&answer.job()).await;
        assert_eq!((parts(&ended, "read"), &ended["warnings"]), (vec!["succeeded"; 3], &json!([])));
        assert_eq!((app.sitter.ordered(), &ended["retryable_until"]), (vec!["read/0".to_owned()], &Value::Null));
        app.assert_charged(4).await;
        let again = post(&app, &format!("{address}:retry")).await;
        assert_eq!((again.status, again.code()), (422, "job_not_retryable"));
        // The key tells what the job has become.
        let replay = run(&app, b"three", (&signs(&json!({"on_error": "skip"})), "k")).await;
        assert_eq!(replay.json(), ended);
    }

    async fn attempts_are_made_again_and_a_fallback_is_tried(setup: Setup) {
        let mut setup = setup;
        setup.rules.jobs.max_attempts = 3;
        let app = TestApp::set_up(setup).await;
        let pipeline = signs(&json!({
            "on_error": "fallback", "max_attempts": 2, "fallback": {"feature": "barcodes", "params": {"max_results": 1}}
        }));
        app.sitter.breaks("read/1", ErrorCode::ModelFailed);
        let later = ("Prefer", "respond-async");
        let job = app.ask(LINE, &[FORM, key("k"), later], &body(b"three", &pipeline)).await.job();
        app.sitter.until_ordered("read/2").await;
        while app.read(&format!("/v1/jobs/{job}")).await["status"] == "processing" {}
        // The time stands still: the second attempt is made once it has come.
        app.clock.advance(jiff::SignedDuration::from_secs(5));
        let ended = app.end_of(&job).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        let again = app.sitter.ordered();
        assert_eq!(again, ["find", "read/0", "read/1", "read/2", "read/1", "read/1!"]);
        let item = &ended["results"]["read"]["items"][1];
        assert_eq!((&item["attempt"], &item["result"]["labels"]["items"][0]["label"]), (&json!(2), &json!("read/1!")));
        app.assert_charged(4).await;
    }
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_fails_and_the_rest_goes_on() {
    let app = TestApp::start().await;
    app.sitter.holds("read/0");
    let pipeline = signs(&json!({"on_error": "skip", "timeout": 0.02}));
    let job = run(&app, b"three", (&pipeline, "k")).await.json();
    assert_eq!(parts(&job, "read"), ["skipped", "succeeded", "succeeded"]);
    assert_eq!(job["results"]["read"]["items"][0]["error"]["code"], "step_timeout");
}

#[tokio::test]
async fn a_thread_that_can_not_be_stopped_has_its_worker_until_it_ends() {
    let mut setup = Setup::default();
    setup.rules.jobs.slots = 1;
    let app = TestApp::set_up(setup).await;
    app.sitter.clings_to("find");
    let later = ("Prefer", "respond-async");
    let ask = async |name: &str| {
        app.ask(LINE, &[FORM, key(name), later], &body(b"three", &signs(&json!({})))).await.job()
    };
    let first = ask("1").await;
    app.sitter.until_ordered("find").await;
    post(&app, &format!("/v1/jobs/{first}:cancel")).await;
    assert_eq!(app.end_of(&first).await["status"], "canceled");
    app.sitter.ordered();
    let second = ask("2").await;
    for _ in 0..50 {
        assert_eq!(app.read(&format!("/v1/jobs/{second}")).await["status"], "pending", "no worker is free");
    }
    assert!(app.sitter.ordered().is_empty());
    app.sitter.lets_go();
    assert_eq!(app.end_of(&second).await["status"], "succeeded");
}

#[tokio::test]
async fn what_is_found_so_far_can_be_read_while_the_job_runs() {
    let app = TestApp::start().await;
    app.sitter.holds("read/2");
    let later = ("Prefer", "respond-async");
    let accepted = app.ask(LINE, &[FORM, key("k"), later], &body(b"three", &signs(&json!({})))).await;
    let address = format!("/v1/jobs/{}", accepted.job());
    app.sitter.until_ordered("read/2").await;
    let task = |number: u32| format!("{address}/steps/read/tasks/{number}");
    while app.read(&task(1)).await["status"] != "succeeded" {}
    let job = app.read(&address).await;
    assert_eq!(
        (parts(&job, "read"), &job["status"]),
        (vec!["succeeded", "succeeded", "pending"], &json!("processing"))
    );
    assert_eq!(
        app.read(&format!("{address}/steps/find")).await["results"]["objects"]["items"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(app.read(&task(0)).await["result"]["labels"]["items"][0]["label"], "read/0");
    let steps = app.read(&format!("{address}/steps")).await;
    assert_eq!(steps["data"][1]["items"].as_array().unwrap().len(), 3);
    for (line, code) in [
        (format!("GET {}", task(3)), "step_not_found"),
        (format!("GET {address}/steps/nothing"), "step_not_found"),
        (format!("POST {address}/steps/nothing:retry"), "step_not_found"),
        (format!("POST {}:retry", task(9)), "step_not_found"),
        (format!("POST {}:explode", task(0)), "route_not_found"),
        (format!("POST {address}/steps/read"), "route_not_found"),
        ("GET /v1/jobs/x/steps/read".to_owned(), "job_not_found"),
    ] {
        assert_eq!(app.ask(&line, &[], b"").await.code(), code, "{line}");
    }
    app.sitter.lets_go();
    assert_eq!(app.end_of(&accepted.job()).await["status"], "succeeded");
}

#[tokio::test]
async fn a_job_canceled_between_two_parts_is_free() {
    let app = TestApp::start().await;
    app.sitter.holds("read/1");
    let later = ("Prefer", "respond-async");
    let job = app.ask(LINE, &[FORM, key("k"), later], &body(b"three", &signs(&json!({})))).await.job();
    app.sitter.until_ordered("read/1").await;
    post(&app, &format!("/v1/jobs/{job}:cancel")).await;
    let ended = app.end_of(&job).await;
    assert_eq!(
        (parts(&ended, "read"), &ended["usage"]["units"]),
        (vec!["succeeded", "canceled", "canceled"], &json!(0))
    );
    app.assert_charged(0).await;
}

#[tokio::test]
async fn what_needs_a_step_that_failed_is_not_done_and_what_does_not_is() {
    let app = TestApp::start().await;
    let step = |id: &str, needs: Value, on_error: &str| json!({"id": id, "feature": "labels", "needs": needs, "on_error": on_error});
    let pipeline = json!({"steps": [
        step("a", json!([]), "skip"), step("b", json!(["a"]), "fail"), step("c", json!([]), "fail"),
        step("d", json!(["c"]), "fail"), step("e", json!(["c", "b"]), "fail")
    ]});
    app.sitter.breaks("a", ErrorCode::ModelFailed);
    let job = run(&app, b"x", (&pipeline, "1")).await.json();
    let statuses = |job: &Value| -> Vec<String> {
        job["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["status"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(statuses(&job), ["skipped", "skipped", "succeeded", "succeeded", "skipped"]);
    assert_eq!(job["warnings"].as_array().unwrap().len(), 3);
    app.sitter.breaks("c", ErrorCode::ModelFailed);
    let failed = run(&app, b"x", (&pipeline, "2")).await;
    assert_eq!((failed.status, failed.json()["step"].clone()), (500, json!("c")));
    let job = app.read(&format!("/v1/jobs/{}", failed.job())).await;
    assert_eq!(statuses(&job), ["skipped", "skipped", "failed", "canceled", "skipped"]);
    app.sitter.mend();
    app.sitter.ordered();
    assert_eq!(post(&app, &format!("/v1/jobs/{}/steps/c:retry", failed.job())).await.status, 202);
    let ended = app.end_of(&failed.job()).await;
    assert_eq!(statuses(&ended), ["skipped", "skipped", "succeeded", "succeeded", "skipped"]);
    assert_eq!(app.sitter.ordered(), ["c", "d"]);
    app.assert_charged(4).await;
}

#[tokio::test]
async fn nothing_found_is_nothing_to_do_and_costs_nothing() {
    let app = TestApp::start().await;
    let job = run(&app, b"many 0 signs", (&signs(&json!({})), "k")).await.json();
    assert_eq!(
        (parts(&job, "read").len(), &job["status"], &job["usage"]["units"]),
        (0, &json!("succeeded"), &json!(1))
    );
    app.assert_charged(1).await;
    let more = run(&app, b"many 50 signs", (&signs(&json!({})), "l")).await.json();
    assert_eq!((parts(&more, "read").len(), &more["warnings"][0]["code"]), (40, &json!("parts_left_out")));
    assert_eq!(app.sitter.ordered().len(), 42);
}

#[tokio::test]
async fn an_image_that_is_refused_fails_the_job_and_an_engine_that_panics_does_for_now() {
    let app = TestApp::start().await;
    let refused = run(&app, b"dark", (&signs(&json!({})), "1")).await;
    assert_eq!((refused.status, refused.code()), (422, "too_dark"));
    app.sitter.poisons("read/1");
    let failed = run(&app, b"three", (&signs(&json!({})), "2")).await;
    assert_eq!((failed.status, failed.code()), (500, "internal"));
    app.sitter.mend();
    app.sitter.ordered();
    assert_eq!(
        run(&app, b"three", (&signs(&json!({})), "2")).await.status,
        200,
        "the same key runs what is left"
    );
    assert_eq!(app.end_of(&failed.job()).await["status"], "succeeded");
    assert_eq!(app.sitter.ordered(), ["read/1", "read/2"]);
    app.assert_charged(4).await;
}

#[tokio::test]
async fn a_pipeline_of_very_many_steps_is_refused_by_their_number_alone() {
    let app = TestApp::start().await;
    let steps: Vec<_> =
        (0..1000).map(|number| json!({"id": format!("s{number}"), "feature": "text"})).collect();
    let answer = run(&app, b"three", (&json!({"steps": steps}), "k")).await;
    let errors = answer.json()["errors"].clone();
    assert_eq!((answer.status, errors.as_array().map(Vec::len)), (400, Some(1)), "{errors}");
    assert_eq!(errors[0]["detail"], "has 1000 steps, outside 1 to 16");
}
