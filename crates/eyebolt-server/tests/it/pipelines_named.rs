//! Pipelines that have a name, what is wrong with one, what it would cost, and doing a step once more.

use std::time::Duration;

use eyebolt_server::quotas::QuotaSettings;
use eyebolt_types::{ErrorCode, Limits, Policy};
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    pipelines::{LINE, body, parts, run, signs},
    wire::{FORM, JSON, form, key},
};

on_both! {
    async fn a_step_that_succeeded_is_done_again_in_a_job_of_its_own(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let mut pipeline = signs(&json!({}));
        pipeline["steps"].as_array_mut().unwrap().push(json!({"id": "last", "feature": "labels", "needs": ["read"]}));
        let first = run(&app, b"three", (&pipeline, "k")).await;
        app.sitter.ordered();
        app.assert_charged(5).await;
        let again = async |step: &str, body: Value, name: &str| {
            let line = format!("POST /v1/jobs/{}/steps/{step}:retry", first.job());
            let key = [JSON, key(name)];
            let headers = if name.is_empty() { &key[..1] } else { &key[..] };
            app.ask(&line, headers, body.to_string().as_bytes()).await
        };
        let told = again("read", json!({"reprocess": true, "validate_only": true}), "").await;
        assert_eq!((told.status, &told.json()["units"]), (200, &json!(41)), "{}", told.json());
        assert_eq!(again("read", json!({}), "").await.code(), "job_not_retryable");
        assert_eq!(again("read", json!({"reprocess": true}), "").await.code(), "idempotency_key_missing");
        assert_eq!(again("read", json!({"reprocess": true}), "k").await.code(), "idempotency_key_reused");
        assert!(app.sitter.ordered().is_empty());
        let second = again("read", json!({"reprocess": true}), "l").await;
        assert_eq!(second.status, 200, "{}", second.json());
        let job = second.json();
        assert_eq!(app.sitter.ordered(), ["read/0", "read/1", "read/2", "last"]);
        assert_ne!(job["id"], first.json()["id"]);
        assert_eq!(job["results"]["find"]["result"], first.json()["results"]["find"]["result"]);
        assert_eq!(job["results"]["read"]["items"][0]["key"], first.json()["results"]["read"]["items"][0]["key"]);
        assert_eq!((&job["usage"]["units"], &job["dedup"]["status"]), (&json!(4), &json!("bypassed")));
        app.assert_charged(9).await;
        assert!(again("read", json!({"reprocess": true}), "l").await.body == second.body);
        // The last one alone: what has parts is taken over with them.
        let third = again("last", json!({"reprocess": true}), "m").await.json();
        assert_eq!((app.sitter.ordered(), parts(&third, "read")), (vec!["last".to_owned()], vec!["succeeded"; 3]));
        assert_eq!(third["usage"]["units"], 1);
        app.assert_charged(10).await;
        assert!(app.read(&format!("/v1/jobs/{}", first.job())).await == first.json(), "the first one is as it was");
        let task = format!("POST /v1/jobs/{}/steps/read/tasks/0:retry", first.job());
        assert_eq!(app.ask(&task, &[], b"").await.code(), "job_not_retryable");
    }

    async fn a_named_pipeline_has_versions_and_a_default(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let write = async |pipeline: &Value| {
            let body = json!({"name": "my-signs", "pipeline": pipeline}).to_string();
            app.ask("POST /v1/pipelines", &[JSON], body.as_bytes()).await
        };
        let (one, two) = (signs(&json!({})), signs(&json!({"on_error": "skip"})));
        let first = write(&one).await;
        assert_eq!((first.status, &first.json()["version"]), (201, &json!(1)));
        let again = write(&one).await;
        assert_eq!((again.status, again.json()), (200, first.json()), "a second click makes no version");
        assert_eq!(write(&two).await.json()["version"], 2);
        let name = |version: &Value| json!(format!("my-signs@{version}"));
        let asked = run(&app, b"a", (&json!("my-signs"), "1")).await.json();
        assert_eq!(asked["pipeline"]["name"], name(&json!(2)));
        let change = |version: Value| json!({ "default_version": version }).to_string();
        let chosen = app.ask("PATCH /v1/pipelines/my-signs", &[JSON], change(json!(1)).as_bytes()).await;
        assert_eq!((chosen.status, &chosen.json()["version"]), (200, &json!(1)));
        let asked = run(&app, b"a", (&json!("my-signs"), "2")).await.json();
        assert_eq!((&asked["pipeline"]["name"], &asked["pipeline"]["digest"]), (&name(&json!(1)), &first.json()["digest"]));
        assert_eq!(run(&app, b"a", (&json!("my-signs@2"), "3")).await.json()["pipeline"]["name"], name(&json!(2)));
        let list = app.read("/v1/pipelines").await;
        let listed: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| (&one["name"], &one["version"])).collect();
        assert_eq!(listed.len(), 5, "{listed:?}");
        for (line, body, code) in [
            ("PATCH /v1/pipelines/my-signs", change(json!(9)), "pipeline_not_found"),
            ("PATCH /v1/pipelines/document", change(json!(1)), "pipeline_reserved"),
            ("POST /v1/pipelines", json!({"name": "document", "pipeline": one}).to_string(), "pipeline_reserved"),
            ("POST /v1/pipelines", json!({"name": "Ü", "pipeline": one}).to_string(), "invalid_parameter"),
            ("POST /v1/pipelines", json!({"name": "x", "pipeline": {"steps": []}}).to_string(), "invalid_pipeline"),
            ("GET /v1/pipelines/other", String::new(), "pipeline_not_found"),
            ("GET /v1/pipelines/my-signs@x", String::new(), "pipeline_not_found"),
        ] {
            assert_eq!(app.ask(line, &[JSON], body.as_bytes()).await.code(), code, "{line} {body}");
        }
        let unknown = run(&app, b"a", (&json!("other"), "4")).await;
        assert_eq!((unknown.status, unknown.code()), (404, "pipeline_not_found"));
        assert_eq!(run(&app, b"a", (&json!("my-signs"), "4")).await.status, 200, "a refusal leaves its key free");
    }
}

#[tokio::test]
async fn pipelines_are_listed_in_pages() {
    let app = TestApp::start().await;
    for (name, max_items) in [("b", 1), ("b", 2), ("b", 3), ("a", 4), ("c", 5)] {
        let pipeline = signs(&json!({"for_each": {"step": "find", "max_items": max_items}}));
        let body = json!({"name": name, "pipeline": pipeline}).to_string();
        assert_eq!(app.ask("POST /v1/pipelines", &[JSON], body.as_bytes()).await.status, 201);
    }
    let page = async |query: &str| {
        let page = app.read(&format!("/v1/pipelines?{query}")).await;
        let name = |one: &Value| format!("{}@{}", one["name"].as_str().unwrap(), one["version"]);
        let names: Vec<_> = page["data"].as_array().unwrap().iter().map(name).collect();
        assert_eq!(page["has_more"], json!(!page["next_cursor"].is_null()));
        (names, page["next_cursor"].as_str().map(str::to_owned))
    };
    let all = ["read-signs@1", "faces-with-quality@1", "document@1", "a@1", "b@3", "b@2", "b@1", "c@1"];
    assert_eq!(page("").await.0, all);
    for limit in [1, 2, 3, 4, 7, 8] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let (names, next) = page(&format!("limit={limit}{cursor}")).await;
            assert!(names.len() <= limit);
            seen.extend(names);
            let Some(next) = next else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
    let (first, next) = page("name=b&limit=2").await;
    assert_eq!((first, next.as_deref()), (vec!["b@3".to_owned(), "b@2".to_owned()], Some("b@2")));
    assert_eq!(page("name=b&limit=2&cursor=b@2").await, (vec!["b@1".to_owned()], None));
    assert_eq!(page("name=document").await.0, ["document@1"]);
    assert_eq!(page("name=nobody").await.0, Vec::<String>::new());
    for wrong in ["limit=0", "limit=101", "cursor=b", "cursor=b@x", "colour=red"] {
        let refused = app.ask(&format!("GET /v1/pipelines?{wrong}"), &[], b"").await;
        let code = if wrong.starts_with("colour") { "unknown_parameter" } else { "invalid_parameter" };
        assert_eq!((refused.status, refused.code()), (400, code), "{wrong}");
    }
}

#[tokio::test]
async fn the_models_of_a_pipeline_are_frozen() {
    let app = TestApp::start().await;
    app.sitter.breaks("find", ErrorCode::ModelFailed);
    let failed = run(&app, b"three", (&signs(&json!({})), "k")).await.job();
    let app = app.crash_and_restart(Setup { snapshot: "cats@2", ..Setup::default() }).await;
    assert_eq!(app.ask(&format!("POST /v1/jobs/{failed}:retry"), &[], b"").await.status, 202);
    let ended = app.end_of(&failed).await;
    assert_eq!(
        (&ended["steps"][0]["model"], &ended["results"]["read"]["items"][0]["model"]),
        (&json!("cats@1"), &json!("cats@1"))
    );
}

#[tokio::test]
async fn every_mistake_of_a_pipeline_is_told_at_once() {
    let app = TestApp::start().await;
    let wrong = json!({"steps": [
        {"id": "a", "feature": "labels", "needs": ["b"]},
        {"id": "b", "feature": "text", "needs": ["a"], "params": {"max_results": 0, "what": 1}},
        {"id": "c", "feature": "text", "for_each": {"step": "a", "max_items": 500}},
        {"id": "c", "model": "dogs", "on_error": "fallback"},
        {"id": "e", "feature": "objects", "crop": {}, "fallback": {"feature": "faces"}},
        {"id": "f", "feature": "text", "for_each": {"step": "nobody", "labels": ["x"]}}
    ]});
    let mut table = Vec::new();
    for (name, address, body) in [
        (
            "in a request",
            LINE,
            form(&[
                ("name=\"image\"", b"x"),
                ("name=\"request\"", json!({"pipeline": wrong}).to_string().as_bytes()),
            ]),
        ),
        (
            "alone",
            "POST /v1/pipelines",
            json!({"pipeline": wrong, "validate_only": true}).to_string().into_bytes(),
        ),
    ] {
        let kind = if name == "alone" { JSON } else { FORM };
        let refused = app.ask(address, &[kind, key("k")], &body).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_pipeline"), "{name}");
        table.push(refused.json()["errors"].clone());
    }
    assert_eq!(table[0], table[1]);
    insta::assert_json_snapshot!(table[0]);
    for (request, pointer) in [
        (json!({"pipeline": signs(&json!({})), "features": ["text"]}), "/features"),
        (json!({"pipeline": signs(&json!({})), "parameters": {"text": {"max_results": 3}}}), "/parameters"),
        (json!({"pipeline": signs(&json!({})), "degrade": "allow"}), "/degrade"),
        (json!({"pipeline": {"steps": [{"id": "a", "feature": "smell"}]}}), "/pipeline/steps/0/feature"),
        (json!({"pipeline": {"steps": [{"id": "a", "colour": 1}]}}), "/pipeline/steps/0/colour"),
        (json!({"pipeline": 7}), "/pipeline"),
    ] {
        let body = form(&[("name=\"image\"", b"x"), ("name=\"request\"", request.to_string().as_bytes())]);
        let refused = app.ask(LINE, &[FORM, key("k")], &body).await;
        assert_eq!(
            (refused.status, &refused.json()["errors"][0]["pointer"]),
            (400, &json!(pointer)),
            "{request}"
        );
    }
    assert!(app.sitter.ordered().is_empty());
}

#[tokio::test]
async fn everything_that_cannot_be_read_of_a_pipeline_is_told_at_once() {
    let app = TestApp::start().await;
    let wrong = json!({"pipeline": {"steps": [
        {"id": "a", "feature": "smell", "colour": 1},
        {"feature": "text", "max_attempts": -1},
        7,
        {"id": "d", "feature": "text", "needs": [1, "a"], "for_each": {"min_size": "small"}},
        {"id": "e", "on_error": "shrug"}
    ]}, "validate_only": true});
    let body = form(&[("name=\"image\"", b"x"), ("name=\"request\"", wrong.to_string().as_bytes())]);
    let in_a_request = app.ask(LINE, &[FORM, key("k")], &body).await.json()["errors"].clone();
    let alone =
        app.ask("POST /v1/pipelines", &[JSON], wrong.to_string().as_bytes()).await.json()["errors"].clone();
    assert_eq!(in_a_request, alone);
    insta::assert_json_snapshot!(alone);
}

#[tokio::test]
async fn what_it_would_cost_is_told_and_nothing_is_done() {
    let app = TestApp::start().await;
    let asked = json!({"pipeline": signs(&json!({})), "validate_only": true}).to_string();
    let told = app
        .ask(
            LINE,
            &[FORM, key("k")],
            &form(&[("name=\"image\"", b"x"), ("name=\"request\"", asked.as_bytes())]),
        )
        .await;
    let told = (told.status, told.json());
    assert_eq!((told.0, &told.1["units"], &told.1["object"]), (200, &json!(41), &json!("prediction")));
    assert!(told.1["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(
        told.1["steps"][1],
        json!({"name": "read", "feature": "text", "model": "cats@1", "units": 40})
    );
    let plain = app
        .ask(
            "POST /v1/analyze?features=objects,text&validate_only=true",
            &[FORM],
            &form(&[("name=\"image\"", b"x")]),
        )
        .await;
    assert_eq!(plain.json()["units"], 2);
    let alone = json!({"pipeline": signs(&json!({})), "validate_only": true}).to_string();
    let alone = app.ask("POST /v1/pipelines", &[JSON], alone.as_bytes()).await;
    assert_eq!((alone.status, &alone.json()["units"]), (200, &json!(41)));
    assert_eq!(app.read("/v1/pipelines").await["data"].as_array().unwrap().len(), 3);
    // The key is as new.
    assert_eq!(run(&app, b"x", (&signs(&json!({})), "k")).await.status, 200);
    app.assert_charged(4).await;
}

#[tokio::test]
async fn a_limit_of_the_month_holds_what_a_pipeline_may_cost() {
    let month = Limits([(Policy::UnitsPerMonth, 100)].into());
    let quotas = QuotaSettings { plans: [("standard".to_owned(), month)].into(), ..QuotaSettings::default() };
    let app = TestApp::set_up(Setup { quotas, ..Setup::default() }).await;
    for (name, status) in [("1", 200), ("2", 200), ("3", 200)] {
        // 41 are held while it runs, and 4 are charged.
        assert_eq!(run(&app, b"three", (&signs(&json!({})), name)).await.status, status, "{name}");
    }
    app.sitter.holds("find");
    let later = ("Prefer", "respond-async");
    let held = app.ask(LINE, &[FORM, key("4"), later], &body(b"three", &signs(&json!({})))).await;
    assert_eq!(held.status, 202);
    let held = app.ask(LINE, &[FORM, key("5"), later], &body(b"three", &signs(&json!({})))).await;
    assert_eq!(held.status, 202);
    let over = app.ask(LINE, &[FORM, key("6"), later], &body(b"three", &signs(&json!({})))).await;
    assert_eq!(over.code(), "quota_exhausted", "12 are charged and 82 held");
    app.sitter.lets_go();
    tokio::time::timeout(Duration::from_secs(30), app.end_of(&held.job())).await.unwrap();
}
