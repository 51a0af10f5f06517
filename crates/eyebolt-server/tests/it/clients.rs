//! How clients behave, and what becomes of those that run away.

use eyebolt_server::{
    access::AccessSettings,
    clients::{RunawayMode, RunawaySettings},
};
use eyebolt_types::Mode;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{ANALYZE, Setup, TestApp},
    database::on_both,
    wire::{Answer, FORM, bearer, image, key, request},
};

const TOKEN: &str = "an admin token of some length";

/// Ten of everything a minute.
fn strict(setup: Setup) -> Setup {
    let access = AccessSettings { admin_token: TOKEN.into(), ..setup.access };
    let runaway = RunawaySettings {
        repeats_per_minute: 10,
        replays_per_minute: 10,
        early_per_minute: 10,
        final_errors_per_minute: 10,
        ..RunawaySettings::default()
    };
    Setup { access, runaway, ..setup }
}

async fn clients(app: &TestApp, query: &str) -> Answer {
    let token = format!("Bearer {TOKEN}");
    app.ask(&format!("GET /admin/v1/clients{query}"), &[("Authorization", &token)], b"").await
}

async fn first_client(app: &TestApp) -> Value {
    clients(app, "").await.json()["data"][0].clone()
}

fn pause(app: &TestApp) {
    app.clock.advance(SignedDuration::from_millis(10));
}

/// Sends an image with these headers until it is refused for running away; how often that was.
async fn hammer(app: &TestApp, bytes: &[u8], name: impl Fn(usize) -> Option<String>) -> (usize, Answer) {
    for n in 0..30 {
        pause(app);
        let name = name(n);
        let named: Vec<_> = name.iter().map(|name| key(name)).collect();
        let answer = app.analyze(bytes, &named).await;
        if answer.status == 429 {
            return (n, answer);
        }
    }
    panic!("it was never refused");
}

on_both! {
    async fn a_loop_over_one_key_waits_longer_and_longer_and_is_told_of(setup: Setup) {
        let app = TestApp::set_up(strict(setup)).await;
        let (sent, refused) = hammer(&app, b"cat", |_| Some("k".to_owned())).await;
        // The first one is answered, the second begins the count.
        assert_eq!((sent, refused.code()), (13, "abnormal_usage"));
        let problem = refused.json();
        assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#abnormal-usage-detected");
        assert_eq!(problem["violated-policies"], json!(["replays_per_minute"]));
        let params = json!({
            "limit_name": "replays_per_minute", "limit": 10, "found": 11, "scope": "client", "cause": "replayed",
            "strikes": 1
        });
        assert_eq!(problem["params"], params);
        assert_eq!((refused.header("retry-after"), &problem["retryable"]), (Some("1"), &json!(true)));
        assert_eq!(app.analyze(b"cat", &[key("another")]).await.status, 200, "only what loops has to wait");
        assert_eq!(app.read("/v1/limits").await["object"], "limits");

        let mut waits = Vec::new();
        for _ in 0..3 {
            app.clock.advance(SignedDuration::from_secs(waits.last().copied().unwrap_or(1)));
            assert_eq!(app.analyze(b"cat", &[key("k")]).await.status, 200, "it waited as it was told");
            pause(&app);
            let refused = app.analyze(b"cat", &[key("k")]).await;
            waits.push(refused.header("retry-after").unwrap().parse::<i64>().unwrap());
        }
        assert_eq!(waits, [2, 4, 8]);
        let told = first_client(&app).await;
        assert_eq!((&told["strikes"], &told["runaways"][0]["ended_at"]), (&json!(4), &Value::Null));
        insta::assert_json_snapshot!("runs_away", crate::wire::redact_ids(&told));

        app.clock.advance(SignedDuration::from_secs(70));
        let told = first_client(&app).await;
        assert_eq!((&told["strikes"], told["runaways"][0]["ended_at"].is_string()), (&json!(0), true));
        assert_eq!(app.analyze(b"cat", &[key("k")]).await.status, 200, "nothing is held against it");
    }

    async fn what_was_counted_outlives_the_server(setup: Setup) {
        let schema = setup.schema.clone();
        let app = TestApp::set_up(strict(setup)).await;
        hammer(&app, b"cat", |_| Some("k".to_owned())).await;
        app.analyze(b"dark", &[key("d")]).await;
        let again = schema.as_ref().map_or_else(Setup::default, Setup::on);
        let app = app.stop_and_restart(strict(again)).await;
        app.analyze(b"dog", &[key("dog")]).await;
        let told = first_client(&app).await;
        let counts = ["requests", "submissions", "retries", "refusals", "client_errors", "server_errors"];
        assert_eq!(counts.map(|name| told[name].as_u64().unwrap()), [16, 16, 12, 1, 1, 0]);
        assert_eq!(told["runaways"].as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test]
async fn who_runs_away_is_refused_before_its_body_is_read() {
    let app = TestApp::set_up(strict(Setup::default())).await;
    hammer(&app, b"cat", |_| Some("k".to_owned())).await;
    let mut wire = app.open().await;
    let whole = request(ANALYZE, &[FORM, key("k")], &image(b"cat"));
    let headers = whole.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    wire.send(&whole[..headers]).await;
    let refused = wire.answer().await;
    assert_eq!(
        (refused.status, refused.code(), refused.header("connection")),
        (429, "abnormal_usage", Some("close"))
    );
}

#[tokio::test]
async fn the_same_image_under_new_keys_and_errors_that_no_retry_mends_are_loops_too() {
    for (bytes, cause) in [(&b"cat"[..], "repeated"), (b"empty", "final_error"), (b"dark", "final_error")] {
        for keyed in [true, false] {
            let app = TestApp::set_up(strict(Setup::default())).await;
            let (sent, refused) = hammer(&app, bytes, |n| keyed.then(|| format!("k{n}"))).await;
            let told = refused.json()["params"]["cause"].clone();
            assert_eq!((sent, told), (12, json!(cause)), "{}", String::from_utf8_lossy(bytes));
            // Any other request of the loop could be the next one of it.
            assert_eq!(app.analyze(b"dog", &[key("other")]).await.status, 429);
            let (_, other) = app.keys.create_project("other", Mode::Live).await.unwrap();
            let (name, value) = bearer(other.secret.reveal());
            assert_eq!(
                app.analyze(b"dog", &[key("other"), (name, &value)]).await.status,
                200,
                "another client"
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_can_not_be_read_counts_by_its_key_alone() {
    let app = TestApp::set_up(strict(Setup::default())).await;
    let bad = "POST /v1/analyze?features=hats";
    let mut codes = Vec::new();
    for _ in 0..14 {
        pause(&app);
        codes.push(app.ask(bad, &[FORM, key("k")], &image(b"cat")).await.status);
    }
    assert_eq!((codes.iter().filter(|code| **code == 400).count(), codes[12]), (12, 429));
    for n in 0..30 {
        pause(&app);
        let name = format!("k{n}");
        assert_eq!(
            app.ask(bad, &[FORM, key(&name)], &image(b"cat")).await.status,
            400,
            "these may be other images"
        );
        assert_eq!(app.ask(bad, &[FORM], &image(b"cat")).await.status, 400);
    }
}

#[tokio::test]
async fn batches_polls_and_a_few_retries_are_never_refused() {
    let app = TestApp::set_up(strict(Setup::default())).await;
    for n in 0..60 {
        let (name, bytes) = (format!("k{n}"), format!("cat {n}"));
        for _ in 0..3 {
            pause(&app);
            assert_eq!(app.analyze(bytes.as_bytes(), &[key(&name)]).await.status, 200);
        }
        app.read("/v1/jobs").await;
    }
    let told = first_client(&app).await;
    let counts = ["requests", "submissions", "retries", "refusals", "strikes"]
        .map(|name| told[name].as_u64().unwrap());
    assert_eq!(counts, [240, 180, 120, 0, 0]);
    assert_eq!((&told["runaways"], &told["ratios"]["retry"]), (&json!([]), &json!(0.667)));
}

#[tokio::test]
async fn where_it_only_observes_nothing_is_refused_and_where_it_is_off_nothing_is_told() {
    for (mode, runaways) in [(RunawayMode::Observe, 1), (RunawayMode::Off, 0)] {
        let mut setup = strict(Setup::default());
        setup.runaway.mode = mode;
        let app = TestApp::set_up(setup).await;
        for _ in 0..20 {
            pause(&app);
            assert_eq!(app.analyze(b"cat", &[key("k")]).await.status, 200);
        }
        let told = first_client(&app).await;
        assert_eq!(told["runaways"].as_array().map(Vec::len), Some(runaways), "{mode:?}");
        assert_eq!((&told["requests"], &told["retries"]), (&json!(20), &json!(19)));
    }
}

#[tokio::test]
async fn clients_are_listed_by_project_and_time() {
    let app = TestApp::set_up(strict(Setup::default())).await;
    let (other, secret) = app.keys.create_project("other", Mode::Live).await.unwrap();
    let (name, value) = bearer(secret.secret.reveal());
    app.analyze(b"cat", &[]).await;
    app.clock.advance(SignedDuration::from_hours(2));
    app.analyze(b"empty", &[(name, &value)]).await;
    let projects = async |query: &str| {
        let told = clients(&app, query).await.json();
        let projects = told["data"].as_array().unwrap().iter().map(|one| one["project"].clone());
        projects.collect::<Vec<_>>()
    };
    let (mine, theirs) = (json!(app.project.to_string()), json!(other.id.to_string()));
    assert_eq!(projects("").await, [theirs.clone(), mine.clone()], "who sent in vain stands first");
    assert_eq!(projects("?limit=1").await, std::slice::from_ref(&theirs));
    assert_eq!(projects(&format!("?project={}", app.project)).await, [mine]);
    assert_eq!(projects("?since=2026-01-02T05:00:00Z").await, [theirs]);
    for wrong in ["?limit=0", "?limit=201", "?since=yesterday", "?project=acme", "?page=2"] {
        let refused = clients(&app, wrong).await;
        let code = if wrong.starts_with("?page") { "unknown_parameter" } else { "invalid_parameter" };
        assert_eq!((refused.status, refused.code()), (400, code), "{wrong}");
    }
    assert_eq!(app.ask("GET /admin/v1/clients", &[], b"").await.status, 401);
}
