//! The admin API.

use eyebolt_server::{HttpSettings, access::AccessSettings};
use eyebolt_types::Mode;
use insta::assert_json_snapshot;
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use crate::{
    app::{KEY, TestApp},
    wire::{Answer, JSON, NO_KEY, bearer, form},
};

const TOKEN: &str = "a token that nobody guesses";

async fn start() -> TestApp {
    let access =
        AccessSettings { admin_token: TOKEN.into(), failures_per_minute: 3, ..AccessSettings::default() };
    TestApp::under(HttpSettings::default(), access).await
}

async fn ask(app: &TestApp, line: &str, body: &Value) -> Answer {
    let (name, value) = bearer(TOKEN);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    app.ask(line, &[JSON, (name, &value)], body.as_bytes()).await
}

/// The status that an analysis with this key gets.
async fn analyze(app: &TestApp, secret: &str) -> u16 {
    let (name, value) = bearer(secret);
    let headers = [("Content-Type", "multipart/form-data; boundary=edge"), (name, value.as_str())];
    let body = form(&[("name=\"image\"", b"cat")]);
    app.ask("POST /v1/analyze?features=objects", &headers, &body).await.status
}

/// The whole answer with ids and secrets made equal.
fn whole(answer: &Answer) -> Value {
    fn redact(value: &mut Value) {
        match value {
            Value::Object(members) => members.values_mut().for_each(redact),
            Value::Array(items) => items.iter_mut().for_each(redact),
            Value::String(text) => {
                for prefix in ["proj_", "key_", "eb_live_", "eb_test_"] {
                    if text.starts_with(prefix) && text.len() > 30 {
                        *text = format!("[{prefix}]");
                    }
                }
            }
            _ => {}
        }
    }
    let mut whole = answer.whole();
    redact(&mut whole);
    if let Some(members) = whole["body"].as_object_mut() {
        for member in ["hint", "instance"] {
            members.entry(member).and_modify(|value| *value = json!(format!("[{member}]")));
        }
        if let Some(key) = members.get_mut("key") {
            key["hint"] = json!("[hint]");
        }
    }
    whole
}

#[tokio::test]
async fn a_project_and_its_keys_from_the_first_to_the_last() {
    let app = start().await;
    let mut answers = Map::new();
    let made = ask(&app, "POST /admin/v1/projects", &json!({"name": " shop ", "mode": "test"})).await;
    answers.insert("create project".to_owned(), whole(&made));
    let (project, first) = (made.json()["project"]["id"].clone(), made.json()["key"].clone());
    let project = project.as_str().expect("an id");
    let listed = ask(&app, "GET /admin/v1/projects", &Value::Null).await;
    answers.insert("list projects".to_owned(), whole(&listed));

    let line = format!("POST /admin/v1/projects/{project}/keys");
    let order = json!({"name": "phone", "scopes": ["read", "analyze"], "expires_in": "90d"});
    let phone = ask(&app, &line, &order).await;
    answers.insert("create key".to_owned(), whole(&phone));
    let (id, secret) = (phone.json()["id"].clone(), phone.json()["secret"].clone());
    let (id, secret) = (id.as_str().expect("an id"), secret.as_str().expect("a secret"));
    assert_eq!(analyze(&app, secret).await, 200);

    let rotate = format!("POST /admin/v1/keys/{id}:rotate");
    let rotated = ask(&app, &rotate, &json!({"overlap": "0s"})).await;
    answers.insert("rotate".to_owned(), whole(&rotated));
    app.clock.advance(jiff::SignedDuration::from_secs(1));
    assert_eq!(analyze(&app, secret).await, 401, "no overlap was asked");
    let rotated = rotated.json();
    assert_eq!(analyze(&app, rotated["secret"].as_str().expect("a secret")).await, 200);
    answers.insert("rotate once more".to_owned(), whole(&ask(&app, &rotate, &Value::Null).await));

    let revoke = format!("POST /admin/v1/keys/{}:revoke", first["id"].as_str().expect("an id"));
    let revoked = ask(&app, &revoke, &Value::Null).await;
    answers.insert("revoke".to_owned(), whole(&revoked));
    assert_eq!(ask(&app, &revoke, &Value::Null).await.json()["revoked_at"], revoked.json()["revoked_at"]);
    assert_eq!(analyze(&app, first["secret"].as_str().expect("a secret")).await, 401);

    let keys = ask(&app, &format!("GET /admin/v1/projects/{project}/keys"), &Value::Null).await;
    let names: Vec<_> =
        keys.json()["data"].as_array().expect("a list").iter().map(|key| key["name"].clone()).collect();
    assert_eq!(names, ["first", "phone", "phone"]);
    let text = String::from_utf8_lossy(&keys.body).into_owned();
    assert!(!text.contains("eb_live_") && !text.contains("eb_test_"), "secrets are told once");
    assert_json_snapshot!(answers);
}

#[tokio::test]
async fn what_cannot_be_done_is_told_with_its_place() {
    let app = start().await;
    let nobody = "proj_0198f3a2c4d57e6f8a9b0c1d2e3f4051";
    let no_key = "key_0198f3a2c4d57e6f8a9b0c1d2e3f4051";
    let keys = format!("POST /admin/v1/projects/{}/keys", app.project);
    let mut answers = Map::new();
    for (line, body) in [
        ("POST /admin/v1/projects", json!({"name": "acme"})),
        ("POST /admin/v1/projects", json!({"name": ""})),
        ("POST /admin/v1/projects", json!({"name": nobody})),
        ("POST /admin/v1/projects", json!({"mode": "live"})),
        ("POST /admin/v1/projects", json!({"name": "x", "mode": "dead"})),
        ("POST /admin/v1/projects", json!({"name": "x", "colour": "red"})),
        (&keys, json!({"limits": {"requests_per_minute": -1}})),
        (&keys, json!({"limits": {"requests_per_year": 1}, "scopes": ["fly"], "colour": "red"})),
        (&keys, json!({"scopes": []})),
        (&keys, json!({"scopes": ["fly"]})),
        (&keys, json!({"expires_in": "soon"})),
        (&keys, json!({"expires_in": "-1h"})),
        (&keys, json!({"expires_in": "4000000d"})),
        (&format!("GET /admin/v1/projects/{nobody}/keys"), Value::Null),
        ("GET /admin/v1/projects/acme/keys", Value::Null),
        (&format!("POST /admin/v1/keys/{no_key}:revoke"), Value::Null),
        (&format!("POST /admin/v1/keys/{no_key}:rotate"), Value::Null),
        ("POST /admin/v1/keys/x:revoke", Value::Null),
        (&format!("PATCH /admin/v1/projects/{}", app.project), json!({"plan": "nope"})),
        ("GET /admin/v1/clients?project=acme&since=yesterday&limit=201", Value::Null),
        (&format!("POST /admin/v1/keys/{no_key}"), Value::Null),
    ] {
        let answer = ask(&app, line, &body).await;
        let line = line.replace(&app.project.to_string(), "[project]");
        let problem = answer.json();
        let short = json!({"status": answer.status, "code": problem["code"], "detail": problem["detail"],
            "errors": problem["errors"]});
        answers.insert(format!("{line} {body}"), short);
    }
    assert_json_snapshot!(answers);
}

#[tokio::test]
async fn without_the_token_there_is_no_admin_api() {
    let lines = ["GET /admin/v1/projects", "POST /admin/v1/projects", "POST /admin/v1/keys/x:revoke"];
    let off = TestApp::start().await;
    for line in lines {
        assert_eq!(off.ask(line, &[], b"").await.code(), "admin_api_off", "{line}");
    }
    let app = start().await;
    let mut answers = Map::new();
    answers.insert("no token".to_owned(), app.ask(lines[0], &[NO_KEY], b"").await.whole());
    // A project's key has the scope `admin`, and is no token.
    answers.insert("an API key".to_owned(), app.ask(lines[0], &[], b"").await.whole());
    assert_eq!(KEY.mode(), Mode::Live);
    for line in &lines[1..] {
        assert_eq!(app.ask(line, &[], b"{}").await.code(), "invalid_admin_token", "{line}");
    }
    let blocked = ask(&app, lines[0], &Value::Null).await;
    assert_eq!((blocked.status, blocked.code()), (429, "too_many_failed_attempts"), "guessing is slow");
    assert_json_snapshot!(answers);
}

#[tokio::test]
async fn a_key_gets_limits_of_its_own_and_hands_them_on() {
    let app = start().await;
    let made = ask(&app, "POST /admin/v1/projects", &json!({"name": "shop"})).await.json();
    let (id, secret) = (made["key"]["id"].as_str().unwrap(), made["key"]["secret"].as_str().unwrap());
    let key = |rest: &str| format!("PATCH /admin/v1/keys/{id}{rest}");
    assert_eq!(analyze(&app, secret).await, 200);
    let limited = ask(&app, &key(""), &json!({"limits": {"requests_per_minute": 0}})).await;
    assert_eq!((limited.status, &limited.json()["limits"]), (200, &json!({"requests_per_minute": 0})));
    app.clock.advance(SignedDuration::from_secs(2));
    assert_eq!(analyze(&app, secret).await, 429);
    assert_eq!(ask(&app, &key(""), &json!({})).await.json()["limits"], json!({"requests_per_minute": 0}));
    let rotated = ask(&app, &format!("POST /admin/v1/keys/{id}:rotate"), &json!({})).await.json();
    assert_eq!(rotated["limits"], json!({"requests_per_minute": 0}));
    assert_eq!(ask(&app, &key(""), &json!({"limits": {}})).await.json()["limits"], json!({}));
    app.clock.advance(SignedDuration::from_secs(2));
    assert_eq!(analyze(&app, secret).await, 200);
    for (wrong, status) in [
        (json!({"limits": {"requests_per_hour": 1}}), 400),
        (json!({"limits": {"requests_per_minute": -1}}), 400),
        (json!({"limits": {"bytes_per_day": u64::MAX}}), 400),
        (json!({"limit": {}}), 400),
    ] {
        assert_eq!(ask(&app, &key(""), &wrong).await.status, status, "{wrong}");
    }
    let unknown = ask(&app, "PATCH /admin/v1/keys/nonsense", &json!({"limits": {}})).await;
    assert_eq!((unknown.status, unknown.code()), (404, "key_not_found"));
}

#[tokio::test]
async fn whoever_lost_the_new_key_or_whose_key_ends_soon_rotates_all_the_same() {
    let app = start().await;
    let keys = format!("POST /admin/v1/projects/{}/keys", app.project);
    for (order, ends) in [
        (
            json!({"name": "soon", "expires_in": "12h"}),
            ("2026-01-02T15:04:05Z", json!("2026-01-02T16:04:05Z")),
        ),
        (json!({"name": "endless"}), ("2026-01-03T05:04:05Z", Value::Null)),
    ] {
        let made = ask(&app, &keys, &order).await.json();
        let rotate = format!("POST /admin/v1/keys/{}:rotate", made["id"].as_str().expect("an id"));
        app.clock.advance(SignedDuration::from_hours(1));
        // The first answer was lost.
        assert_eq!(ask(&app, &rotate, &json!({})).await.status, 201, "{order}");
        let again = ask(&app, &rotate, &json!({})).await;
        assert_eq!(again.status, 201, "{order}");
        assert_eq!(again.json()["expires_at"], ends.1, "it lasts as long as the old one was made for");
        for secret in [&made, &again.json()] {
            assert_eq!(analyze(&app, secret["secret"].as_str().expect("a secret")).await, 200);
        }
        let listed = ask(&app, &keys.replace("POST", "GET"), &Value::Null).await.json();
        let mut listed = listed["data"].as_array().expect("a list").iter();
        let old = listed.find(|key| key["id"] == made["id"]).expect("the old one");
        assert_eq!(old["expires_at"], ends.0);
    }
}
