//! How a server ends.

use std::time::Duration;

use eyebolt_server::{HttpSettings, http::Stopped};
use tokio::net::TcpStream;

use crate::{
    app::TestApp,
    wire::{FORM, form, request},
};

const LINE: &str = "POST /v1/analyze?features=objects";

#[tokio::test]
async fn a_stopping_server_finishes_what_runs_and_takes_nothing_new() {
    let mut app = TestApp::start().await;
    let mut idle = app.open().await;
    idle.send(&request("GET /healthz", &[], b"")).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut wire = app.open().await;
    wire.send(&request(LINE, &[FORM], &form(&[("name=\"image\"", b"wait")]))).await;
    assert_eq!(app.running.recv().await, Some(true));

    app.stop();
    assert!(idle.is_closed().await, "an idle connection is closed at once");
    assert!(TcpStream::connect(app.address).await.is_err(), "nobody listens any more");
    app.release();
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (200, "close"));
    assert!(wire.is_closed().await);
    assert_eq!(app.stopped().await, Stopped::Drained);
}

#[tokio::test]
async fn who_waits_longer_than_the_drain_learns_where_to_ask_later() {
    let settings = HttpSettings { drain_timeout: Duration::from_millis(10), ..HttpSettings::default() };
    let mut app = TestApp::with(settings).await;
    let mut wire = app.open().await;
    wire.send(&request(LINE, &[FORM], &form(&[("name=\"image\"", b"wait")]))).await;
    assert_eq!(app.running.recv().await, Some(true));
    app.stop();
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (202, Some("pending")));
    assert_eq!(answer.headers["location"], format!("/v1/jobs/{}", answer.json()["id"].as_str().unwrap()));
    assert_eq!(app.running.recv().await, Some(false), "the work was given back");
    assert_eq!(app.stopped().await, Stopped::CutOff);
}
