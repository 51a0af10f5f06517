//! A pipeline whose worker dies, or whose step fails, at every place in turn: what was written is never done again.

use std::collections::BTreeMap;

use eyebolt_server::access::AccessSettings;
use eyebolt_types::ErrorCode;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    pipelines::{LINE, body, parts, run, signs},
    sitter::Sitter,
    wire::{FORM, key},
};

const LATER: (&str, &str) = ("Prefer", "respond-async");

/// A pipeline of three levels: things, something on each of them, and then two steps on the whole image.
fn deep() -> Value {
    let mut pipeline = signs(&json!({}));
    let steps = pipeline["steps"].as_array_mut().unwrap();
    steps.push(json!({"id": "codes", "feature": "barcodes", "needs": ["read"]}));
    steps.push(json!({"id": "look", "feature": "quality", "for_each": {"step": "find", "max_items": 5}}));
    pipeline
}

/// Every order of it, for an image with three things.
const PLACES: [&str; 8] = ["find", "read/0", "read/1", "read/2", "codes", "look/0", "look/1", "look/2"];

/// What is written as done, by the names of orders.
fn done(job: &Value) -> Vec<String> {
    let mut done = Vec::new();
    for (step, found) in job["results"].as_object().unwrap() {
        match found["items"].as_array() {
            Some(items) => {
                let items = items.iter().filter(|item| item["status"] == "succeeded");
                done.extend(items.map(|item| format!("{step}/{}", item["index"])));
            }
            None if found["status"] == "succeeded" && found.get("result").is_some() => {
                done.push(step.clone());
            }
            None => {}
        }
    }
    done
}

fn counted(ordered: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for place in ordered {
        *counts.entry(place.as_str()).or_default() += 1;
    }
    counts
}

/// That each place was ordered, and none that was written before `ordered` began.
fn assert_once(before: &[String], ordered: &[String]) {
    let counts = counted(ordered);
    for place in PLACES {
        let written = before.iter().any(|known| known == place);
        assert_eq!(
            counts.get(place).copied().unwrap_or(0),
            usize::from(!written),
            "{place} after {before:?}"
        );
    }
}

on_both! {
    // Matrix row 44, at every place.
    async fn a_worker_that_dies_anywhere_leaves_what_was_written(setup: Setup) {
        let (schema, access) = (setup.schema.clone(), setup.access.clone());
        let sitter = Sitter::default();
        let mut app = TestApp::set_up(Setup { sitter: sitter.clone(), ..setup }).await;
        for (round, place) in PLACES.iter().enumerate() {
            sitter.holds(place);
            let name = format!("k{round}");
            let line = [FORM, key(&name), LATER];
            let job = app.ask(LINE, &line, &body(format!("many 3 {round}").as_bytes(), &deep())).await.job();
            sitter.until_ordered(place).await;
            let setup = Setup { access: access.clone(), schema: schema.clone(), sitter: sitter.clone(), ..Setup::default() };
            // Nobody goes on yet: whoever takes it up waits at the same place.
            let before = sitter.ordered();
            assert_eq!(before.last().map(String::as_str), Some(*place));
            app = app.crash_and_restart(setup).await;
            sitter.until_ordered(place).await;
            let written = done(&app.read(&format!("/v1/jobs/{job}")).await);
            // What ended before, but for one part whose end may have been on its way.
            assert!(written.len() + 2 >= before.len(), "{before:?}, and written {written:?}");
            sitter.lets_go();
            let ended = app.end_of(&job).await;
            assert_eq!((&ended["status"], parts(&ended, "read").len()), (&json!("succeeded"), 3), "{place}");
            let after = sitter.ordered();
            let first = counted(&before);
            for place in PLACES {
                let times = first.get(place).copied().unwrap_or(0) + counted(&after).get(place).copied().unwrap_or(0);
                // The one that was held, and at most one part whose end was not written yet.
                assert!((1..=2).contains(&times), "{place}: {times}");
            }
            let not_again: Vec<_> = written.iter().filter(|done| before.contains(done) && after.contains(done)).collect();
            assert!(not_again.iter().all(|again| !before[..before.len().saturating_sub(2)].contains(again)), "{not_again:?}");
            assert_eq!(ended["usage"]["units"], 8);
            app.assert_charged(8 * (round as i64 + 1)).await;
        }
    }

    async fn a_step_that_fails_anywhere_is_all_that_is_run_again(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let mut charged = 0;
        for (round, place) in PLACES.iter().enumerate() {
            app.sitter.breaks(place, ErrorCode::ModelFailed);
            let name = format!("k{round}");
            let bytes = format!("many 3 {round}");
            let failed = run(&app, bytes.as_bytes(), (&deep(), &name)).await;
            assert_eq!((failed.status, failed.code()), (500, "model_failed"), "{place}");
            let first = app.sitter.ordered();
            assert!(counted(&first).values().all(|times| *times == 1));
            let address = format!("/v1/jobs/{}", failed.job());
            let written = done(&app.read(&address).await);
            charged += written.len() as i64;
            app.assert_charged(charged).await;
            app.sitter.mend();
            let again = app.ask(&format!("POST {address}:retry"), &[], b"").await;
            assert_eq!(again.status, 202, "{place}");
            let ended = app.end_of(&failed.job()).await;
            assert_eq!((&ended["status"], done(&ended).len()), (&json!("succeeded"), 8), "{place}");
            assert_once(&written, &app.sitter.ordered());
            charged += 8 - written.len() as i64;
            app.assert_charged(charged).await;
        }
    }

    async fn a_server_that_is_stopped_in_a_fan_out_hands_over_the_rest(setup: Setup) {
        let (schema, access) = (setup.schema.clone(), setup.access.clone());
        let sitter = Sitter::default();
        let app = TestApp::set_up(Setup { sitter: sitter.clone(), ..setup }).await;
        sitter.holds("read/1");
        let job = app.ask(LINE, &[FORM, key("k"), LATER], &body(b"many 3", &deep())).await.job();
        sitter.until_ordered("read/1").await;
        let address = format!("/v1/jobs/{job}/steps/read/tasks/0");
        while app.read(&address).await["status"] != "succeeded" {}
        sitter.ordered();
        let app = app.crash_and_restart(Setup { access, schema, sitter: sitter.clone(), ..Setup::default() }).await;
        sitter.lets_go();
        assert_eq!(app.end_of(&job).await["status"], "succeeded");
        assert_once(&["find".to_owned(), "read/0".to_owned()], &sitter.ordered());
        app.assert_charged(8).await;
    }
}

#[tokio::test]
async fn how_long_work_takes_is_learned_by_whoever_did_it() {
    const TOKEN: &str = "an admin token of some length";
    let sitter = Sitter::default();
    let setup = || {
        let access = AccessSettings { admin_token: TOKEN.into(), ..AccessSettings::default() };
        Setup { access, sitter: sitter.clone(), ..Setup::default() }
    };
    let learned = async |app: &TestApp| {
        let token = format!("Bearer {TOKEN}");
        let report = app.ask("GET /admin/v1/capacity", &[("Authorization", &token)], b"").await.json();
        report["costs"].as_array().unwrap().iter().map(|cost| cost["feature"].clone()).collect::<Vec<_>>()
    };
    let app = TestApp::set_up(setup()).await;
    sitter.holds("read/0");
    let pipeline = signs(&json!({}));
    let job = app.ask(LINE, &[FORM, key("k"), LATER], &body(b"three", &pipeline)).await.job();
    sitter.until_ordered("read/0").await;
    sitter.ordered();
    let app = app.crash_and_restart(setup()).await;
    sitter.lets_go();
    assert_eq!(app.end_of(&job).await["status"], "succeeded");
    assert_eq!(sitter.ordered(), ["read/0", "read/1", "read/2"]);
    assert_eq!(learned(&app).await, [Value::Null], "of the first step nothing: it was done before");
    assert_eq!(run(&app, b"three", (&pipeline, "l")).await.status, 200);
    assert_eq!(learned(&app).await, [Value::Null, json!("objects")]);
}
