//! What one project may ask of webhooks, and what makes room again.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    wire::{Answer, JSON},
};

async fn post(app: &TestApp, address: &str, body: &Value) -> Answer {
    app.ask(&format!("POST {address}"), &[JSON], body.to_string().as_bytes()).await
}

async fn endpoint(app: &TestApp, url: &str) -> String {
    let made = post(app, "/v1/webhook-endpoints", &json!({"url": url})).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    format!("/v1/webhook-endpoints/{}", made.json()["id"].as_str().unwrap())
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
}
