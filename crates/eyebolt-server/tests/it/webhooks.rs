use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use eyebolt_server::{outbound::Resolver, webhooks::WebhookSettings};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::{Schema, on_both},
    receiver::Receiver,
    wire::{Answer, JSON, key},
};

pub(crate) async fn post(app: &TestApp, address: &str, body: &Value) -> Answer {
    app.ask(&format!("POST {address}"), &[JSON], body.to_string().as_bytes()).await
}

/// Makes an endpoint: its address in the API, and its secret.
pub(crate) async fn endpoint(app: &TestApp, order: Value) -> (String, String) {
    let made = post(app, "/v1/webhook-endpoints", &order).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (format!("/v1/webhook-endpoints/{}", text("id")), text("secret"))
}

pub(crate) async fn endpoint_at(app: &TestApp, receiver: &Receiver) -> (String, String) {
    endpoint(app, json!({"url": receiver.url()})).await
}

/// The newest delivery, once this holds of it.
pub(crate) async fn delivery(app: &TestApp, endpoint: &str, holds: impl Fn(&Value) -> bool) -> Value {
    loop {
        let page = app.read(&format!("{endpoint}/deliveries?limit=1")).await;
        if holds(&page["data"][0]) {
            return page["data"][0].clone();
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn delivered(app: &TestApp, endpoint: &str) -> Value {
    delivery(app, endpoint, |delivery| delivery["status"] == "delivered").await
}

pub(crate) async fn tried(app: &TestApp, endpoint: &str, attempts: u64) -> Value {
    delivery(app, endpoint, |delivery| delivery["attempts"] == attempts).await
}

const PAUSE: SignedDuration = SignedDuration::from_secs(7);

on_both! {
    async fn the_end_of_a_job_is_told_and_signed(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, secret) = endpoint_at(&app, &receiver).await;
        let job = app.analyze(b"cat", &[]).await.job();
        let message = receiver.next().await;
        assert_eq!(message.target, "POST /hook HTTP/1.1");
        assert_eq!(message.headers["content-type"], "application/json");
        assert_eq!(message.headers["webhook-timestamp"], app.clock.now().as_second().to_string());
        assert_eq!((message.signed_by(&secret), message.headers["webhook-signature"].split(' ').count()), (1, 1));
        let told = message.json();
        assert_eq!(told["id"], message.id());
        assert_eq!(told["type"], "job.succeeded");
        assert_eq!((&told["data"]["id"], &told["data"]["usage"]["units"]), (&json!(job), &json!(1)));
        assert!(message.body.len() < 2000, "thin: {}", message.body);
        let id = message.id().to_owned();
        message.answer(200);
        let delivery = delivered(&app, &endpoint).await;
        assert_eq!((&delivery["event"], &delivery["attempts"]), (&json!(id), &json!(1)));
        let log = &delivery["log"][0];
        assert_eq!(
            (&log["url"], &log["status"], &log["error"], &log["answer"]),
            (&json!(receiver.url()), &json!(200), &Value::Null, &json!("so it was"))
        );
    }

    async fn what_failed_is_sent_again_by_the_schedule_with_one_id_and_the_same_bytes(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, secret) = endpoint_at(&app, &receiver).await;
        app.analyze(b"dark", &[]).await;
        let first = receiver.next().await;
        assert_eq!(first.json()["type"], "job.failed");
        assert_eq!(first.json()["data"]["error_code"], "too_dark");
        let (id, body, timestamp) =
            (first.id().to_owned(), first.body.clone(), first.headers["webhook-timestamp"].clone());
        first.answer(500);
        let waits = tried(&app, &endpoint, 1).await;
        assert_eq!(waits["status"], "pending");
        app.clock.advance(PAUSE);
        let second = receiver.next().await;
        assert_eq!((second.id(), &second.body), (id.as_str(), &body));
        assert_ne!(second.headers["webhook-timestamp"], timestamp);
        assert_eq!(second.signed_by(&secret), 1);
        // Not followed.
        second.answer_with(307, &format!("location: http://{}/elsewhere\r\n", receiver.address));
        assert_eq!(tried(&app, &endpoint, 2).await["log"][1]["status"], 307);
        app.clock.advance(SignedDuration::from_mins(7));
        let third = receiver.next().await;
        assert_eq!(third.target, "POST /hook HTTP/1.1");
        third.answer(200);
        assert_eq!(delivered(&app, &endpoint).await["attempts"], 3);
    }

    async fn a_server_that_dies_before_it_writes_the_answer_down_sends_again_with_the_same_id(setup: Setup) {
        let access = setup.access.clone();
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, _) = endpoint_at(&app, &receiver).await;
        app.analyze(b"cat", &[]).await;
        let before = receiver.next().await;
        let app = app.crash_and_restart(Setup { access, ..Setup::default() }).await;
        let after = receiver.next().await;
        assert_eq!((after.id(), &after.body), (before.id(), &before.body));
        before.answer(200);
        after.answer(200);
        // Nothing is known of the attempt whose answer nobody took.
        assert_eq!(delivered(&app, &endpoint).await["log"].as_array().unwrap().len(), 1);
    }

    async fn a_secret_is_rotated_while_a_message_waits_and_both_sign(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, old) = endpoint_at(&app, &receiver).await;
        app.analyze(b"cat", &[]).await;
        receiver.next().await.answer(500);
        tried(&app, &endpoint, 1).await;
        let rotated = post(&app, &format!("{endpoint}:rotate-secret"), &json!({"overlap": "1h"})).await;
        assert_eq!(rotated.status, 201);
        let new = rotated.json()["secret"].as_str().unwrap().to_owned();
        app.clock.advance(PAUSE);
        let message = receiver.next().await;
        assert_eq!((message.signed_by(&new), message.signed_by(&old)), (1, 1));
        message.answer(500);
        tried(&app, &endpoint, 2).await;
        app.clock.advance(SignedDuration::from_hours(2));
        let message = receiver.next().await;
        assert_eq!((message.signed_by(&new), message.signed_by(&old)), (1, 0), "the overlap is over");
        message.answer(200);
    }

    async fn one_that_is_gone_is_left_alone_until_it_is_wanted_again(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, _) = endpoint_at(&app, &receiver).await;
        app.analyze(b"one", &[]).await;
        let first = receiver.next().await;
        let first_id = first.id().to_owned();
        first.answer(410);
        delivery(&app, &endpoint, |delivery| delivery["status"] == "failed").await;
        assert_eq!(app.read(&endpoint).await["status"], "gone");
        app.analyze(b"two", &[]).await;
        let since = json!({"since": "2026-01-01T00:00:00Z"});
        let off = post(&app, &format!("{endpoint}:replay"), &since).await;
        assert_eq!((off.status, off.code()), (409, "webhook_endpoint_off"));
        let on = app.ask(&format!("PATCH {endpoint}"), &[JSON], br#"{"enabled": true}"#).await;
        assert_eq!((on.status, &on.json()["status"]), (200, &json!("enabled")));
        let replay = post(&app, &format!("{endpoint}:replay"), &since).await;
        assert_eq!((replay.status, &replay.json()["replayed"]), (202, &json!(2)));
        // Both are due at one instant of a clock that stands still: the rate lets one go, and then the other.
        let mut ids = Vec::new();
        for _ in 0..2 {
            let message = receiver.next().await;
            ids.push(message.id().to_owned());
            message.answer(200);
            app.clock.advance(SignedDuration::from_millis(100));
        }
        assert!(ids.contains(&first_id) && ids[0] != ids[1], "{ids:?}");
    }

    async fn one_message_is_sent_again_where_somebody_wants_it(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, _) = endpoint_at(&app, &receiver).await;
        app.analyze(b"cat", &[]).await;
        let first = receiver.next().await;
        let id = first.id().to_owned();
        first.answer(200);
        delivered(&app, &endpoint).await;
        let again = post(&app, &format!("{endpoint}/deliveries/{id}:replay"), &json!({})).await;
        assert_eq!((again.status, &again.json()["status"]), (202, &json!("pending")));
        let second = receiver.next().await;
        assert_eq!(second.id(), id);
        second.answer(200);
        assert_eq!(delivered(&app, &endpoint).await["log"].as_array().unwrap().len(), 2);
        let other = format!("{endpoint}/deliveries/evt_{}:replay", "0".repeat(32));
        assert_eq!(post(&app, &other, &json!({})).await.code(), "delivery_not_found");
    }

    async fn an_endpoint_that_is_removed_is_forgotten(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let (endpoint, _) = endpoint_at(&app, &receiver).await;
        app.analyze(b"cat", &[]).await;
        receiver.next().await.answer(500);
        tried(&app, &endpoint, 1).await;
        let removed = app.ask(&format!("DELETE {endpoint}"), &[], b"").await;
        assert_eq!((removed.status, &removed.json()["deleted"]), (200, &json!(true)));
        for gone in ["", "/deliveries"] {
            let answer = app.ask(&format!("GET {endpoint}{gone}"), &[], b"").await;
            assert_eq!((answer.status, answer.code()), (404, "webhook_endpoint_not_found"));
        }
        assert_eq!(app.ask(&format!("DELETE {endpoint}"), &[], b"").await.status, 404);
        // The same address can be used anew, and is told of what happens then alone.
        app.clock.advance(PAUSE);
        let (_, secret) = endpoint_at(&app, &receiver).await;
        app.analyze(b"next", &[]).await;
        let message = receiver.next().await;
        assert_eq!(message.signed_by(&secret), 1);
        message.answer(200);
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_makes_a_second_message_with_the_same_id() {
    let timeout = Duration::from_millis(30);
    let setup =
        Setup { webhooks: WebhookSettings { timeout, ..WebhookSettings::default() }, ..Setup::default() };
    let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
    let (endpoint, _) = endpoint_at(&app, &receiver).await;
    app.analyze(b"cat", &[]).await;
    let first = receiver.next().await;
    let id = first.id().to_owned();
    let late = tried(&app, &endpoint, 1).await;
    assert_eq!(late["log"][0]["error"], "no answer within 30ms");
    first.answer(200);
    app.clock.advance(PAUSE);
    let second = receiver.next().await;
    assert_eq!(second.id(), id);
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_itself_alone() {
    let app = TestApp::start().await;
    let (mut hangs, mut well) = (Receiver::start().await, Receiver::start().await);
    endpoint_at(&app, &hangs).await;
    let (endpoint, _) = endpoint_at(&app, &well).await;
    let mut held = Vec::new();
    for number in 0..8_u8 {
        app.analyze(&[b'c', number], &[]).await;
        well.next().await.answer(200);
        if held.len() < 4 {
            held.push(hangs.next().await);
        }
    }
    delivered(&app, &endpoint).await;
    assert!(hangs.come().is_none(), "four are on their way at once");
    held.pop().unwrap().answer(200);
    let fifth = hangs.next().await;
    assert!(held.iter().all(|earlier| earlier.id() != fifth.id()));
}

#[tokio::test]
async fn who_has_too_much_to_do_is_left_alone_for_as_long_as_he_says() {
    let (app, mut receiver) = (TestApp::start().await, Receiver::start().await);
    let (endpoint, _) = endpoint_at(&app, &receiver).await;
    app.analyze(b"one", &[]).await;
    receiver.next().await.answer_with(503, "retry-after: 600\r\n");
    tried(&app, &endpoint, 1).await;
    assert_eq!(app.read(&endpoint).await["throttled_until"], "2026-01-02T03:14:05Z");
    app.analyze(b"two", &[]).await;
    // A second endpoint is told meanwhile: had the first one been, its message would have been before.
    let mut other = Receiver::start().await;
    endpoint_at(&app, &other).await;
    app.analyze(b"three", &[]).await;
    other.next().await.answer(200);
    assert!(receiver.come().is_none());
    app.clock.advance(SignedDuration::from_mins(10));
    receiver.next().await.answer(200);
}

#[tokio::test]
async fn a_name_that_changes_its_address_leads_nowhere_else() {
    let mut receiver = Receiver::start().await;
    let (port, flipped) = (receiver.address.port(), Arc::new(AtomicBool::new(false)));
    let flips = Arc::clone(&flipped);
    let resolver = Resolver::new(move |_, _| {
        let inside = if flips.load(Ordering::SeqCst) { [10, 0, 0, 1] } else { [127, 0, 0, 1] };
        async move { Ok(vec![SocketAddr::from((inside, port))]) }
    });
    let app = TestApp::set_up(Setup { resolver, ..Setup::default() }).await;
    let (endpoint, _) = endpoint(&app, json!({"url": "http://flips.example/hook"})).await;
    app.analyze(b"one", &[]).await;
    receiver.next().await.answer(200);
    delivered(&app, &endpoint).await;
    flipped.store(true, Ordering::SeqCst);
    app.clock.advance(SignedDuration::from_secs(1));
    app.analyze(b"two", &[]).await;
    let refused =
        delivery(&app, &endpoint, |delivery| delivery["attempts"] == 1 && delivery["status"] == "pending")
            .await;
    assert_eq!(refused["log"][0]["error"], "the name leads to no address that may be called");
}

#[tokio::test]
async fn an_endpoint_is_told_of_what_it_wants() {
    let (app, mut receiver) = (TestApp::start().await, Receiver::start().await);
    let order =
        json!({"url": receiver.url(), "events": ["job.failed", "job.canceled"], "description": "pager"});
    let (address, _) = endpoint(&app, order).await;
    app.analyze(b"cat", &[]).await;
    app.analyze(b"dark", &[]).await;
    let message = receiver.next().await;
    assert_eq!(message.json()["type"], "job.failed");
    message.answer(200);
    delivered(&app, &address).await;
    assert_eq!(app.read(&format!("{address}/deliveries")).await["data"].as_array().unwrap().len(), 1);
    // A test is for whoever is tested.
    let sent = post(&app, &format!("{address}:test"), &json!({})).await;
    assert_eq!((sent.status, &sent.json()["type"]), (202, &json!("webhook.test")));
    let test = receiver.next().await;
    assert_eq!(
        (test.json()["type"].as_str(), test.id()),
        (Some("webhook.test"), sent.json()["event"].as_str().unwrap())
    );
    test.answer(200);
}

// Matrix row 53.
#[tokio::test]
async fn an_answer_that_is_given_again_tells_nothing() {
    let (app, mut receiver) = (TestApp::start().await, Receiver::start().await);
    let (endpoint, _) = endpoint_at(&app, &receiver).await;
    app.analyze(b"cat", &[key("once")]).await;
    receiver.next().await.answer(200);
    delivered(&app, &endpoint).await;
    let again = app.analyze(b"cat", &[key("once")]).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let all = app.read(&format!("{endpoint}/deliveries")).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 1);
}

// Matrix rows 45 and 46.
#[tokio::test]
async fn a_job_that_fails_is_run_again_and_succeeds_is_told_twice_as_two_events() {
    let (app, mut receiver) = (TestApp::start().await, Receiver::start().await);
    endpoint_at(&app, &receiver).await;
    let job = app.analyze(b"fail", &[key("again")]).await.job();
    let failed = receiver.next().await;
    assert_eq!((&failed.json()["type"], &failed.json()["data"]["round"]), (&json!("job.failed"), &json!(1)));
    app.mend();
    let retry = format!("POST /v1/jobs/{job}:retry");
    let (one, two) = tokio::join!(app.ask(&retry, &[], b""), app.ask(&retry, &[], b""));
    assert_eq!((one.status, two.status), (202, 202));
    let succeeded = receiver.next().await;
    assert_eq!(
        (&succeeded.json()["type"], &succeeded.json()["data"]["round"]),
        (&json!("job.succeeded"), &json!(2))
    );
    assert_ne!(failed.id(), succeeded.id());
}

#[tokio::test]
async fn a_request_names_where_its_end_is_told() {
    let (app, mut receiver) = (TestApp::start().await, Receiver::start().await);
    let target = format!("POST /v1/analyze?features=objects&webhook_url={}%3Fcase%3D7", receiver.url());
    let ask = |line: String, bytes: &'static [u8]| {
        let app = &app;
        async move { app.ask(&line, &[crate::wire::FORM, key("told")], &crate::wire::image(bytes)).await }
    };
    let unsigned = ask(target.clone(), b"cat").await;
    assert_eq!((unsigned.status, unsigned.code()), (422, "webhook_url_refused"), "there is no secret yet");
    let secret = post(&app, "/v1/webhook-secret:rotate", &json!({})).await.json();
    let secret = secret["secret"].as_str().unwrap();
    assert_eq!(ask(target.clone(), b"cat").await.status, 200);
    let message = receiver.next().await;
    assert_eq!((message.target.as_str(), message.signed_by(secret)), ("POST /hook?case=7 HTTP/1.1", 1));
    message.answer(200);
    // It is part of what is asked.
    let elsewhere = ask(target.replace("case", "other"), b"cat").await;
    assert_eq!((elsewhere.status, elsewhere.code()), (422, "idempotency_key_reused"));
    assert!(app.read("/v1/webhook-endpoints").await["data"].as_array().unwrap().is_empty());
    let inside = "POST /v1/analyze?features=objects&webhook_url=http%3A%2F%2F10.0.0.1%2F";
    let refused = app.ask(inside, &[crate::wire::FORM], &crate::wire::image(b"cat")).await;
    assert_eq!((refused.status, refused.code()), (422, "webhook_url_refused"));
}

#[tokio::test]
async fn what_can_not_be_an_endpoint_is_refused() {
    let app = TestApp::start().await;
    let cases = [
        (json!({"url": "http://169.254.169.254/latest/meta-data"}), 422, "webhook_url_refused"),
        (json!({"url": "https://[::1]/"}), 422, "webhook_url_refused"),
        (json!({"url": "https://user:word@example.com/"}), 422, "webhook_url_refused"),
        (json!({"url": "gopher://example.com/"}), 422, "webhook_url_refused"),
        (json!({"url": "https://example.com/", "events": []}), 400, "invalid_parameter"),
        (json!({"url": "https://example.com/", "events": ["job.exploded"]}), 400, "invalid_parameter"),
        (json!({"url": "https://example.com/", "description": "a\nb"}), 400, "invalid_parameter"),
        (json!({"url": "https://example.com/", "secret": "mine"}), 400, "unknown_parameter"),
        (json!({}), 400, "invalid_parameter"),
    ];
    for (order, status, code) in cases {
        let refused = post(&app, "/v1/webhook-endpoints", &order).await;
        assert_eq!((refused.status, refused.code()), (status, code), "{order}");
    }
    let (first, _) = endpoint(&app, json!({"url": "https://example.com/a"})).await;
    let twice = post(&app, "/v1/webhook-endpoints", &json!({"url": "https://EXAMPLE.com:443/a#x"})).await;
    assert_eq!((twice.status, twice.code()), (409, "webhook_endpoint_exists"));
    let named = &twice.json()["params"]["webhook_endpoint"];
    assert!(first.ends_with(named.as_str().unwrap()));
    for number in 1..20 {
        endpoint(&app, json!({"url": format!("https://example.com/{number}")})).await;
    }
    let full = post(&app, "/v1/webhook-endpoints", &json!({"url": "https://example.com/b"})).await;
    assert_eq!((full.status, full.code()), (409, "webhook_limit"));
    for _ in 0..4 {
        assert_eq!(post(&app, &format!("{first}:rotate-secret"), &json!({})).await.status, 201);
    }
    let full = post(&app, &format!("{first}:rotate-secret"), &json!({})).await;
    assert_eq!(
        (full.status, full.code(), &full.json()["params"]["limit"]),
        (409, "webhook_limit", &json!(5))
    );
}

#[tokio::test]
async fn servers_on_one_database_send_each_message_once() {
    let schema = Schema::new();
    let near = TestApp::set_up(Setup::on(&schema)).await;
    let far = TestApp::set_up(Setup { clock: Some(near.clock.clone()), ..Setup::on(&schema) }).await;
    let mut receiver = Receiver::start().await;
    let (endpoint, _) = endpoint_at(&near, &receiver).await;
    let mut ids = std::collections::BTreeSet::new();
    for number in 0..20_u8 {
        let app = if number % 2 == 0 { &near } else { &far };
        app.analyze(&[b'c', number], &[]).await;
        let message = receiver.next().await;
        assert!(ids.insert(message.id().to_owned()), "{number}: it came before");
        message.answer(200);
    }
    delivered(&near, &endpoint).await;
    assert!(receiver.come().is_none());
}
