//! Webhook endpoints that are changed while messages are on their way.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    receiver::{Message, Receiver},
    webhooks::endpoint_at,
    wire::JSON,
};

async fn patch(app: &TestApp, endpoint: &str, change: &Value) -> Value {
    let changed = app.ask(&format!("PATCH {endpoint}"), &[JSON], change.to_string().as_bytes()).await;
    assert_eq!(changed.status, 200, "{}", String::from_utf8_lossy(&changed.body));
    changed.json()
}

/// The delivery of an event once so many attempts are in its log.
async fn logged(app: &TestApp, endpoint: &str, event: &str, attempts: usize) -> Value {
    loop {
        let page = app.read(&format!("{endpoint}/deliveries")).await;
        let found = page["data"].as_array().unwrap().iter().find(|one| one["event"] == event);
        if let Some(found) = found.filter(|one| one["log"].as_array().unwrap().len() == attempts) {
            return found.clone();
        }
        tokio::task::yield_now().await;
    }
}

/// Two messages that are on their way.
async fn two(app: &TestApp, receiver: &mut Receiver) -> [Message; 2] {
    app.analyze(b"one", &[]).await;
    app.analyze(b"two", &[]).await;
    [receiver.next().await, receiver.next().await]
}

on_both! {
    async fn one_that_is_switched_off_while_a_message_is_on_its_way_stays_off(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, _) = endpoint_at(&app, &receiver).await;
        for (bytes, status) in [(b"one", 200), (b"two", 500), (b"six", 410)] {
            patch(&app, &endpoint, &json!({"enabled": true})).await;
            app.analyze(bytes, &[]).await;
            let message = receiver.next().await;
            let event = message.id().to_owned();
            let off = patch(&app, &endpoint, &json!({"enabled": false})).await;
            assert_eq!(off["status"], "disabled");
            message.answer(status);
            logged(&app, &endpoint, &event, 1).await;
            assert_eq!(app.read(&endpoint).await, off, "{status}");
        }
    }

    async fn one_that_is_switched_on_anew_is_not_throttled_by_what_it_said_before(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, _) = endpoint_at(&app, &receiver).await;
        let [first, second] = two(&app, &mut receiver).await;
        let ids = [&first, &second].map(|message| message.id().to_owned());
        first.answer_with(503, "retry-after: 600\r\n");
        logged(&app, &endpoint, &ids[0], 1).await;
        assert!(app.read(&endpoint).await["throttled_until"].is_string());
        let on = patch(&app, &endpoint, &json!({"enabled": true})).await;
        assert_eq!((&on["throttled_until"], &on["failing_since"]), (&Value::Null, &Value::Null));
        second.answer(500);
        logged(&app, &endpoint, &ids[1], 1).await;
        app.analyze(b"three", &[]).await;
        let third = receiver.next().await;
        assert!(!ids.contains(&third.id().to_owned()));
        assert_eq!(app.read(&endpoint).await["throttled_until"], Value::Null);
    }
    async fn another_address_is_not_left_alone_for_what_the_old_one_said(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let (mut old, mut new) = (Receiver::start().await, Receiver::start().await);
        let (endpoint, _) = endpoint_at(&app, &old).await;
        let [first, second] = two(&app, &mut old).await;
        let ids = [&first, &second].map(|message| message.id().to_owned());
        first.answer_with(503, "retry-after: 600\r\n");
        logged(&app, &endpoint, &ids[0], 1).await;
        let moved = patch(&app, &endpoint, &json!({"url": new.url()})).await;
        assert_eq!((&moved["throttled_until"], &moved["failing_since"]), (&Value::Null, &Value::Null));
        // What the old one says later is not about the new one.
        second.answer_with(410, "retry-after: 600\r\n");
        logged(&app, &endpoint, &ids[1], 1).await;
        assert_eq!(app.read(&endpoint).await, moved);
        app.analyze(b"three", &[]).await;
        new.next().await.answer(200);
        app.clock.advance(SignedDuration::from_secs(7));
        let message = new.next().await;
        assert_eq!(message.id(), ids[1]);
        message.answer(200);
    }
}
