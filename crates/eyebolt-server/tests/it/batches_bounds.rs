//! What a batch's body may cost others while it comes.

use eyebolt_server::quotas::QuotaSettings;
use eyebolt_types::{Limits, Policy};
use serde_json::{Value, json};

use crate::{
    app::{ANALYZE, Setup, TestApp},
    batches::{CREATE, LINES, id, item},
    wire::{Answer, FORM, JSON, form, image, key, request},
};

/// More than may stand between two items, and less.
const TOO_MUCH: usize = 70 << 10;
const MUCH: usize = 60 << 10;

fn refused(answer: &Answer, limit: &str) {
    let found = (answer.status, answer.json()["params"]["limit_name"].as_str().map(str::to_owned));
    assert_eq!(found, (413, Some(limit.to_owned())), "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test]
async fn what_stands_for_nothing_has_a_bound() {
    let app = TestApp::start().await;
    let (first, second) = (item("a", b"cat1"), item("b", b"cat2"));
    let (newlines, spaces) = ("\n".repeat(TOO_MUCH), " ".repeat(TOO_MUCH));
    for lines in [
        format!("{first}\n{newlines}{second}\n"),
        format!("{newlines}{first}\n{second}\n"),
        format!("{first}\n{second}\n{newlines}"),
        format!("{first}\n{spaces}\n{second}\n"),
    ] {
        refused(&app.ask(CREATE, &[LINES, key("k")], lines.as_bytes()).await, "max_blank_bytes");
    }
    for document in [
        format!("{spaces}{{\"features\": [\"objects\"], \"items\": [{first}, {second}]}}"),
        format!("{{\"features\": [\"objects\"],{spaces}\"items\": [{first}, {second}]}}"),
        format!("{{\"features\": [\"objects\"], \"items\": [{first},{spaces}{second}]}}"),
        format!("{{\"features\": [\"objects\"], \"items\": [{first}, {second}]}}{newlines}"),
    ] {
        refused(
            &app.ask("POST /v1/batches", &[JSON, key("k")], document.as_bytes()).await,
            "max_blank_bytes",
        );
    }
    let parts = form(&[("name=\"features\"", b"objects"), ("name=\"image\"; filename=\"a\"", b"cat1")]);
    // The parser has a first piece of it, which is not counted.
    let epilogue = newlines.repeat(2).into_bytes();
    let parts = [parts, epilogue.clone()].concat();
    refused(&app.ask("POST /v1/batches", &[FORM, key("k")], &parts).await, "max_epilogue_bytes");
    let single = [image(b"cat1"), epilogue].concat();
    refused(&app.ask(ANALYZE, &[FORM], &single).await, "max_epilogue_bytes");
    assert_eq!(app.read("/v1/batches").await["data"], json!([]), "nothing of it is there");
}

#[tokio::test]
async fn the_end_of_a_form_may_come_later_than_its_last_boundary() {
    let mut app = TestApp::start().await;
    let parts = form(&[("name=\"features\"", b"objects"), ("name=\"image\"; filename=\"a\"", b"cat1")]);
    let whole = request("POST /v1/batches", &[FORM, key("k")], &[&parts[..], b"end"].concat());
    let mut wire = app.open().await;
    wire.send(&whole[..whole.len() - 3]).await;
    assert_eq!(app.seen.recv().await.unwrap().bytes, "cat1");
    // The parser has found the last boundary by the time that another request is answered.
    assert_eq!(app.ask("GET /healthz", &[], b"").await.status, 200);
    wire.send(b"end").await;
    id(&wire.answer().await);
}

#[tokio::test]
async fn between_two_items_there_may_be_some() {
    let app = TestApp::start().await;
    let (items, blank) = (["a", "b", "c"].map(|name| item(name, name.as_bytes())), "\n".repeat(MUCH));
    let lines = items.each_ref().map(|item| format!("{blank}{item}\n")).concat();
    let batch = id(&app.ask(CREATE, &[LINES, key("lines")], lines.as_bytes()).await);
    assert_eq!(app.batch_end(&batch).await["counts"]["succeeded"], 3);
    let items = items.map(|item| format!("{blank}{item}")).join(",");
    let document = format!("{{\"features\": [\"objects\"], \"items\": [{items}]}}");
    id(&app.ask("POST /v1/batches", &[JSON, key("document")], document.as_bytes()).await);
}

#[tokio::test]
async fn bytes_of_a_day_are_taken_before_more_are_written_and_given_back_where_it_comes_to_nothing() {
    let plans = [("standard".to_owned(), Limits([(Policy::BytesPerDay, 100)].into()))];
    let quotas = QuotaSettings { plans: plans.into(), ..QuotaSettings::default() };
    let app = TestApp::set_up(Setup { quotas, ..Setup::default() }).await;
    let lines = |sizes: &[usize], rest: &str| {
        let line = |(number, size): (usize, &usize)| {
            item(&format!("i{number}"), &vec![b'c'; *size]).to_string() + "\n"
        };
        sizes.iter().enumerate().map(line).collect::<String>() + rest
    };
    // What comes behind the image that is too much is not looked at.
    let refused = app.ask(CREATE, &[LINES, key("k")], lines(&[101], "broken").as_bytes()).await;
    assert_eq!((refused.status, &refused.json()["params"]["limit_name"]), (429, &json!("bytes_per_day")));
    assert_eq!(
        app.ask(CREATE, &[LINES, key("k")], lines(&[80], "broken").as_bytes()).await.code(),
        "invalid_json"
    );
    // More altogether than a day has never gets in, however small each image is.
    let refused = app.ask(CREATE, &[LINES, key("k")], lines(&[60, 50], "").as_bytes()).await.json();
    assert_eq!(
        (&refused["code"], &refused["params"]["resets_at"]),
        (&json!("quota_exhausted"), &Value::Null)
    );
    assert_eq!(refused["params"]["found"], 110);
    id(&app.ask(CREATE, &[LINES, key("k")], lines(&[60, 30], "").as_bytes()).await);
    let refused = app.ask(CREATE, &[LINES, key("l")], lines(&[20], "broken").as_bytes()).await;
    assert_eq!(refused.status, 429, "they are spent");
    id(&app.ask(CREATE, &[LINES, key("l")], lines(&[10], "").as_bytes()).await);
}
