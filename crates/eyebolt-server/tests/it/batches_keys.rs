//! Items of batches that have idempotency keys: one namespace with calls, and with items of other batches.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{Setup, TestApp},
    batches::{CREATE, LINES, id, item},
    database::{Schema, on_both},
    pipelines::signs,
    wire::{Answer, FORM, JSON, image, key, request},
};

/// An item under a key that is its name.
fn keyed(name: &str, image: &str) -> Value {
    let mut item = item(name, image.as_bytes());
    item["idempotency_key"] = json!(name);
    item
}

fn lines(items: &[Value]) -> Vec<u8> {
    items.iter().map(|item| item.to_string() + "\n").collect::<String>().into_bytes()
}

impl TestApp {
    async fn keyed_batch(&self, own: &str, items: &[Value]) -> String {
        id(&self.ask(CREATE, &[LINES, key(own)], &lines(items)).await)
    }

    /// Its items, in their order.
    async fn items_of(&self, batch: &str) -> Vec<Value> {
        let page = self.read(&format!("/v1/batches/{batch}/items?limit=100")).await;
        page["data"].as_array().unwrap().clone()
    }

    async fn counted(&self, batch: &str, wanted: [u64; 3]) -> Value {
        let ended = self.batch_end(batch).await;
        let counts =
            ["succeeded", "failed", "canceled"].map(|state| ended["counts"][state].as_u64().unwrap());
        assert_eq!(counts, wanted, "{ended}");
        ended
    }

    /// How often answers were given again, by the statement of usage.
    async fn replays(&self) -> Value {
        let usage = self.read("/v1/usage").await;
        let lines = usage["data"].as_array().unwrap().iter();
        let lines: Vec<_> = lines.filter(|line| line["kind"] == "replay").collect();
        assert!(lines.iter().all(|line| line["units"] == 0), "{usage}");
        lines.iter().map(|line| line["count"].as_i64().unwrap()).sum::<i64>().into()
    }
}

fn is_replay(answer: &Answer) -> bool {
    answer.status == 200 && answer.header("idempotent-replayed") == Some("true")
}

on_both! {
    async fn a_later_call_is_answered_from_the_item_with_its_key(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let mut asks_more = keyed("b", "cat b");
        asks_more["parameters"] = json!({"objects": {"min_confidence": 0.3, "max_results": 7}});
        asks_more["detail"] = json!("high");
        let batch = app.keyed_batch("batch", &[keyed("a", "cat a"), asks_more, item("c", b"cat c")]).await;
        app.counted(&batch, [3, 0, 0]).await;
        let found = app.lines_of(&format!("/v1/batches/{batch}/results")).await;
        let keys: Vec<_> = found.iter().map(|item| item["idempotency_key"].clone()).collect();
        assert_eq!(keys, [json!("a"), json!("b"), json!(null)]);
        assert_eq!(app.runs(), 3);

        let single = app.analyze(b"cat a", &[key("a")]).await;
        assert!(is_replay(&single), "{}", String::from_utf8_lossy(&single.body));
        let job = found[0]["job_id"].as_str().unwrap();
        let shown = app.ask(&format!("GET /v1/jobs/{job}"), &[], b"").await;
        assert!(single.body == shown.body, "byte for byte");
        assert_eq!(single.header("original-request-id").map(str::to_owned), {
            let stored = app.store.answer(job.parse().unwrap()).await.unwrap().unwrap();
            Some(stored.request_id)
        });
        let body = json!({"features": ["objects"], "detail": "high", "image_base64": item("", b"cat b")["image_base64"],
            "parameters": {"objects": {"max_results": 7, "min_confidence": 0.3}}});
        let single = app.ask("POST /v1/analyze", &[JSON, key("\"b\"")], body.to_string().as_bytes()).await;
        assert!(is_replay(&single), "{}", String::from_utf8_lossy(&single.body));
        assert_eq!(app.analyze(b"cat other", &[key("a")]).await.code(), "idempotency_key_reused");
        assert_eq!(app.read("/v1/idempotency-keys/a").await["job"], json!(job));
        assert_eq!(app.runs(), 0);
        app.assert_charged(3).await;
    }

    async fn a_pipeline_is_the_same_request_in_an_item_and_alone(setup: Setup) {
        let app = TestApp::set_up(setup).await;
        let mut several = keyed("several", "three");
        several["pipeline"] = signs(&json!({}));
        let batch = id(&app.ask("POST /v1/batches", &[LINES, key("batch")], &lines(&[several])).await);
        app.counted(&batch, [1, 0, 0]).await;
        let body = json!({"pipeline": signs(&json!({})), "image_base64": item("", b"three")["image_base64"]});
        let single = app.ask("POST /v1/analyze", &[JSON, key("several")], body.to_string().as_bytes()).await;
        assert!(is_replay(&single), "{}", String::from_utf8_lossy(&single.body));
        app.assert_charged(4).await;
    }

    async fn an_item_with_a_used_key_has_its_job_or_fails_alone(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let first = app.analyze(b"cat a", &[key("a")]).await;
        let dark = app.analyze(b"dark", &[key("dark")]).await;
        assert_eq!((first.status, dark.code()), (200, "too_dark"));
        assert_eq!(app.analyze(b"cat b", &[key("b")]).await.status, 200);
        assert_eq!(app.runs(), 3);
        let sent = [keyed("a", "cat a"), keyed("b", "cat other"), keyed("dark", "dark"), keyed("batch", "cat"), keyed("new", "cat n")];
        let batch = app.keyed_batch("batch", &sent).await;
        app.counted(&batch, [2, 3, 0]).await;
        let items = app.items_of(&batch).await;
        assert_eq!((&items[0]["job_id"], &items[2]["job_id"]), (&json!(first.job()), &json!(dark.job())));
        let codes: Vec<_> = items.iter().map(|item| item["error"]["code"].as_str().unwrap_or("none")).collect();
        assert_eq!(codes, ["none", "idempotency_key_reused", "too_dark", "idempotency_key_reused", "none"]);
        assert_eq!((&items[1]["job_id"], &items[1]["error"]["status"]), (&json!(null), &json!(422)));
        let found = app.lines_of(&format!("/v1/batches/{batch}/results")).await;
        assert_eq!(found[0]["job"], first.json(), "what was answered then");
        assert_eq!(app.runs(), 1, "the new one alone");
        app.assert_charged(3).await;
        assert_eq!(app.replays().await, json!(2), "free, and in the statement");
        assert_eq!(app.act(&batch, "retry").await.code(), "batch_not_retryable");
    }

    async fn an_item_waits_for_a_call_that_runs_and_a_cancellation_leaves_it_alone(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let mut waits = app.begin(b"wait", &[key("a")]).await;
        assert_eq!(app.running.recv().await, Some(true));
        let canceled = app.keyed_batch("first", &[keyed("a", "wait")]).await;
        let joined = app.keyed_batch("second", &[keyed("a", "wait")]).await;
        for batch in [&canceled, &joined] {
            app.batch_until(batch, |batch| batch["counts"]["processing"] == 1).await;
        }
        assert_eq!(app.act(&canceled, "cancel").await.status, 200);
        app.counted(&canceled, [0, 0, 1]).await;
        assert_eq!(app.read("/v1/idempotency-keys/a").await["state"], "running", "the call goes on");
        app.release();
        let answer = waits.answer().await;
        assert_eq!(answer.status, 200);
        app.counted(&joined, [1, 0, 0]).await;
        assert_eq!(app.items_of(&joined).await[0]["job_id"], json!(answer.job()));
        let left = app.items_of(&canceled).await.remove(0);
        assert_eq!((&left["status"], &left["error"]["code"]), (&json!("canceled"), &json!("job_canceled")));
        assert_eq!(app.runs(), 0, "nothing ran but the call");
        app.assert_charged(1).await;
    }

    async fn an_item_that_waits_for_another_job_expires_with_its_batch(setup: Setup) {
        let mut setup = setup;
        setup.rules.jobs.deadline = std::time::Duration::from_hours(1);
        let mut app = TestApp::set_up(setup).await;
        let mut waits = app.begin(b"wait", &[key("a")]).await;
        assert_eq!(app.running.recv().await, Some(true));
        let line = format!("{CREATE}&expires_in=60");
        let batch = id(&app.ask(&line, &[LINES, key("batch")], &lines(&[keyed("a", "wait")])).await);
        app.batch_until(&batch, |batch| batch["counts"]["processing"] == 1).await;
        app.clock.advance(SignedDuration::from_secs(61));
        let ended = app.batch_end(&batch).await;
        assert_eq!((&ended["status"], &ended["counts"]["expired"]), (&json!("expired"), &json!(1)));
        app.release();
        assert_eq!(waits.answer().await.status, 200);
        assert_eq!(app.read(&format!("/v1/batches/{batch}")).await["counts"]["expired"], 1);
    }

    async fn a_call_joins_the_item_that_runs_under_its_key(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let batch = app.keyed_batch("batch", &[keyed("a", "wait")]).await;
        assert_eq!(app.running.recv().await, Some(true));
        let mut call = app.open().await;
        call.send(&request("POST /v1/analyze?features=objects", &[FORM, key("a")], &image(b"wait"))).await;
        app.read("/healthz").await;
        app.release();
        assert_eq!(call.answer().await.status, 200);
        app.counted(&batch, [1, 0, 0]).await;
        assert_eq!(app.runs(), 0);
        app.assert_charged(1).await;
    }

    async fn what_failed_under_a_key_is_run_again_by_the_item_that_has_it(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let first = app.analyze(b"fail", &[key("a")]).await;
        assert_eq!((first.status, app.runs()), (500, 1));
        app.mend();
        let batch = app.keyed_batch("batch", &[keyed("a", "fail")]).await;
        app.counted(&batch, [1, 0, 0]).await;
        assert_eq!((app.items_of(&batch).await[0]["job_id"].clone(), app.runs()), (json!(first.job()), 1));
        assert!(is_replay(&app.analyze(b"fail", &[key("a")]).await));
        app.assert_charged(1).await;
    }

    async fn a_failed_item_is_retried_under_its_key_once(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let one = app.keyed_batch("one", &[keyed("a", "fail"), keyed("b", "cat")]).await;
        app.counted(&one, [1, 1, 0]).await;
        assert_eq!(app.runs(), 2);
        app.mend();
        assert_eq!(app.act(&one, "retry").await.status, 202);
        app.batch_until(&one, |batch| batch["status"] == "completed" && batch["round"] == 2).await;
        app.counted(&one, [2, 0, 0]).await;
        assert_eq!(app.runs(), 1);
        assert!(is_replay(&app.analyze(b"fail", &[key("a")]).await));
        app.assert_charged(2).await;
    }

    async fn an_answer_that_is_no_longer_kept_fails_the_item(setup: Setup) {
        let kept = SignedDuration::try_from(setup.rules.idempotency.retention).unwrap();
        let app = TestApp::set_up(setup).await;
        assert_eq!(app.analyze(b"cat", &[key("a")]).await.status, 200);
        app.clock.advance(kept + SignedDuration::from_secs(1));
        let batch = app.keyed_batch("batch", &[keyed("a", "cat"), keyed("b", "cat")]).await;
        app.counted(&batch, [1, 1, 0]).await;
        let item = app.items_of(&batch).await.remove(0);
        assert_eq!((&item["error"]["code"], &item["error"]["status"]), (&json!("idempotency_key_expired"), &json!(410)));
        app.assert_charged(2).await;
    }

    async fn two_batches_with_the_same_keys_and_a_crash_do_each_once(setup: Setup) {
        let access = setup.access.clone();
        let mut app = TestApp::set_up(setup).await;
        let sent: Vec<_> = (0..40).map(|number| keyed(&format!("k{number}"), &format!("wait{number}"))).collect();
        let (one, two) = tokio::join!(app.keyed_batch("one", &sent), app.keyed_batch("two", &sent));
        for _ in 0..3 {
            assert_eq!(app.running.recv().await, Some(true));
        }
        app.release();
        let mut app = app.crash_and_restart(Setup { access, ..Setup::default() }).await;
        let again = app.ask(CREATE, &[LINES, key("one")], &lines(&sent)).await;
        assert_eq!((id(&again), again.header("idempotent-replayed")), (one.clone(), Some("true")));
        for batch in [&one, &two] {
            app.released_until_the_end(batch).await;
            app.counted(batch, [40, 0, 0]).await;
        }
        let jobs = async |batch: &str| -> Vec<Value> {
            app.items_of(batch).await.iter().map(|item| item["job_id"].clone()).collect()
        };
        assert_eq!(jobs(&one).await, jobs(&two).await, "they share every job");
        app.assert_charged(40).await;
        let single = app.analyze(b"wait7", &[key("k7")]).await;
        assert!(is_replay(&single));
        app.runs();
    }
}

#[tokio::test]
async fn two_servers_feed_two_batches_with_the_same_keys() {
    let schema = Schema::new();
    let mut first = TestApp::set_up(Setup::on(&schema)).await;
    let mut second = TestApp::set_up(Setup { clock: Some(first.clock.clone()), ..Setup::on(&schema) }).await;
    let sent: Vec<_> = (0..80).map(|number| keyed(&format!("k{number}"), &format!("cat{number}"))).collect();
    let one = first.keyed_batch("one", &sent);
    let backwards: Vec<_> = sent.iter().rev().cloned().collect();
    let two = second.keyed_batch("two", &backwards);
    let (one, two) = tokio::join!(one, two);
    first.counted(&one, [80, 0, 0]).await;
    second.counted(&two, [80, 0, 0]).await;
    assert_eq!(first.runs() + second.runs(), 80);
    first.assert_charged(80).await;
}
