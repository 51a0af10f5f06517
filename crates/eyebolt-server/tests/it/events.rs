use std::time::Duration;

use eyebolt_server::events::EventSettings;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::{Schema, on_both},
    wire::{Answer, Wire, request},
};

/// One server-sent event.
#[derive(Debug, Default, PartialEq)]
struct Told {
    id: Option<String>,
    event: String,
    data: Value,
    comment: bool,
}

/// A stream, read as browsers read it.
struct Stream {
    wire: Wire,
    text: String,
}

impl Stream {
    async fn open(app: &TestApp, address: &str, after: Option<&str>) -> Self {
        let (head, stream) = Self::ask(app, address, after).await;
        assert_eq!(head.status, 200, "{address}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        stream
    }

    async fn ask(app: &TestApp, address: &str, after: Option<&str>) -> (Answer, Self) {
        let mut wire = app.open().await;
        let mut headers = vec![("Accept", "text/event-stream")];
        headers.extend(after.map(|after| ("Last-Event-ID", after)));
        wire.send(&request(&format!("GET {address}"), &headers, b"")).await;
        let head = wire.answer().await;
        (head, Self { wire, text: String::new() })
    }

    /// What is told next; `None` where the stream has ended in order.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let told = Self::read(block);
                self.text = rest.into();
                return Some(told);
            }
            let chunk = self.wire.chunk().await;
            if chunk.is_empty() {
                assert_eq!(self.text, "", "cut within an event");
                return None;
            }
            self.text.push_str(&String::from_utf8(chunk).expect("text"));
        }
    }

    fn read(block: &str) -> Told {
        let mut told = Told::default();
        for line in block.lines() {
            match line.split_once(": ").or_else(|| line.split_once(':')).expect("a field") {
                ("id", id) => told.id = Some(id.to_owned()),
                ("event", event) => event.clone_into(&mut told.event),
                ("data", data) => told.data = serde_json::from_str(data).expect("JSON"),
                ("", _) => told.comment = true,
                ("retry", _) => {}
                (other, _) => panic!("{other}"),
            }
        }
        told
    }

    /// The next event of a kind.
    async fn event(&mut self, kind: &str) -> Told {
        loop {
            let told = self.next().await.expect("the stream goes on");
            if told.event == kind {
                return told;
            }
        }
    }
}

fn job_of(told: &Told) -> &str {
    told.data["data"]["id"].as_str().expect("a job")
}

on_both! {
    async fn a_stream_goes_on_where_it_was_cut_without_a_gap_or_a_double(setup: Setup) {
        let access = setup.access.clone();
        let app = TestApp::set_up(setup).await;
        app.analyze(b"before", &[]).await;
        let mut stream = Stream::open(&app, "/v1/events", None).await;
        let start = stream.next().await.unwrap();
        let start = start.id.expect("where it begins, before anything has happened");
        drop(stream);
        // Cut before the first event came.
        let first = app.analyze(b"one", &[]).await.job();
        let mut stream = Stream::open(&app, "/v1/events", Some(&start)).await;
        let told = stream.event("job.succeeded").await;
        assert_eq!(job_of(&told), first);
        let second = app.analyze(b"two", &[]).await.job();
        assert_eq!(job_of(&stream.event("job.succeeded").await), second);
        let app = app.crash_and_restart(Setup { access, ..Setup::default() }).await;
        let third = app.analyze(b"dark", &[]).await.job();
        let mut stream = Stream::open(&app, "/v1/events", told.id.as_deref()).await;
        let again: Vec<_> = [stream.event("job.succeeded").await, stream.event("job.failed").await].into();
        assert_eq!(again.iter().map(job_of).collect::<Vec<_>>(), [second, third]);
        assert_eq!(again[1].data["data"]["error_code"], "too_dark");
    }

    async fn a_jobs_stream_tells_how_it_comes_along_and_ends_with_it(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let waits = [("Prefer", "respond-async"), ("Idempotency-Key", "one")];
        let job = app.analyze(b"wait", &waits).await.job();
        let address = format!("/v1/jobs/{job}/events");
        let mut stream = Stream::open(&app, &address, None).await;
        let progress = stream.event("job.progress").await;
        assert_eq!((progress.id, &progress.data["id"]), (None, &json!(job)));
        assert_eq!(progress.data["steps"][0]["feature"], "objects");
        app.release();
        let told = stream.event("job.succeeded").await;
        assert_eq!((told.id.as_deref(), job_of(&told)), (Some("1"), job.as_str()));
        assert_eq!(stream.next().await, None, "it ends with the job");
        // Who was cut before the end learns of it; who knows it is told to stop.
        let mut late = Stream::open(&app, &address, None).await;
        assert_eq!(late.event("job.succeeded").await, told);
        assert_eq!(late.next().await, None);
        let (over, _) = Stream::ask(&app, &address, Some("1")).await;
        assert_eq!(over.status, 204);
        let (unknown, _) = Stream::ask(&app, &address, Some("2")).await;
        assert_eq!((unknown.status, unknown.code()), (400, "invalid_parameter"));
    }
}

#[tokio::test]
async fn a_stream_at_one_server_tells_what_another_did() {
    let schema = Schema::new();
    let near = TestApp::set_up(Setup::on(&schema)).await;
    let far = TestApp::set_up(Setup { clock: Some(near.clock.clone()), ..Setup::on(&schema) }).await;
    let mut stream = Stream::open(&far, "/v1/events", None).await;
    let jobs = [near.analyze(b"one", &[]).await.job(), near.analyze(b"two", &[]).await.job()];
    for job in &jobs {
        assert_eq!(job_of(&stream.event("job.succeeded").await), job);
    }
    let mut of_job = Stream::open(&far, &format!("/v1/jobs/{}/events", jobs[0]), None).await;
    assert_eq!(job_of(&of_job.event("job.succeeded").await), jobs[0]);
}

#[tokio::test]
async fn a_stream_without_news_gives_signs_of_life_and_ends_with_the_server() {
    let heartbeat = Duration::from_millis(10);
    let events = EventSettings { heartbeat, ..EventSettings::default() };
    let mut app = TestApp::set_up(Setup { events, ..Setup::default() }).await;
    let mut stream = Stream::open(&app, "/v1/events", None).await;
    while !stream.next().await.expect("it goes on").comment {}
    app.stop();
    while stream.next().await.is_some() {}
    app.stopped().await;
}

#[tokio::test]
async fn a_key_has_a_bounded_number_of_streams() {
    let events = EventSettings { max_streams_per_key: 2, ..EventSettings::default() };
    let app = TestApp::set_up(Setup { events, ..Setup::default() }).await;
    let one = Stream::open(&app, "/v1/events", None).await;
    let _two = Stream::open(&app, "/v1/events", None).await;
    let (refused, _) = Stream::ask(&app, "/v1/events", None).await;
    assert_eq!(
        (refused.status, refused.code(), refused.header("retry-after")),
        (429, "too_many_streams", Some("5"))
    );
    assert_eq!(refused.json()["params"]["limit"], 2);
    drop(one);
    loop {
        // That it has gone is noticed when something is written to it.
        app.analyze(b"cat", &[]).await;
        if Stream::ask(&app, "/v1/events", None).await.0.status == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn a_place_that_is_no_longer_kept_is_told_instead_of_a_gap() {
    let app = TestApp::start().await;
    let mut stream = Stream::open(&app, "/v1/events", None).await;
    let start = stream.next().await.unwrap().id.unwrap();
    app.analyze(b"one", &[]).await;
    let last = stream.event("job.succeeded").await.id.unwrap();
    app.clock.advance(SignedDuration::from_hours(24 * 29));
    app.events.sweep().await.unwrap();
    Stream::open(&app, "/v1/events", Some(&start)).await;
    app.clock.advance(SignedDuration::from_hours(48));
    app.events.sweep().await.unwrap();
    let (gone, _) = Stream::ask(&app, "/v1/events", Some(&start)).await;
    assert_eq!((gone.status, gone.code()), (410, "events_expired"));
    Stream::open(&app, "/v1/events", Some(&last)).await;
    for strange in ["99", "abc", "-1"] {
        let (unknown, _) = Stream::ask(&app, "/v1/events", Some(strange)).await;
        assert_eq!((unknown.status, unknown.code()), (400, "invalid_parameter"), "{strange}");
    }
    let json = app.ask("GET /v1/events", &[("Accept", "application/json")], b"").await;
    assert_eq!((json.status, json.code()), (406, "not_acceptable"));
}
