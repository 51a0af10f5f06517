//! The OpenAPI document against itself, and against its copy in the repository.

use std::{collections::BTreeSet, fs, path::Path};

use eyebolt_server::{HttpSettings, http::document};
use eyebolt_types::ErrorCode;
use serde_json::Value;

use crate::app::TestApp;

fn described() -> Value {
    serde_json::to_value(document()).expect("JSON")
}

/// Path, method and operation.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = ["get", "post", "put", "patch", "delete"];
    paths
        .iter()
        .flat_map(|(path, item)| methods.map(|method| (format!("{method} {path}"), &item[method])))
        .filter(|(_, operation)| operation.is_object())
        .collect()
}

#[test]
fn every_operation_is_described() {
    let document = described();
    let mut ids = BTreeSet::new();
    let operations = operations(&document);
    assert_eq!(operations.len(), 61);
    for (name, operation) in operations {
        let id = operation["operationId"].as_str().unwrap_or_default();
        assert!(!id.is_empty() && ids.insert(id.to_owned()), "{name}: operationId {id:?}");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{name}: one tag");
        assert!(operation["summary"].is_string(), "{name}: summary");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let described = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{name}: {}", parameter["name"]);
        }
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let place = format!("{name} {status}");
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{place}");
            assert!(response["headers"]["X-Request-Id"].is_object(), "{place}");
            let content = response["content"].as_object().is_some_and(|content| !content.is_empty());
            assert_eq!(content, status != "204", "{place}");
            if status.as_str() >= "400" {
                check_error(&place, status, response);
            }
        }
        let statuses: Vec<_> = ["500", "503", "504"]
            .into_iter()
            .filter(|status| operation["responses"][status].is_null())
            .collect();
        assert_eq!(statuses, Vec::<&str>::new(), "{name}: errors of the edge");
    }
}

#[test]
fn what_is_answered_fits_what_is_described() {
    let schemas = &described()["components"]["schemas"];
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(schemas["ErrorCode"]["enum"], serde_json::json!(codes));
    // Before anything is found a job's results are of both kinds.
    let results = &schemas["JobResults"];
    assert_eq!((results["anyOf"].as_array().map(Vec::len), &results["oneOf"]), (Some(2), &Value::Null));
    assert!(schemas["Results"].is_object() && schemas["StepFound"].is_object());
}

fn check_error(place: &str, status: &str, response: &Value) {
    let codes: Vec<ErrorCode> =
        serde_json::from_value(response["headers"]["X-Error-Code"]["schema"]["enum"].clone()).expect("codes");
    let content = &response["content"]["application/problem+json"];
    assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{place}");
    assert!(response["headers"]["X-Should-Retry"].is_object(), "{place}");
    let retryable = codes.iter().any(|code| code.row().retryable);
    assert_eq!(response["headers"]["Retry-After"].is_object(), retryable, "{place}: Retry-After");
    for code in codes {
        assert_eq!(code.row().status.to_string(), status, "{place}: {code}");
        assert_eq!(content["examples"][code.as_str()]["value"]["code"], code.as_str(), "{place}: example");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("a reference within the document");
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                members.values().for_each(|member| check(member, document));
            }
            Value::Array(items) => items.iter().for_each(|item| check(item, document)),
            _ => {}
        }
    }
    let document = described();
    check(&document, &document);
}

/// Every code of the catalogue can be met somewhere, except the two that only the router speaks: they belong to no
/// operation.
#[test]
fn every_code_belongs_to_an_operation() {
    let document = described();
    let mut met = BTreeSet::new();
    for (_, operation) in operations(&document) {
        for response in operation["responses"].as_object().expect("responses").values() {
            let codes =
                response["headers"]["X-Error-Code"]["schema"]["enum"].as_array().into_iter().flatten();
            met.extend(codes.filter_map(Value::as_str).map(str::to_owned));
        }
    }
    let missing: Vec<_> = ErrorCode::ALL.iter().filter(|code| !met.contains(code.as_str())).collect();
    assert_eq!(missing, [&ErrorCode::MethodNotAllowed]);
}

/// Set `UPDATE_OPENAPI=1` to write the copy anew.
#[tokio::test]
async fn the_copy_in_the_repository_is_what_the_server_serves() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let text = serde_json::to_string_pretty(&document()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(&path, &text).expect("docs/ can be written");
    }
    let copy = fs::read_to_string(&path).unwrap_or_default();
    assert!(copy == text, "docs/openapi.json is old: run this test with UPDATE_OPENAPI=1");
    let served = TestApp::start().await.ask("GET /openapi.json", &[], b"").await;
    assert_eq!(served.json(), serde_json::from_str::<Value>(&copy).expect("JSON"));
}

/// The page for people leaves out no parameter, no route and no setting.
#[test]
fn the_page_about_the_api_is_complete() {
    let page = include_str!("../../../../docs/api.md");
    let document = described();
    let parameters = document["paths"]["/v1/analyze"]["post"]["parameters"].as_array().expect("parameters");
    let parameters =
        parameters.iter().map(|parameter| parameter["name"].as_str().expect("a name").to_owned());
    let routes = operations(&document).into_iter().map(|(name, _)| {
        let (method, path) = name.split_once(' ').expect("method and path");
        format!("{} {path}", method.to_uppercase())
    });
    for word in parameters.chain(routes) {
        assert!(page.contains(&format!("`{word}`")), "docs/api.md does not mention {word}");
    }
    let settings = serde_json::to_value(HttpSettings::default()).expect("JSON");
    for (name, default) in settings.as_object().expect("settings") {
        let default = default.as_str().map_or_else(|| default.to_string(), |text| format!("`{text}`"));
        let row = format!("| `{name}` | {default} |");
        assert!(page.contains(&row), "docs/api.md lacks {row}");
    }
}
