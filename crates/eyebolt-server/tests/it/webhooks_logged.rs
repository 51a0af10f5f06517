//! What is told of webhook endpoints and of what was delivered to them.

use jiff::SignedDuration;
use serde_json::json;

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    receiver::Receiver,
    webhooks::{delivered, endpoint_at, post},
};

/// Attempts of a delivery that are told.
const KEPT: usize = 20;

on_both! {
    async fn what_is_sent_again_and_again_has_a_log_of_its_last_attempts(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, _) = endpoint_at(&app, &receiver).await;
        app.analyze(b"cat", &[]).await;
        let first = receiver.next().await;
        let event = first.id().to_owned();
        first.answer(201);
        delivered(&app, &endpoint).await;
        for number in 0..KEPT {
            post(&app, &format!("{endpoint}/deliveries/{event}:replay"), &json!({})).await;
            // The rate lets one go each tenth of a second of the app's time.
            app.clock.advance(SignedDuration::from_millis(200));
            receiver.next().await.answer(if number == 0 { 202 } else { 200 });
            delivered(&app, &endpoint).await;
        }
        let read = delivered(&app, &endpoint).await;
        let said: Vec<_> = read["log"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
        assert_eq!((said.len(), &said[0], &said[KEPT - 1]), (KEPT, &json!(202), &json!(200)));
    }
}
