//! What one project may ask of webhooks, and what makes room again.

use eyebolt_store::{Creation, EndpointKind, NewEndpoint};
use eyebolt_types::{Mode, id::EndpointId};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    wire::{Answer, FORM, JSON, image},
};

async fn post(app: &TestApp, address: &str, body: &Value) -> Answer {
    app.ask(&format!("POST {address}"), &[JSON], body.to_string().as_bytes()).await
}

async fn endpoint(app: &TestApp, url: &str) -> String {
    let made = post(app, "/v1/webhook-endpoints", &json!({"url": url})).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    format!("/v1/webhook-endpoints/{}", made.json()["id"].as_str().unwrap())
}

/// An analysis that names where it is told.
async fn named(app: &TestApp, url: &str) -> Answer {
    let line = format!("POST /v1/analyze?features=objects&webhook_url={url}");
    app.ask(&line, &[FORM], &image(b"cat")).await
}

on_both! {
    async fn what_is_no_longer_kept_is_not_sent_again(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let endpoint = endpoint(&app, "http://127.0.0.1:9/").await;
        let switched = |enabled: bool| {
            let (app, line) = (&app, format!("PATCH {endpoint}"));
            async move { app.ask(&line, &[JSON], json!({"enabled": enabled}).to_string().as_bytes()).await.status }
        };
        assert_eq!(switched(false).await, 200);
        app.analyze(b"old", &[]).await;
        app.clock.advance(SignedDuration::from_hours(31 * 24));
        app.analyze(b"new", &[]).await;
        assert_eq!(switched(true).await, 200);
        let replay = post(&app, &format!("{endpoint}:replay"), &json!({"since": "2000-01-01T00:00:00Z"})).await;
        assert_eq!((replay.status, &replay.json()["replayed"]), (202, &json!(1)));
    }

    async fn hosts_that_nobody_names_any_more_make_room_for_others(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        assert_eq!(post(&app, "/v1/webhook-secret:rotate", &json!({})).await.status, 201);
        for number in 0..1000 {
            let new = NewEndpoint {
                id: EndpointId::new(),
                project: app.project,
                mode: Mode::Live,
                kind: EndpointKind::Requests,
                url: format!("https://{number}.example"),
                description: String::new(),
                events: None,
                signature: "v1".to_owned(),
            };
            let made = app.store.create_endpoint(new, (None, 1000), app.clock.now()).await;
            assert!(matches!(made, Ok(Creation::Created(_))), "{made:?}");
        }
        let full = named(&app, "https://another.example/").await;
        assert_eq!((full.status, full.code(), &full.json()["params"]["limit_name"]), (409, "webhook_limit", &json!("max_webhook_hosts")));
        assert_eq!(named(&app, "https://7.example/hook").await.status, 200, "it has its place");
        app.clock.advance(SignedDuration::from_hours(29 * 24));
        app.events.sweep().await.unwrap();
        assert_eq!(named(&app, "https://another.example/").await.status, 409);
        app.clock.advance(SignedDuration::from_hours(2 * 24));
        app.events.sweep().await.unwrap();
        assert_eq!(named(&app, "https://another.example/").await.status, 200);
    }
}

#[tokio::test]
async fn a_secret_that_got_about_is_rotated_away_however_many_there_are() {
    let app = TestApp::start().await;
    let rotate = format!("{}:rotate-secret", endpoint(&app, "https://example.com/").await);
    for _ in 0..4 {
        assert_eq!(post(&app, &rotate, &json!({"overlap": "30d"})).await.status, 201);
    }
    let full = post(&app, &rotate, &json!({"overlap": "1s"})).await;
    assert_eq!((full.status, full.code()), (409, "webhook_limit"));
    assert_eq!(post(&app, &rotate, &json!({"overlap": "0s"})).await.status, 201);
    assert_eq!(post(&app, &rotate, &json!({})).await.status, 201, "the others are gone");
}
