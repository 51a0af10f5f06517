//! What is told of webhook endpoints and of what was delivered to them.

use std::{io, net::SocketAddr};

use eyebolt_server::outbound::Resolver;
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    app::{Setup, TestApp},
    database::on_both,
    receiver::Receiver,
    webhooks::{delivered, endpoint, endpoint_at, post, tried},
};

/// Attempts of a delivery that are told.
const KEPT: usize = 20;

#[tokio::test]
async fn a_name_that_leads_inside_is_told_as_one_that_leads_nowhere() {
    let resolver = Resolver::new(|name, port| async move {
        match name.as_str() {
            "inside.example" => Ok(vec![SocketAddr::from(([10, 1, 2, 3], port))]),
            "empty.example" => Ok(Vec::new()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such name at 10.1.2.4")),
        }
    });
    let app = TestApp::set_up(Setup { resolver, ..Setup::default() }).await;
    let mut told = Vec::new();
    for name in ["inside", "empty", "nowhere"] {
        let (endpoint, _) = endpoint(&app, json!({"url": format!("https://{name}.example/")})).await;
        app.analyze(format!("cat {name}").as_bytes(), &[]).await;
        let log = tried(&app, &endpoint, 1).await["log"].clone();
        assert!(!log.to_string().contains("10.1.2."), "{log}");
        told.push(log[0]["error"].as_str().unwrap().to_owned());
        app.ask(&format!("DELETE {endpoint}"), &[], b"").await;
    }
    assert_eq!(told, ["the name leads to no address that may be called"; 3]);
}

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
