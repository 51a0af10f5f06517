//! Who gets a worker, who waits for one, and who is turned away.

use eyebolt_server::{access::AccessSettings, admission::AdmissionSettings};
use eyebolt_types::{Detail, Feature, Mode};
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    wire::{FORM, Wire, bearer, image, key, request},
};

const LATER: (&str, &str) = ("Prefer", "respond-async");
const TOKEN: &str = "an admin token of some length";

/// With one worker. An image is thought to take 66 ms at first, so eight wait within the bound of half a second.
fn one_worker() -> Setup {
    let mut setup = Setup::default();
    setup.rules.jobs.slots = 1;
    setup
}

/// The only worker is busy until [`TestApp::release`].
async fn busy(setup: Setup) -> TestApp {
    let mut app = TestApp::set_up(setup).await;
    app.analyze(b"wait", &[key("busy"), LATER]).await;
    assert_eq!(app.running.recv().await, Some(true));
    app
}

/// Resolves once so many of the project's requests and jobs wait.
async fn until_waiting(app: &TestApp, count: u64) {
    while app.read("/v1/limits").await["load"]["waiting"] != json!(count) {}
}

/// So many requests without a key, which wait.
async fn crowd(app: &TestApp, count: u64) -> Vec<Wire> {
    let mut crowd = Vec::new();
    for n in 1..=count {
        crowd.push(app.begin(format!("cat {n}").as_bytes(), &[]).await);
        until_waiting(app, n).await;
    }
    crowd
}

#[tokio::test]
async fn a_request_waits_for_its_turn_and_is_no_job_before() {
    let mut app = busy(one_worker()).await;
    let mut waiter = app.begin(b"cat", &[key("k")]).await;
    until_waiting(&app, 1).await;
    assert_eq!(app.read("/v1/idempotency-keys/k").await["state"], "unused");
    assert_eq!(app.read("/v1/jobs").await["data"].as_array().map(Vec::len), Some(1));
    app.release();
    let answer = waiter.answer().await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (200, json!("succeeded")));
    assert_eq!(app.runs(), 1);
    app.assert_charged(2).await;
}

#[tokio::test]
async fn a_caller_with_a_key_keeps_its_place_when_it_hangs_up() {
    let mut app = busy(one_worker()).await;
    let first = app.begin(b"cat", &[key("k")]).await;
    until_waiting(&app, 1).await;
    drop(first);
    // Its retry waits for the same place.
    let mut retry = app.begin(b"cat", &[key("k")]).await;
    let mut other = app.begin(b"dog", &[key("k")]).await;
    app.read("/v1/limits").await;
    until_waiting(&app, 1).await;
    app.release();
    assert_eq!(retry.answer().await.status, 200);
    assert_eq!(other.answer().await.code(), "idempotency_key_reused");
    assert_eq!(app.runs(), 1, "of the two with this key one");
    app.assert_charged(2).await;
}

#[tokio::test]
async fn a_caller_without_a_key_leaves_when_it_hangs_up() {
    let mut app = busy(one_worker()).await;
    drop(crowd(&app, 3).await);
    until_waiting(&app, 0).await;
    app.release();
    let last = app.analyze(b"cat", &[]).await;
    assert_eq!((last.status, app.runs()), (200, 1));
    app.assert_charged(2).await;
}

#[tokio::test]
async fn a_full_machine_refuses_before_it_reads_and_does_later_what_has_a_key() {
    let mut app = busy(one_worker()).await;
    let crowd = crowd(&app, 8).await;
    // Headers alone: the body never comes.
    let mut wire = app.open().await;
    let whole = request("POST /v1/analyze?features=objects", &[FORM], &image(b"cat"));
    let headers = whole.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    wire.send(&whole[..headers]).await;
    let refused = wire.answer().await;
    assert_eq!((refused.status, refused.code()), (503, "temporary_reduced_capacity"));
    let problem = refused.json();
    let limits = (&problem["params"]["limit_name"], &problem["params"]["limit"], &problem["params"]["scope"]);
    assert_eq!(limits, (&json!("work_seconds"), &json!(0.5), &json!("server")));
    assert!(problem["params"]["found"].as_f64() >= Some(0.5));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");

    let later = app.analyze(b"dog", &[key("k"), ("Prefer", "wait=1")]).await;
    assert_eq!((later.status, later.json()["status"].clone()), (202, json!("pending")));
    // A key that is known needs no room.
    let known = app.analyze(b"dog", &[key("k"), LATER]).await;
    assert_eq!((known.status, known.job()), (202, later.job()));
    app.release();
    for mut waiter in crowd {
        assert_eq!(waiter.answer().await.status, 200);
    }
    assert_eq!(app.end_of(&later.job()).await["status"], "succeeded");
    assert_eq!(app.runs(), 9);
    app.assert_charged(10).await;
}

// Matrix row 36.
#[tokio::test]
async fn keys_are_refused_too_where_nothing_is_answered_later() {
    let mut setup = one_worker();
    setup.rules.admission = AdmissionSettings { answer_later: false, ..AdmissionSettings::default() };
    let mut app = busy(setup).await;
    let crowd = crowd(&app, 8).await;
    let refused = app.analyze(b"dog", &[key("k")]).await;
    assert_eq!((refused.status, refused.code()), (503, "temporary_reduced_capacity"));
    assert_eq!(app.read("/v1/idempotency-keys/k").await["state"], "unused");
    let asked_for_later = app.analyze(b"dog", &[key("k"), LATER]).await;
    assert_eq!(asked_for_later.status, 202, "that is another matter");
    drop(crowd);
    app.release();
    assert_eq!(app.end_of(&asked_for_later.job()).await["status"], "succeeded");
    assert_eq!(app.runs(), 1);
    // The key was not taken by the refusal: it stands for what came after, once.
    let again = app.analyze(b"dog", &[key("k")]).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(app.runs(), 0);
    app.assert_charged(2).await;
}

#[tokio::test]
async fn a_project_with_a_few_requests_is_served_beside_one_with_many() {
    let app = busy(one_worker()).await;
    let (_, other) = app.keys.create_project("other", Mode::Live).await.unwrap();
    let (name, value) = bearer(other.secret.reveal());
    let mut many = crowd(&app, 8).await;
    let mut few = app.begin(b"dog", &[(name, &value)]).await;
    let evicted = many.pop().unwrap().answer().await;
    assert_eq!(
        (evicted.status, evicted.code()),
        (503, "temporary_reduced_capacity"),
        "the newest makes room"
    );
    app.release();
    assert_eq!(few.answer().await.status, 200);
    for mut waiter in many {
        assert_eq!(waiter.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_busy_machine_looks_less_closely_where_it_is_allowed_and_says_so() {
    let mut app = busy(one_worker()).await;
    let ask = "POST /v1/analyze?features=objects,faces,barcodes&degrade=allow&faces.input_size=500";
    let crowd = crowd(&app, 4).await;
    let mut wire = app.open().await;
    wire.send(&request(ask, &[FORM, key("k")], &image(b"dog"))).await;
    until_waiting(&app, 5).await;
    let as_asked = app.begin(b"cow", &[key("l")]).await;
    until_waiting(&app, 6).await;
    app.release();
    let answer = wire.answer().await;
    let standard = |feature| json!({"feature": feature, "asked": "standard", "used": "low"});
    let told = json!({"what": [standard("objects"), standard("faces")], "why": "temporary_reduced_capacity"});
    assert_eq!((answer.status, &answer.json()["degraded"]), (200, &told));
    let again = app.ask(ask, &[FORM, key("k")], &image(b"dog")).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &answer.body));
    let mut as_asked = as_asked;
    assert_eq!(as_asked.answer().await.json()["degraded"], json!(null));
    let quiet = app.ask(ask, &[FORM, key("m")], &image(b"fox")).await;
    assert_eq!(quiet.json()["degraded"], json!(null), "an idle machine does what is asked");

    let mut done = Vec::new();
    while let Ok(request) = app.done.try_recv() {
        let looked = [Feature::Objects, Feature::Faces].map(|feature| request.detail_of(feature));
        done.push((looked.map(|detail| detail.unwrap()), request.parameters.faces.input_size));
    }
    let (low, standard) = (Detail::Low, Detail::Standard);
    assert_eq!(done.len(), 8);
    assert_eq!(done.iter().filter(|one| **one == ([low, low], None)).count(), 1);
    assert_eq!(done[7], ([standard, standard], Some(500)));
    drop(crowd);
}

#[tokio::test]
async fn who_comes_back_too_early_is_told_and_held_back() {
    let app = busy(one_worker()).await;
    let _crowd = crowd(&app, 8).await;
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(app.analyze(b"cat", &[]).await);
    }
    let told: Vec<_> = codes.iter().map(|answer| (answer.status, answer.code())).collect();
    let (busy, rude) = ((503, "temporary_reduced_capacity"), (429, "abnormal_usage"));
    assert_eq!(told, [busy, busy, busy, rude, rude]);
    assert_eq!(codes[4].json()["params"]["strikes"], 4);
}

#[tokio::test]
async fn who_sends_many_requests_at_once_comes_back_too_early_with_none_of_them() {
    let mut setup = one_worker();
    setup.rules.admission = AdmissionSettings { answer_later: false, ..AdmissionSettings::default() };
    let app = busy(setup).await;
    let _crowd = crowd(&app, 8).await;
    let mut told = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "a", "a", "a"] {
        let refused = app.analyze(b"dog", &[key(name)]).await;
        told.push((refused.status, refused.json()["params"]["strikes"].as_u64()));
    }
    let (busy, rude) = (503, 429);
    assert_eq!(told[..6], [(busy, None); 6], "each is new");
    assert_eq!(told[6..], [(busy, Some(1)), (busy, Some(2)), (rude, Some(3))]);
}

#[tokio::test]
async fn what_still_waits_when_its_caller_has_no_more_time_becomes_a_job() {
    let mut app = busy(one_worker()).await;
    let (with, without) = (("Prefer", "wait=1"), app.begin(b"dog", &[("Prefer", "wait=1")]).await);
    let later = app.analyze(b"cat", &[key("k"), with]).await;
    let mut without = without;
    let also = without.answer().await;
    assert_eq!((later.status, also.status), (202, 202));
    app.release();
    for job in [later.job(), also.job()] {
        assert_eq!(app.end_of(&job).await["status"], "succeeded");
    }
    assert_eq!(app.runs(), 2);
    app.assert_charged(3).await;
}

#[tokio::test]
async fn what_waits_when_the_server_stops_is_a_job_of_the_next_one() {
    let http = eyebolt_server::HttpSettings {
        drain_timeout: std::time::Duration::from_millis(10),
        ..eyebolt_server::HttpSettings::default()
    };
    let mut app = busy(Setup { http, ..one_worker() }).await;
    let mut waiter = app.begin(b"cat", &[key("k")]).await;
    until_waiting(&app, 1).await;
    app.stop();
    let told = waiter.answer().await;
    assert!([202, 503].contains(&told.status), "{}", told.status);
    let app = app.stop_and_restart(Setup::default()).await;
    let retry = app.analyze(b"cat", &[key("k")]).await;
    assert_eq!((retry.status, retry.json()["status"].clone()), (200, json!("succeeded")));
}

#[tokio::test]
async fn jobs_of_several_projects_take_turns_after_a_restart() {
    let app = busy(one_worker()).await;
    let (_, other) = app.keys.create_project("other", Mode::Live).await.unwrap();
    let (name, value) = bearer(other.secret.reveal());
    for n in 0..3 {
        app.analyze(format!("cat {n}").as_bytes(), &[key(&format!("c{n}")), LATER]).await;
    }
    let few = app.analyze(b"dog", &[key("d"), LATER, (name, &value)]).await;
    let mut app = app.crash_and_restart(one_worker()).await;
    // The lease of the busy job is of an earlier run of this server: it is pending again, and the oldest.
    assert_eq!(app.running.recv().await, Some(true));
    until_waiting(&app, 3).await;
    app.release();
    let ended = app.ask(&format!("GET /v1/jobs/{}?wait=50", few.job()), &[(name, &value)], b"").await.json();
    assert_eq!(ended["status"], "succeeded");
    let mine: Vec<Value> = app.read("/v1/jobs").await["data"].as_array().unwrap().clone();
    let after = mine.iter().filter(|job| {
        job["finished_at"].is_null() || job["finished_at"].as_str() >= ended["finished_at"].as_str()
    });
    assert!(after.count() >= 2, "the only one of its project is not the last");
}

#[tokio::test]
async fn the_operator_sees_what_the_law_knows() {
    let access = AccessSettings { admin_token: TOKEN.into(), ..AccessSettings::default() };
    let app = busy(Setup { access, ..one_worker() }).await;
    let _crowd = crowd(&app, 2).await;
    let token = format!("Bearer {TOKEN}");
    let report = app.ask("GET /admin/v1/capacity", &[("Authorization", &token)], b"").await;
    assert_eq!(report.status, 200);
    let mut report = report.json();
    // One moment a second: as many as the test took.
    assert!(report["history"].take().is_array());
    insta::assert_json_snapshot!(crate::wire::redact_ids(&report));
}
