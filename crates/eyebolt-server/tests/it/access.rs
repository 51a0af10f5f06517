//! Who is let in.

use eyebolt_server::{
    HttpSettings,
    access::{AccessSettings, KeyOrder},
};
use eyebolt_store::ApiSecret;
use eyebolt_types::{Mode, Scope};
use insta::assert_json_snapshot;
use jiff::SignedDuration;
use serde_json::{Map, json};

use crate::{
    app::{KEY, TestApp},
    wire::{Answer, FORM, NO_KEY, bearer, form},
};

const LINE: &str = "POST /v1/analyze?features=objects";
const SECOND: SignedDuration = SignedDuration::from_secs(1);

async fn ask(app: &TestApp, authorization: (&str, &str)) -> Answer {
    app.ask(LINE, &[FORM, authorization], &form(&[("name=\"image\"", b"cat")])).await
}

async fn shown(app: &TestApp, secret: &ApiSecret) -> Answer {
    let (name, value) = bearer(secret.reveal());
    ask(app, (name, &value)).await
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let mut app = TestApp::start().await;
    let keys = &app.keys;
    let order = |name| KeyOrder::new(Mode::Live, name);
    let short = keys.create(app.project, KeyOrder { lasts: Some(SECOND), ..order("short") }).await.unwrap();
    let revoked = keys.create(app.project, order("revoked")).await.unwrap();
    keys.revoke(revoked.key.id).await.unwrap();
    let reader = KeyOrder { scopes: vec![Scope::Read], ..order("reader") };
    let reader = keys.create(app.project, reader).await.unwrap();
    app.clock.advance(SECOND);

    let mut mistyped = KEY.reveal().to_owned();
    mistyped.replace_range(9..10, if mistyped.as_bytes()[9] == b'a' { "b" } else { "a" });
    let mut answers = Map::new();
    for (name, (header, value)) in [
        ("no key", (NO_KEY.0, NO_KEY.1.to_owned())),
        ("another scheme", ("Authorization", "Basic YTpi".to_owned())),
        ("a mistyped key", bearer(&mistyped)),
        ("an unknown key", bearer(ApiSecret::generate(Mode::Live).reveal())),
        ("an expired key", bearer(short.secret.reveal())),
        ("a revoked key", bearer(revoked.secret.reveal())),
        ("another scope", bearer(reader.secret.reveal())),
    ] {
        let answer = ask(&app, (header, &value)).await.whole();
        let secret = value.rsplit('_').next().filter(|text| text.len() > 30);
        assert!(
            !secret.is_some_and(|secret| answer.to_string().contains(secret)),
            "{name}: the key is echoed"
        );
        answers.insert(name.to_owned(), answer);
    }
    assert_json_snapshot!(answers);
    assert!(app.running.try_recv().is_err(), "nobody reached the engine");
}

#[tokio::test]
async fn what_needs_no_key_is_open() {
    let app = TestApp::start().await;
    for line in [
        "GET /healthz",
        "GET /readyz",
        "GET /openapi.json",
        "GET /v1/models",
        "GET /v1/models/cats",
        "GET /v1/errors",
        "GET /v1/errors/too_dark",
        "GET /docs/errors/too_dark",
    ] {
        assert_eq!(app.ask(line, &[NO_KEY], b"").await.status, 200, "{line}");
    }
}

#[tokio::test]
async fn a_test_key_makes_jobs_of_mode_test() {
    let app = TestApp::start().await;
    for mode in [Mode::Live, Mode::Test] {
        let issued = app.keys.create(app.project, KeyOrder::new(mode, "phone")).await.unwrap();
        let answer = shown(&app, &issued.secret).await;
        assert_eq!((answer.status, answer.json()["mode"].clone()), (200, json!(mode.name())));
    }
}

/// A key that was right is believed for a second, not longer.
#[tokio::test]
async fn a_revoked_key_ends_within_a_second() {
    let app = TestApp::start().await;
    assert_eq!(shown(&app, &KEY).await.status, 200);
    app.keys.revoke(app.key).await.unwrap();
    app.clock.advance(SignedDuration::from_millis(999));
    assert_eq!(shown(&app, &KEY).await.status, 200);
    app.clock.advance(SignedDuration::from_millis(1));
    assert_eq!(shown(&app, &KEY).await.code(), "revoked_api_key");
}

#[tokio::test]
async fn a_rotated_key_works_until_the_overlap_is_over() {
    let app = TestApp::start().await;
    let new = app.keys.rotate(app.key, SECOND * 60).await.unwrap();
    assert_eq!((new.key.name.as_str(), new.key.mode), ("test", Mode::Live));
    for secret in [&*KEY, &new.secret] {
        assert_eq!(shown(&app, secret).await.status, 200);
    }
    app.clock.advance(SECOND * 60);
    assert_eq!(shown(&app, &KEY).await.code(), "expired_api_key");
    assert_eq!(shown(&app, &new.secret).await.status, 200);
}

#[tokio::test]
async fn wrong_keys_make_an_address_wait_and_right_ones_pass() {
    let access = AccessSettings { failures_per_minute: 3, ..AccessSettings::default() };
    let app = TestApp::under(HttpSettings::default(), access).await;
    let other = app.keys.create(app.project, KeyOrder::new(Mode::Live, "other")).await.unwrap();
    assert_eq!(shown(&app, &KEY).await.status, 200);
    for _ in 0..3 {
        assert_eq!(ask(&app, ("Authorization", "Bearer eb_live_guess")).await.code(), "invalid_api_key");
    }
    // No key at all is no attempt.
    assert_eq!(ask(&app, NO_KEY).await.code(), "unauthorized");
    let waits = ask(&app, ("Authorization", "Bearer eb_live_guess")).await;
    assert_json_snapshot!(waits.whole());
    assert_eq!(shown(&app, &other.secret).await.code(), "too_many_failed_attempts", "refused unheard");
    app.clock.advance(SECOND * 5);
    assert_eq!(shown(&app, &KEY).await.status, 200, "it was right lately");
    app.clock.advance(SECOND * 15);
    assert_eq!(shown(&app, &other.secret).await.status, 200, "after Retry-After");
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted() {
    let app = TestApp::start().await;
    assert_eq!(shown(&app, &KEY).await.status, 200);
    // It is written with nobody waiting for it.
    let noted = async {
        loop {
            let key = app.store.key(app.key).await.unwrap().unwrap();
            if let Some(at) = key.last_used_at {
                return at;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(noted.await, app.clock.now());
}
