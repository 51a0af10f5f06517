//! Many images at once: accepted whole or not at all, each item done once.

use eyebolt_server::{access::KeyOrder, batches::BatchSettings, quotas::QuotaSettings};
use eyebolt_types::{DedupPolicy, ErrorCode, Limits, Mode, Policy};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    database::{Schema, on_both},
    pipelines::signs,
    receiver::Receiver,
    wire::{Answer, FORM, JSON, Wire, bearer, form, image, key, request},
};

pub(crate) const LINES: (&str, &str) = ("Content-Type", "application/x-ndjson");
pub(crate) const CREATE: &str = "POST /v1/batches?features=objects";

/// A line for each image, named by its number.
fn lines(images: &[&[u8]]) -> Vec<u8> {
    let line = |(number, image): (usize, &&[u8])| item(&format!("i{number}"), image).to_string() + "\n";
    images.iter().enumerate().map(line).collect::<String>().into_bytes()
}

pub(crate) fn item(name: &str, image: &[u8]) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    json!({"custom_id": name, "image_base64": STANDARD.encode(image)})
}

fn images<const N: usize>(of: [&str; N]) -> Vec<Vec<u8>> {
    (0..).zip(of).map(|(number, text)| format!("{text}{number}").into_bytes()).collect()
}

fn views(images: &[Vec<u8>]) -> Vec<&[u8]> {
    images.iter().map(Vec::as_slice).collect()
}

impl TestApp {
    async fn batch(&self, line: &str, headers: &[(&str, &str)], images: &[Vec<u8>]) -> Answer {
        self.ask(line, &[&[LINES], headers].concat(), &lines(&views(images))).await
    }

    pub(crate) async fn act(&self, batch: &str, what: &str) -> Answer {
        self.ask(&format!("POST /v1/batches/{batch}:{what}"), &[], b"").await
    }

    /// The batch once this is so.
    pub(crate) async fn batch_until(&self, batch: &str, so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let found = self.read(&format!("/v1/batches/{batch}")).await;
            if so(&found) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn batch_end(&self, batch: &str) -> Value {
        self.batch_until(batch, |batch| !matches!(batch["status"].as_str(), Some("processing" | "canceling")))
            .await
    }

    /// The same of one whose items wait to be released.
    pub(crate) async fn released_until_the_end(&self, batch: &str) -> Value {
        loop {
            self.release();
            let found = self.read(&format!("/v1/batches/{batch}")).await;
            if found["status"] != "processing" {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Lines of a stream.
    pub(crate) async fn lines_of(&self, address: &str) -> Vec<Value> {
        let mut wire = self.open().await;
        wire.send(&request(&format!("GET {address}"), &[], b"")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200, "{address}");
        let text = all(&mut wire).await;
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect()
    }
}

async fn all(wire: &mut Wire) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let piece = wire.chunk().await;
        if piece.is_empty() {
            return whole;
        }
        whole.extend(piece);
    }
}

pub(crate) fn id(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(format!("/v1/batches/{id}").as_str()));
    id
}

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["custom_id"].as_str().unwrap()).collect()
}

on_both! {
    async fn an_item_may_be_a_pipeline_and_what_failed_of_it_runs_again_alone(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        app.sitter.breaks("read/1", ErrorCode::ModelFailed);
        let (mut plain, mut several) = (item("plain", b"cat"), item("several", b"three"));
        plain["features"] = json!(["objects"]);
        several["pipeline"] = signs(&json!({}));
        let body = format!("{plain}\n{several}\n");
        let accepted = app.ask("POST /v1/batches", &[LINES, key("b")], body.as_bytes()).await;
        assert_eq!(accepted.status, 202, "{}", String::from_utf8_lossy(&accepted.body));
        let id = accepted.json()["id"].as_str().unwrap().to_owned();
        let ended = app.batch_end(&id).await;
        assert_eq!((&ended["counts"]["succeeded"], &ended["counts"]["failed"]), (&json!(1), &json!(1)), "{ended}");
        assert_eq!(app.sitter.ordered(), ["find", "read/0", "read/1", "read/2"]);
        app.assert_charged(4).await;
        app.sitter.mend();
        assert_eq!(app.act(&id, "retry").await.status, 202);
        let ended = app.batch_end(&id).await;
        assert_eq!((&ended["counts"]["succeeded"], app.sitter.ordered()), (&json!(2), vec!["read/1".to_owned()]));
        app.assert_charged(5).await;

        several["validate_only"] = json!(true);
        let refused = app.ask("POST /v1/batches", &[LINES, key("c")], several.to_string().as_bytes()).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_parameter"));
    }

    async fn thirty_images_of_which_three_are_broken(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let sent: Vec<_> = (0..30)
            .map(|number| format!("{}{number}", if number % 10 == 4 { "empt" } else { "cat" }).into_bytes())
            .collect();
        let accepted = app.batch(CREATE, &[key("k1")], &sent).await;
        let batch = id(&accepted);
        let counts = accepted.json()["counts"].clone();
        assert_eq!((&counts["total"], &counts["pending"], &counts["failed"]), (&json!(30), &json!(27), &json!(3)));

        let ended = app.batch_end(&batch).await;
        assert_eq!(ended["status"], "completed");
        assert_eq!((&ended["counts"]["succeeded"], &ended["counts"]["failed"]), (&json!(27), &json!(3)));
        app.assert_charged(27).await;

        let found = app.lines_of(&format!("/v1/batches/{batch}/results")).await;
        assert_eq!(found.len(), 27);
        assert_eq!(found[0]["custom_id"], "i0");
        assert_eq!(found[0]["job"]["results"]["objects"]["items"][0]["label"], "cat");
        let job = app.read(&format!("/v1/jobs/{}", found[0]["job_id"].as_str().unwrap())).await;
        assert_eq!(found[0]["job"], job, "the same as is read of the job");
        let failed = app.lines_of(&format!("/v1/batches/{batch}/errors")).await;
        assert_eq!(names(&failed), ["i4", "i14", "i24"]);
        assert!(failed.iter().all(|item| item["error"]["code"] == "empty_file"));
        let rest = app.lines_of(&format!("/v1/batches/{batch}/results?cursor=27")).await;
        assert_eq!(names(&rest), ["i28", "i29"]);

        let page = app.read(&format!("/v1/batches/{batch}/items?status=failed&limit=2")).await;
        assert_eq!(names(page["data"].as_array().unwrap()), ["i4", "i14"]);
        let next = format!("/v1/batches/{batch}/items?status=failed&cursor={}", page["next_cursor"].as_str().unwrap());
        assert_eq!(names(app.read(&next).await["data"].as_array().unwrap()), ["i24"]);

        let again = app.batch(CREATE, &[key("k1")], &sent).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")));
        assert_eq!(again.body, accepted.body, "byte for byte");
        let listed = app.read("/v1/batches?status=completed").await;
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
        assert_eq!(app.act(&batch, "cancel").await.code(), "batch_not_cancelable");
        assert_eq!(app.act(&batch, "retry").await.code(), "batch_not_retryable");
        app.assert_charged(27).await;
    }

    async fn failed_items_run_again_and_nothing_else(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let batch = id(&app.batch(CREATE, &[key("k1")], &images(["cat", "fail", "dark", "fail"])).await);
        let ended = app.batch_end(&batch).await;
        assert_eq!((&ended["counts"]["succeeded"], &ended["counts"]["failed"]), (&json!(1), &json!(3)));
        assert_eq!(app.runs(), 4);
        app.mend();
        let (first, second) = tokio::join!(app.act(&batch, "retry"), app.act(&batch, "retry"));
        let mut both = [first.status, second.status];
        both.sort_unstable();
        assert!(both == [202, 422] || both == [202, 202], "{both:?}");
        let ended = app.batch_until(&batch, |batch| batch["status"] == "completed").await;
        assert_eq!((&ended["counts"]["succeeded"], &ended["counts"]["failed"]), (&json!(3), &json!(1)));
        assert_eq!(ended["round"], 2);
        assert_eq!(app.runs(), 2, "each failed item once, the refused image not at all");
        app.assert_charged(3).await;
        let failed = app.lines_of(&format!("/v1/batches/{batch}/errors")).await;
        assert_eq!((names(&failed), failed[0]["error"]["code"].as_str()), (vec!["i2"], Some("too_dark")));
    }

    // Matrix rows 40, 41 and 42.
    async fn sent_again_it_is_the_same_batch_and_a_failed_item_may_be_retried_alone(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let sent = [images(["cat"; 47]), images(["fail", "fail 1", "fail 2"])].concat();
        let first = app.batch(CREATE, &[key("k")], &sent).await;
        let batch = id(&first);
        let ended = app.batch_end(&batch).await;
        assert_eq!((&ended["counts"]["succeeded"], &ended["counts"]["failed"]), (&json!(47), &json!(3)));
        assert_eq!(app.runs(), 50);
        let again = app.batch(CREATE, &[key("k")], &sent).await;
        assert_eq!((again.status, &again.body, app.runs()), (202, &first.body, 0));
        let more = [sent, images(["dog"])].concat();
        assert_eq!(app.batch(CREATE, &[key("k")], &more).await.code(), "idempotency_key_reused");

        app.mend();
        let failed = app.lines_of(&format!("/v1/batches/{batch}/errors")).await;
        let job = failed[0]["job_id"].as_str().unwrap();
        assert_eq!(app.ask(&format!("POST /v1/jobs/{job}:retry"), &[], b"").await.status, 202);
        assert_eq!(app.end_of(job).await["status"], "succeeded");
        let found = app.read(&format!("/v1/batches/{batch}")).await;
        assert_eq!((&found["counts"]["succeeded"], &found["counts"]["failed"]), (&json!(48), &json!(2)));
        assert_eq!(app.runs(), 1);
        assert_eq!(app.act(&batch, "retry").await.status, 202);
        let ended = app.batch_until(&batch, |batch| batch["counts"]["succeeded"] == 50).await;
        assert_eq!((&ended["counts"]["failed"], app.runs()), (&json!(0), 2));
        app.assert_charged(50).await;
    }

    async fn canceling_ends_what_waits_and_what_runs(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let sent: Vec<_> = (0..40).map(|number| format!("wait{number}").into_bytes()).collect();
        let batch = id(&app.batch(CREATE, &[key("k1")], &sent).await);
        app.running.recv().await;
        let canceled = app.act(&batch, "cancel").await;
        assert_eq!(canceled.status, 200);
        assert_eq!(canceled.json()["counts"]["pending"], 0, "what waits is canceled at once");
        let ended = app.batch_end(&batch).await;
        assert_eq!((&ended["status"], &ended["counts"]["canceled"]), (&json!("canceled"), &json!(40)));
        assert_eq!(app.act(&batch, "cancel").await.json()["status"], "canceled");
        app.assert_charged(0).await;
        let errors = app.lines_of(&format!("/v1/batches/{batch}/errors")).await;
        assert_eq!(errors.len(), 40);
        assert!(errors.iter().all(|item| item["error"]["code"] == "job_canceled"));
    }

    async fn what_is_not_done_in_time_expires_and_results_stay(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let mut sent = images(["cat", "cat"]);
        sent.extend((0..40).map(|number| format!("wait{number}").into_bytes()));
        let line = "POST /v1/batches?features=objects&expires_in=600";
        let batch = id(&app.batch(line, &[key("k1")], &sent).await);
        app.batch_until(&batch, |batch| {
            // Whichever come first hold the workers.
            app.release();
            batch["counts"]["succeeded"].as_u64() >= Some(2)
        })
        .await;
        app.clock.advance(SignedDuration::from_secs(601));
        let waits = app.batch_until(&batch, |batch| batch["counts"]["pending"] == 0).await;
        assert!(waits["counts"]["expired"].as_u64() > Some(0), "{waits}");
        let ended = app.released_until_the_end(&batch).await;
        assert_eq!(ended["status"], "expired");
        let found = app.lines_of(&format!("/v1/batches/{batch}/results")).await;
        assert!(found.len() >= 2, "{ended}");
        app.assert_charged(found.len() as i64).await;
        assert_eq!(ended["counts"]["succeeded"], found.len());
    }

    async fn a_hopeless_batch_is_stopped(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let mut sent: Vec<_> = (0..5).map(|number| format!("dark{number}").into_bytes()).collect();
        sent.extend((0..35).map(|number| format!("wait{number}").into_bytes()));
        let line = "POST /v1/batches?features=objects&max_failure_rate=0.1";
        let batch = id(&app.batch(line, &[key("k1")], &sent).await);
        // Some of those that wait may come first, and have all the workers that a batch gets.
        app.released_until_the_end(&batch).await;
        let ended = app.batch_end(&batch).await;
        assert_eq!((&ended["status"], &ended["counts"]["failed"]), (&json!("failed"), &json!(5)));
        let (done, canceled) = (ended["counts"]["succeeded"].as_i64(), ended["counts"]["canceled"].as_i64());
        let (done, canceled) = (done.unwrap(), canceled.unwrap());
        assert!(canceled > 0 && done + canceled == 35, "{done} and {canceled}");
        app.assert_charged(done).await;
    }

    async fn keys_are_of_batches_and_of_analyses_together(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let batch = id(&app.batch(CREATE, &[key("both")], &images(["cat"])).await);
        assert_eq!(app.analyze(b"cat0", &[key("both")]).await.code(), "idempotency_key_reused");
        let shown = app.read("/v1/idempotency-keys/both").await;
        assert_eq!((&shown["batch"], &shown["job"]), (&json!(batch), &json!(null)));
        app.batch_end(&batch).await;
        assert_eq!(app.read("/v1/idempotency-keys/both").await["state"], "answered");
        assert_eq!(app.analyze(b"cat0", &[key("one")]).await.status, 200);
        assert_eq!(app.batch(CREATE, &[key("one")], &images(["cat"])).await.code(), "idempotency_key_reused");
        let other = app.batch(CREATE, &[key("both")], &images(["cat", "cat"])).await;
        assert_eq!(other.code(), "idempotency_key_reused");
        let line = "POST /v1/batches?features=objects&priority=1";
        assert_eq!(app.batch(line, &[key("both")], &images(["cat"])).await.code(), "idempotency_key_reused");
        let document = json!({"features": ["objects"], "items": [item("i0", b"cat0")]}).to_string();
        let same = app.ask("POST /v1/batches", &[JSON, key("both")], document.as_bytes()).await;
        assert_eq!((same.status, same.header("idempotent-replayed")), (202, Some("true")), "another form");
    }

    async fn a_crash_loses_nothing_and_repeats_nothing(setup: Setup) {
        let access = setup.access.clone();
        let same = || Setup { access: access.clone(), ..Setup::default() };
        let mut app = TestApp::set_up(setup).await;
        // While it is read: nothing of it is there afterwards.
        let sent: Vec<_> = (0..150).map(|number| format!("wait{number}").into_bytes()).collect();
        let body = lines(&views(&sent));
        let whole = request(CREATE, &[LINES, key("half")], &body);
        let mut wire = app.open().await;
        wire.send(&whole[..whole.len() - 20]).await;
        while app.seen.recv().await.unwrap().bytes != "wait148" {}
        let mut app = app.crash_and_restart(same()).await;
        assert_eq!(app.read("/v1/batches").await["data"], json!([]));
        assert_eq!(app.read("/v1/idempotency-keys/half").await["state"], "unused");

        // While items are fed and run: each is done once.
        let batch = id(&app.batch(CREATE, &[key("half")], &sent).await);
        app.running.recv().await;
        let app = app.crash_and_restart(same()).await;
        let again = app.batch(CREATE, &[key("half")], &sent).await;
        assert_eq!((id(&again), again.header("idempotent-replayed")), (batch.clone(), Some("true")));
        let ended = app.released_until_the_end(&batch).await;
        assert_eq!((&ended["status"], &ended["counts"]["succeeded"]), (&json!("completed"), &json!(150)));
        app.assert_charged(150).await;
        // Its end was told once, and a crash does not tell it again.
        let app = app.crash_and_restart(same()).await;
        let told = app.store.events((app.project, Mode::Live), 0, 500).await.unwrap();
        assert_eq!(told.iter().filter(|event| event.kind.name() == "batch.completed").count(), 1);
        assert_eq!(told.len(), 151);
        app.assert_charged(150).await;
    }

    async fn limits_set_the_pace_and_lose_nothing(setup: Setup) {
        let limits = Limits([(Policy::ConcurrentJobs, 2), (Policy::UnitsPerMinute, 5)].into());
        let mut quotas = QuotaSettings::default();
        quotas.plans.insert("standard".to_owned(), limits);
        let app = TestApp::set_up(Setup { quotas, ..setup }).await;
        let batch = id(&app.batch(CREATE, &[key("k1")], &images(["cat"; 7])).await);
        app.batch_until(&batch, |batch| batch["counts"]["succeeded"] == 4).await;
        // It leaves a fifth to calls that somebody waits for.
        assert_eq!(app.analyze(b"dog", &[key("k2")]).await.status, 200);
        assert_eq!(app.analyze(b"fox", &[key("k3")]).await.status, 429);
        app.clock.advance(SignedDuration::from_mins(1));
        let ended = app.batch_end(&batch).await;
        assert_eq!((&ended["status"], &ended["counts"]["succeeded"]), (&json!("completed"), &json!(7)));
        app.assert_charged(8).await;
    }

    async fn a_batch_leaves_a_job_at_once_to_who_waits_for_an_answer(setup: Setup) {
        let limits = Limits([(Policy::ConcurrentJobs, 2)].into());
        let mut quotas = QuotaSettings::default();
        quotas.plans.insert("standard".to_owned(), limits);
        let app = TestApp::set_up(Setup { quotas, ..setup }).await;
        let batch = id(&app.batch(CREATE, &[key("k1")], &images(["wait"; 5])).await);
        app.batch_until(&batch, |batch| batch["counts"]["processing"] == 1).await;
        assert_eq!(app.analyze(b"dog", &[key("k2")]).await.status, 200);
        assert_eq!(app.released_until_the_end(&batch).await["counts"]["succeeded"], 5);
        app.assert_charged(6).await;
    }

    async fn a_key_that_is_held_up_holds_up_no_other(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let limits = Limits([(Policy::UnitsPerMinute, 1)].into());
        let order = KeyOrder { limits, ..KeyOrder::new(Mode::Live, "slow") };
        let slow = app.keys.create(app.project, order).await.unwrap();
        let slow = bearer(slow.secret.reveal());
        let headers = [(slow.0, slow.1.as_str()), key("k1")];
        let held = id(&app.batch(&format!("{CREATE}&priority=1"), &headers, &images(["cat"; 40])).await);
        app.batch_until(&held, |batch| batch["counts"]["succeeded"] == 1).await;
        let other = id(&app.batch(CREATE, &[key("k2")], &images(["dog"; 5])).await);
        assert_eq!(app.batch_end(&other).await["counts"]["succeeded"], 5);
        assert_eq!(app.read(&format!("/v1/batches/{held}")).await["counts"]["pending"], 39);
    }

    async fn what_an_item_asks_replaces_what_the_batch_asks(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let (mut plain, mut several) = (item("plain", b"cat"), item("several", b"three"));
        several["pipeline"] = signs(&json!({}));
        let said = r#""features": ["objects"], "parameters": {"objects": {"min_confidence": 0.5}}"#;
        let document = format!("{{{said}, \"items\": [{several}]}}");
        let batch = id(&app.ask("POST /v1/batches", &[JSON, key("k1")], document.as_bytes()).await);
        assert_eq!(app.batch_end(&batch).await["counts"]["succeeded"], 1);
        app.assert_charged(4).await;
        plain["features"] = json!(["objects"]);
        let document = format!("{{\"pipeline\": {}, \"items\": [{plain}]}}", signs(&json!({})));
        let batch = id(&app.ask("POST /v1/batches", &[JSON, key("k2")], document.as_bytes()).await);
        assert_eq!(app.batch_end(&batch).await["counts"]["succeeded"], 1);
        app.assert_charged(5).await;
    }

    async fn an_item_larger_than_a_limit_fails_and_the_others_go_on(setup: Setup) {
        let limits = Limits([(Policy::UnitsPerMinute, 1)].into());
        let mut quotas = QuotaSettings::default();
        quotas.plans.insert("standard".to_owned(), limits);
        let app = TestApp::set_up(Setup { quotas, ..setup }).await;
        let mut large = item("large", b"cat0");
        large["features"] = json!(["objects", "faces"]);
        let body = format!("{large}\n{}\n", item("small", b"cat1"));
        let batch = id(&app.ask(CREATE, &[LINES, key("k1")], body.as_bytes()).await);
        let ended = app.batch_end(&batch).await;
        assert_eq!((&ended["counts"]["succeeded"], &ended["counts"]["failed"]), (&json!(1), &json!(1)));
        let failed = app.lines_of(&format!("/v1/batches/{batch}/errors")).await;
        assert_eq!((names(&failed), failed[0]["error"]["code"].as_str()), (vec!["large"], Some("quota_exhausted")));
        assert_eq!(failed[0]["error"]["params"]["found"], 2);
        app.assert_charged(1).await;
    }

    async fn others_see_nothing_of_it(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let batch = id(&app.batch(CREATE, &[key("k1")], &images(["cat"])).await);
        let issued = app.keys.create(app.project, KeyOrder::new(Mode::Test, "sandbox")).await.unwrap();
        let headers = bearer(issued.secret.reveal());
        let headers = [(headers.0, headers.1.as_str())];
        for route in ["", "/items", "/results", "/errors", "/events"] {
            let answer = app.ask(&format!("GET /v1/batches/{batch}{route}"), &headers, b"").await;
            assert_eq!((answer.status, answer.code()), (404, "batch_not_found"), "{route}");
        }
        for act in ["cancel", "retry"] {
            let answer = app.ask(&format!("POST /v1/batches/{batch}:{act}"), &headers, b"").await;
            assert_eq!(answer.code(), "batch_not_found", "{act}");
        }
        let job = app.batch_end(&batch).await;
        assert_eq!(job["status"], "completed");
        let image = app.read(&format!("/v1/batches/{batch}/items")).await["data"][0]["image_id"].clone();
        let line = json!({"custom_id": "a", "image_id": image}).to_string();
        let theirs = app.ask(CREATE, &[&headers[..], &[LINES, key("k1")]].concat(), line.as_bytes()).await;
        assert_eq!(theirs.json()["counts"]["failed"], 1, "another mode's image is none");
        let ours = app.ask(CREATE, &[LINES, key("k2")], line.as_bytes()).await;
        let ours = app.batch_end(&id(&ours)).await;
        assert_eq!(ours["counts"]["succeeded"], 1, "{ours}");
    }

    async fn a_stream_tells_of_each_item_and_of_the_end_and_goes_on(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let batch = id(&app.batch(CREATE, &[key("k1")], &images(["cat", "cat", "fail"])).await);
        let read = async |headers: &[(&str, &str)]| {
            let mut wire = app.open().await;
            wire.send(&request(&format!("GET /v1/batches/{batch}/events"), headers, b"")).await;
            let answer = wire.answer().await;
            if answer.status == 200 {
                (200, String::from_utf8(all(&mut wire).await).unwrap())
            } else {
                (answer.status, String::new())
            }
        };
        let (_, text) = read(&[]).await;
        let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(ids, ["1", "2", "3", "4"], "{text}");
        assert_eq!(text.matches("event: job.succeeded").count(), 2, "{text}");
        assert_eq!(text.matches("event: batch.completed").count(), 1, "{text}");
        assert!(text.contains(r#""object":"batch","status":"completed""#), "{text}");
        let (_, rest) = read(&[("Last-Event-ID", "2")]).await;
        assert!(rest.contains("id: 3\n") && rest.contains("id: 4\n") && !rest.contains("id: 2\n"), "{rest}");
        assert_eq!(read(&[("Last-Event-ID", "4")]).await.0, 204);
    }

    async fn what_is_old_is_removed_with_its_items(setup: Setup) {
        let batches = BatchSettings::default();
        let app = TestApp::set_up(setup).await;
        let batch = id(&app.batch(CREATE, &[key("k1")], &images(["cat"])).await);
        app.batch_end(&batch).await;
        app.clock.advance(SignedDuration::try_from(batches.retention).unwrap() - SignedDuration::from_secs(1));
        app.batches.remove_old().await.unwrap();
        assert_eq!(app.read(&format!("/v1/batches/{batch}")).await["status"], "completed");
        app.clock.advance(SignedDuration::from_hours(2));
        app.batches.remove_old().await.unwrap();
        let gone = app.ask(&format!("GET /v1/batches/{batch}"), &[], b"").await;
        assert_eq!(gone.code(), "batch_not_found");
        app.jobs.remove_old().await.unwrap();
        app.assert_charged(1).await;
    }

    async fn a_batch_does_not_hold_up_who_waits_for_an_answer(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let sent: Vec<_> = (0..40).map(|number| format!("wait{number}").into_bytes()).collect();
        let batch = id(&app.batch(CREATE, &[key("k1")], &sent).await);
        // One more than the engine has threads, of six workers.
        for _ in 0..3 {
            assert_eq!(app.running.recv().await, Some(true));
        }
        assert_eq!(app.analyze(b"cat", &[key("k2")]).await.status, 200);
        assert_eq!(app.act(&batch, "cancel").await.status, 200);
        app.batch_end(&batch).await;
        app.assert_charged(1).await;
    }

    async fn endpoints_are_told_of_the_batch_and_not_of_each_item(setup: Setup) {
        let (app, mut receiver) = (TestApp::set_up(setup).await, Receiver::start().await);
        let order = json!({"url": receiver.url()}).to_string();
        assert_eq!(app.ask("POST /v1/webhook-endpoints", &[JSON], order.as_bytes()).await.status, 201);
        assert_eq!(app.ask("POST /v1/webhook-secret:rotate", &[JSON], b"{}").await.status, 201);
        let line = format!("POST /v1/batches?features=objects&webhook_url={}/own", receiver.url());
        let batch = id(&app.batch(&line, &[key("k1")], &images(["cat", "cat", "cat"])).await);
        let mut targets = Vec::new();
        for _ in 0..2 {
            let message = receiver.next().await;
            let told = message.json();
            assert_eq!((&told["type"], &told["data"]["id"]), (&json!("batch.completed"), &json!(batch)));
            assert_eq!(told["data"]["counts"]["succeeded"], 3);
            targets.push(message.target.clone());
            message.answer(200);
        }
        targets.sort();
        assert_eq!(targets, ["POST /hook HTTP/1.1", "POST /hook/own HTTP/1.1"]);
        assert!(receiver.come().is_none());
        let stream = app.store.events((app.project, Mode::Live), 0, 10).await.unwrap();
        assert_eq!(stream.len(), 4, "the project's stream tells of all");
    }

    async fn an_image_that_was_analyzed_before_costs_nothing_where_the_project_wants_it(setup: Setup) {
        let mut setup = setup;
        setup.rules.dedup.policy = DedupPolicy::Reuse;
        let mut app = TestApp::set_up(setup).await;
        let first = id(&app.batch(CREATE, &[key("k1")], &images(["cat", "cat"])).await);
        app.batch_end(&first).await;
        let line = "POST /v1/batches?features=objects&priority=1";
        let second = id(&app.batch(line, &[key("k2")], &images(["cat", "cat", "cat"])).await);
        let ended = app.batch_end(&second).await;
        assert_eq!(ended["counts"]["succeeded"], 3);
        let found = app.lines_of(&format!("/v1/batches/{second}/results")).await;
        let seen: Vec<_> = found.iter().map(|item| item["job"]["dedup"]["status"].as_str().unwrap()).collect();
        assert_eq!(seen, ["reused", "reused", "unique"]);
        assert_eq!(app.runs(), 3);
        app.assert_charged(3).await;
    }

    async fn images_that_wait_are_kept(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let mut sent: Vec<_> = (0..30).map(|number| format!("wait{number}").into_bytes()).collect();
        sent.push([b"cat".as_slice(), &vec![b'x'; 140 << 10]].concat());
        let line = "POST /v1/batches?features=objects&expires_in=604800";
        let batch = id(&app.batch(line, &[key("k1")], &sent).await);
        app.clock.advance(SignedDuration::from_hours(7 * 24) - SignedDuration::from_secs(60));
        app.jobs.remove_old().await.unwrap();
        let ended = app.released_until_the_end(&batch).await;
        assert_eq!(ended["counts"]["succeeded"], 31, "{ended}");
    }
}

#[tokio::test]
async fn three_forms_are_read_alike() {
    let app = TestApp::start().await;
    let document = json!({
        "features": ["objects"], "parameters": {"objects": {"min_confidence": 0.5, "max_results": 3}},
        "items": [item("a", b"cat a"), {
            "custom_id": "b", "image_base64": item("", b"cat b")["image_base64"],
            "features": ["objects", "labels"], "parameters": {"objects": {"min_confidence": 0.25}},
            "idempotency_key": "\"own\""
        }]
    });
    let (settings, items) = (&document["parameters"], &document["items"]);
    // Its members in another order than a map has.
    let pretty = format!(
        "{{\n \"features\": [\"objects\"] ,\n \"parameters\" : {},\n \"items\": {}\n}}\n",
        serde_json::to_string_pretty(settings).unwrap(),
        serde_json::to_string_pretty(items).unwrap()
    );
    let json = id(&app.ask("POST /v1/batches", &[JSON, key("k1")], pretty.as_bytes()).await);
    let own = br#"{"custom_id": "b", "features": ["objects", "labels"], "parameters": {"objects": {"min_confidence": 0.25}},
        "idempotency_key": "own"}"#;
    let parts = form(&[
        ("name=\"features\"", b"objects"),
        ("name=\"objects.min_confidence\"", b"0.5"),
        ("name=\"objects.max_results\"", b"3"),
        ("name=\"image\"; filename=\"a\"", b"cat a"),
        ("name=\"item\"", own),
        ("name=\"image\"; filename=\"other.jpg\"", b"cat b"),
    ]);
    let form = app.ask("POST /v1/batches", &[FORM, key("k1")], &parts).await;
    assert_eq!((form.status, form.header("idempotent-replayed")), (202, Some("true")), "the same is asked");
    assert_eq!(id(&form), json);
    let text: String =
        document["items"].as_array().unwrap().iter().map(|item| item.to_string() + "\r\n\r\n").collect();
    let line = "POST /v1/batches?features=objects&objects.min_confidence=0.5&objects.max_results=3";
    let lines = app.ask(line, &[LINES, key("k1")], text.as_bytes()).await;
    assert_eq!(lines.header("idempotent-replayed"), Some("true"));
    let ended = app.batch_end(&json).await;
    assert_eq!(ended["counts"]["succeeded"], 2);
    app.assert_charged(3).await;
    // And so is a call for one of its images.
    let line = "POST /v1/analyze?features=objects,labels&objects.min_confidence=0.25";
    let single = app.ask(line, &[FORM, key("own")], &image(b"cat b")).await;
    assert_eq!(
        (single.status, single.header("idempotent-replayed")),
        (200, Some("true")),
        "{}",
        String::from_utf8_lossy(&single.body)
    );
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn what_is_wrong_with_a_request_refuses_all_of_it_with_its_place() {
    let app = TestApp::set_up(Setup {
        batches: BatchSettings { max_items: 3, ..BatchSettings::default() },
        ..Setup::default()
    })
    .await;
    let image = item("", b"cat")["image_base64"].as_str().unwrap().to_owned();
    let line = |name: &str| format!(r#"{{"custom_id": "{name}", "image_base64": "{image}"}}"#);
    let keyed = |name: &str, key: &str| {
        format!(r#"{{"custom_id": "{name}", "idempotency_key": {key}, "image_base64": "{image}"}}"#)
    };
    let lines = |lines: &[String]| lines.join("\n").into_bytes();
    let document = |items: &str| format!(r#"{{"features": ["objects"], "items": {items}}}"#).into_bytes();
    let twice = lines(&[line("a"), String::new(), line("b"), line("a")]);
    let cases: Vec<(_, Vec<u8>, _, _)> = vec![
        (LINES, twice, "duplicate_custom_id", "line 4"),
        (JSON, document(&format!("[{0},{0}]", line("a"))), "duplicate_custom_id", "/items/1"),
        (
            LINES,
            lines(&[keyed("a", r#""k""#), keyed("b", r#""\"k\"""#)]),
            "duplicate_idempotency_key",
            "line 2",
        ),
        (LINES, lines(&[line("a"), keyed("b", r#""""#)]), "idempotency_key_invalid", "line 2"),
        (JSON, document(&format!("[{}]", keyed("a", r#""k k""#))), "idempotency_key_invalid", "/items/0"),
        (JSON, document(&format!("[{}]", keyed("a", "7"))), "invalid_parameter", "/items/0"),
        (
            JSON,
            format!(r#"{{"idempotency_key": "k", "items": [{}]}}"#, line("a")).into_bytes(),
            "unknown_parameter",
            "",
        ),
        (LINES, lines(&[line("a"), r#"{"custom_id": "b","#.to_owned()]), "invalid_json", "line 2"),
        (LINES, lines(&[format!(r#"{{"image_base64": "{image}"}}"#)]), "invalid_parameter", "line 1"),
        (LINES, lines(&[r#"{"custom_id": "a"}"#.to_owned()]), "missing_image", "line 1"),
        (LINES, lines(&["a", "b", "c", "d"].map(line)), "payload_too_large", ""),
        (LINES, b"\n\n".to_vec(), "invalid_parameter", ""),
        (JSON, document("[]"), "invalid_parameter", ""),
        (JSON, br#"{"features": ["objects"]}"#.to_vec(), "invalid_parameter", ""),
        (
            JSON,
            format!(r#"{{"items": [{}], "features": ["objects"]}}"#, line("a")).into_bytes(),
            "invalid_parameter",
            "/items/0",
        ),
        (JSON, document(&format!("[{} {}]", line("a"), line("b"))), "invalid_json", "/items/1"),
        (JSON, document(&format!("[{}", line("a"))), "invalid_json", "/items/1"),
        (JSON, document(r#"[{"custom_id": "a", "image_base64": "*"}]"#), "invalid_base64", "/items/0"),
        (
            JSON,
            document(&format!(r#"[{{"custom_id": "a", "image_base64": "{image}", "detail": "huge"}}]"#)),
            "invalid_parameter",
            "/items/0",
        ),
        (
            JSON,
            document(&format!(
                r#"[{{"custom_id": "a", "image_base64": "{image}", "webhook_url": "https://a/"}}]"#
            )),
            "invalid_parameter",
            "/items/0",
        ),
        (
            FORM,
            form(&[("name=\"features\"", b"objects"), ("name=\"image\"", b"cat")]),
            "invalid_parameter",
            "part 2",
        ),
        (
            FORM,
            form(&[("name=\"a\"; filename=\"1\"", b"cat"), ("name=\"a\"; filename=\"2\"", b"cat")]),
            "invalid_parameter",
            "part 1",
        ),
    ];
    for (form, body, code, place) in cases {
        let query = if form == LINES { "?features=objects" } else { "" };
        let refused = app.ask(&format!("POST /v1/batches{query}"), &[form, key("k")], &body).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(refused.code(), code, "{text}: {}", String::from_utf8_lossy(&refused.body));
        let found = refused.json()["params"]["place"].as_str().unwrap_or_default().to_owned();
        if code == "idempotency_key_invalid" {
            let pointer = refused.json()["errors"][0]["pointer"].as_str().unwrap_or_default().to_owned();
            assert!(pointer.starts_with(place) && pointer.ends_with("/idempotency_key"), "{pointer}");
        }
        if code.starts_with("duplicate_") {
            assert_eq!(refused.json()["params"]["second"], place, "{text}");
        } else {
            assert_eq!(found, place, "{text}");
        }
    }
    for wrong in ["priority=101", "max_failure_rate=1.5", "expires_in=1", "expires_in=x", "colour=red"] {
        let line = format!("POST /v1/batches?features=objects&{wrong}");
        let refused = app.ask(&line, &[LINES, key("k")], &lines(&[line_of("a", &image)])).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    assert_eq!(app.read("/v1/batches").await["data"], json!([]), "nothing of it is there");
    assert_eq!(app.read("/v1/idempotency-keys/k").await["state"], "unused", "and the key is free");
}

fn line_of(name: &str, image: &str) -> String {
    format!(r#"{{"custom_id": "{name}", "image_base64": "{image}"}}"#)
}

#[tokio::test]
async fn two_servers_feed_a_batch_and_each_item_is_done_once() {
    let schema = Schema::new();
    let mut first = TestApp::set_up(Setup::on(&schema)).await;
    let mut second = TestApp::set_up(Setup { clock: Some(first.clock.clone()), ..Setup::on(&schema) }).await;
    let sent: Vec<_> = (0..200).map(|number| format!("cat{number}").into_bytes()).collect();
    let batch = id(&first.batch(CREATE, &[key("k1")], &sent).await);
    let ended = second.batch_end(&batch).await;
    assert_eq!((&ended["status"], &ended["counts"]["succeeded"]), (&json!("completed"), &json!(200)));
    assert_eq!(first.runs() + second.runs(), 200);
    first.assert_charged(200).await;
    let told = first.store.events((first.project, Mode::Live), 0, 500).await.unwrap();
    assert_eq!(told.iter().filter(|event| event.kind.name().starts_with("batch.")).count(), 1);
}

#[tokio::test]
async fn a_twin_of_one_that_is_being_read_is_told_so_and_hanging_up_leaves_nothing() {
    let mut app = TestApp::start().await;
    let body = lines(&[b"cat1", b"cat2"]);
    let whole = request(CREATE, &[LINES, key("k1")], &body);
    let mut wire = app.open().await;
    wire.send(&whole[..whole.len() - 10]).await;
    assert_eq!(app.seen.recv().await.unwrap().bytes, "cat1");
    let twin = app.ask(CREATE, &[LINES, key("k1")], &body).await;
    assert_eq!((twin.status, twin.code()), (409, "idempotency_key_in_use"));
    drop(wire);
    loop {
        let answer = app.ask(CREATE, &[LINES, key("k1")], &body).await;
        if answer.status == 202 {
            assert_eq!(answer.header("idempotent-replayed"), None);
            break;
        }
        assert_eq!(answer.status, 409);
    }
    assert_eq!(app.read("/v1/batches").await["data"].as_array().unwrap().len(), 1);
}
