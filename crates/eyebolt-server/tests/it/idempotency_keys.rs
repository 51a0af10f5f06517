//! What can be a key, how long it lives, and what it tells.

use eyebolt_server::jobs::IdempotencySettings;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{ANALYZE, Setup, TestApp},
    database::on_both,
    wire::{FORM, image, key},
};

const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);
const INSTANT: SignedDuration = SignedDuration::from_millis(1);

async fn state(app: &TestApp) -> Value {
    app.read("/v1/idempotency-keys/k").await
}

on_both! {
    // Matrix row 27.
    async fn an_answer_is_kept_for_the_retention_and_its_key_known_for_a_month_more(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let first = app.analyze(b"cat", &[key("k")]).await;
        app.clock.advance(WEEK - INSTANT);
        let last = app.analyze(b"cat", &[key("k")]).await;
        assert!(last.status == 200 && last.body == first.body, "the last instant");
        app.clock.advance(INSTANT);
        let mut late = app.analyze(b"cat", &[key("k")]).await;
        assert_eq!((late.status, late.code()), (410, "idempotency_key_expired"));
        assert_eq!(late.json()["params"]["expired_at"], json!(app.clock.now().to_string()));
        assert_eq!(state(&app).await["state"], "expired");
        assert_eq!(app.read(&format!("/v1/jobs/{}", first.job())).await, first.json(), "the job stays");
        app.clock.advance(MONTH - INSTANT);
        late = app.analyze(b"dog", &[key("k")]).await;
        assert_eq!(late.code(), "idempotency_key_expired", "whatever is asked");
        assert_eq!(app.runs(), 1);
        app.clock.advance(INSTANT);
        let anew = app.analyze(b"dog", &[key("k")]).await;
        assert_eq!((anew.status, anew.header("idempotent-replayed"), app.runs()), (200, None, 1));
        app.assert_charged(2).await;
    }

    // Matrix row 28.
    async fn a_sweep_while_a_retry_reads_leaves_a_replay_or_an_end(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let keys: Vec<_> = (0..20).map(|number| format!("k{number}")).collect();
        for name in &keys {
            assert_eq!(app.analyze(b"cat", &[key(name)]).await.status, 200);
        }
        app.clock.advance(WEEK - INSTANT);
        // A sweeper whose clock is ahead.
        let (store, ahead) = (app.store.clone(), app.clock.now() + INSTANT);
        let sweeping = tokio::spawn(async move { while store.sweep_records(1, ahead).await.unwrap() > 0 {} });
        for name in keys.iter().chain(&keys) {
            let answer = app.analyze(b"cat", &[key(name)]).await;
            let told = (answer.status, answer.code());
            assert!([(200, ""), (410, "idempotency_key_expired")].contains(&told), "{name}: {told:?}");
        }
        sweeping.await.unwrap();
        for name in &keys {
            assert_eq!(app.analyze(b"cat", &[key(name)]).await.code(), "idempotency_key_expired");
        }
        assert_eq!(app.runs(), 20);
    }
}

#[tokio::test]
async fn a_key_tells_what_it_stands_for() {
    let mut app = TestApp::start().await;
    let unused = json!({
        "object": "idempotency_key", "state": "unused", "job": null, "job_status": null, "batch": null, "batch_status": null,
        "created_at": null, "expires_at": null
    });
    assert_eq!(state(&app).await, unused);
    let mut wire = app.begin(b"wait", &[key("k")]).await;
    assert_eq!(app.running.recv().await, Some(true));
    let running = state(&app).await;
    assert_eq!((&running["state"], &running["job_status"]), (&json!("running"), &json!("processing")));
    assert_eq!(running["expires_at"], Value::Null);
    app.release();
    let job = wire.answer().await.job();
    let answered = state(&app).await;
    assert_eq!((&answered["state"], &answered["job"]), (&json!("answered"), &json!(job)));
    assert_eq!(answered["expires_at"], json!((app.clock.now() + WEEK).to_string()));
    assert_eq!(running["job"], answered["job"]);
    app.clock.advance(WEEK);
    let expired = state(&app).await;
    assert_eq!((&expired["state"], &expired["job"]), (&json!("expired"), &Value::Null));
    assert_eq!(expired["expires_at"], answered["expires_at"]);
}

#[tokio::test]
async fn a_key_with_every_kind_of_character_is_found_by_its_encoded_name() {
    let app = TestApp::start().await;
    let job = app.analyze(b"cat", &[key("order/17?a=%20#x:y")]).await.job();
    let found = app.read("/v1/idempotency-keys/order%2F17%3Fa=%2520%23x:y").await;
    assert_eq!(found["job"], json!(job));
    for unsound in ["a%20b".to_owned(), "%C3%BC".to_owned(), "%FF".to_owned(), "k".repeat(256)] {
        let answer = app.ask(&format!("GET /v1/idempotency-keys/{unsound}"), &[], b"").await;
        assert_eq!((answer.status, answer.code()), (400, "idempotency_key_invalid"), "{unsound}");
    }
}

// Matrix row 37.
#[tokio::test]
async fn work_without_a_key_is_refused_where_keys_are_required() {
    let mut setup = Setup::default();
    setup.rules.idempotency = IdempotencySettings::default();
    let mut app = TestApp::set_up(setup).await;
    let refused = app.analyze(b"cat", &[]).await;
    assert_eq!((refused.status, refused.code()), (400, "idempotency_key_missing"));
    let page = refused.json()["type"].as_str().unwrap().to_owned();
    assert!(page.ends_with("/docs/errors/idempotency_key_missing"), "{page}");
    assert!(app.seen.try_recv().is_err(), "nothing was looked at");
    assert_eq!(app.analyze(b"cat", &[key("k")]).await.status, 200);
}

// Matrix row 38.
#[tokio::test]
async fn what_is_no_key_is_refused_before_anything_is_done() {
    let mut app = TestApp::start().await;
    let (long, megabyte) = ("k".repeat(256), "k".repeat(1 << 20));
    for (value, status) in [
        ("", 400),
        ("\"\"", 400),
        ("a b", 400),
        ("a\tb", 400),
        ("a\u{1}b", 400),
        ("a\u{7f}b", 400),
        ("schlüssel", 400),
        ("\"open", 400),
        (&long, 400),
        (&megabyte, 431),
    ] {
        let shown: String = value.chars().take(20).collect();
        let answer = app.analyze(b"cat", &[key(value)]).await;
        assert_eq!(answer.status, status, "{shown:?}");
        // What is no header at all is refused below the routes.
        let code =
            if value.contains(['\u{1}', '\u{7f}']) || status == 431 { "" } else { "idempotency_key_invalid" };
        assert_eq!(answer.code(), code, "{shown:?}");
    }
    let twice = app.ask(ANALYZE, &[FORM, key("a"), key("a")], &image(b"cat")).await;
    assert_eq!((twice.status, twice.code()), (400, "idempotency_key_invalid"));
    assert!(app.seen.try_recv().is_err(), "nothing was looked at");
    assert_eq!(app.analyze(b"cat", &[key(&"k".repeat(255))]).await.status, 200);
}

#[tokio::test]
async fn a_refusal_before_there_is_a_job_leaves_the_key_free() {
    let app = TestApp::start().await;
    for (line, bytes) in [(ANALYZE, &b"empty"[..]), ("POST /v1/analyze?features=smells", b"cat")] {
        let refused = app.ask(line, &[FORM, key("k")], &image(bytes)).await;
        assert!(refused.status >= 400 && refused.header("location").is_none());
        assert_eq!(state(&app).await["state"], "unused");
    }
    assert_eq!(app.analyze(b"cat", &[key("k")]).await.status, 200);
}
