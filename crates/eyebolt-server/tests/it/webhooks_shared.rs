//! What projects share of the senders of webhooks.

use std::{net::SocketAddr, time::Duration};

use eyebolt_server::{outbound::Resolver, webhooks::WebhookSettings};
use eyebolt_types::Mode;
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    app::{ANALYZE, Setup, TestApp},
    database::on_both,
    receiver::Receiver,
    wire::{FORM, JSON, bearer, image},
};

/// Endpoints of a project that one process sends to at once.
const MOST: usize = 32;

/// Many more than those.
const HOSTS: usize = 2 * MOST + 6;

on_both! {
    async fn receivers_of_one_project_that_hang_keep_no_other_project_waiting(setup: Setup) {
        let (mut hangs, mut well) = (Receiver::start().await, Receiver::start().await);
        let port = hangs.address.port();
        let resolver = Resolver::new(move |_, _| async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) });
        let webhooks = WebhookSettings { timeout: Duration::from_secs(30), ..WebhookSettings::default() };
        let app = TestApp::set_up(Setup { webhooks, resolver, ..setup }).await;
        app.ask("POST /v1/webhook-secret:rotate", &[JSON], b"{}").await;
        for number in 0..HOSTS {
            let line = format!("{ANALYZE}&webhook_url=http%3A%2F%2Fhangs-{number}.example%2F");
            let answer = app.ask(&line, &[FORM], &image(format!("cat {number}").as_bytes())).await;
            assert_eq!(answer.status, 200);
            app.clock.advance(SignedDuration::from_millis(1));
        }
        let mut held = Vec::new();
        for _ in 0..MOST {
            held.push(hangs.next().await);
        }
        let (_, other) = app.keys.create_project("other", Mode::Live).await.unwrap();
        let (name, value) = bearer(other.secret.reveal());
        let order = json!({"url": well.url()}).to_string();
        let made = app.ask("POST /v1/webhook-endpoints", &[JSON, (name, &value)], order.as_bytes()).await;
        assert_eq!(made.status, 201);
        app.ask(ANALYZE, &[FORM, (name, &value)], &image(b"another cat")).await;
        well.next().await.answer(200);
        assert!(hangs.come().is_none(), "no more of one project at once");
        // Whose turn is over makes room for the one that waits longest.
        held.pop().unwrap().answer(200);
        let next = hangs.next().await;
        assert_eq!(next.headers["host"], format!("hangs-{MOST}.example"));
    }
}
