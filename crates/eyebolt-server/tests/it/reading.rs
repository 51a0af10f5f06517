//! Routes that only read.

use insta::assert_json_snapshot;
use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn models_by_snapshot_name_and_alias() {
    let app = TestApp::start().await;
    let list = app.ask("GET /v1/models", &[], b"").await;
    assert_json_snapshot!(list.whole());
    let model = &list.json()["data"][0];
    for name in ["cats@1", "cats", "objects%2Fdefault"] {
        let answer = app.ask(&format!("GET /v1/models/{name}"), &[], b"").await;
        assert_eq!((answer.status, &answer.json()), (200, model), "{name}");
    }
}

#[tokio::test]
async fn alive_and_ready() {
    let app = TestApp::start().await;
    let alive = app.ask("GET /healthz", &[], b"").await;
    assert_eq!(alive.json(), json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}));
    let ready = app.ask("GET /readyz", &[], b"").await;
    assert_eq!(ready.json(), json!({"status": "ready", "features": ["objects"]}));
}

#[tokio::test]
async fn an_error_page_for_programs_and_for_browsers() {
    let app = TestApp::start().await;
    let row = app.ask("GET /v1/errors/too_dark", &[], b"").await.json();
    let page = row["page"].as_str().expect("a page");
    assert_eq!(row["url"], "/docs/errors/too_dark");
    let media_types = [
        ("*/*", "text/markdown; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; charset=utf-8"),
    ];
    for (accept, media_type) in media_types {
        let answer = app.ask("GET /docs/errors/too_dark", &[("Accept", accept)], b"").await;
        assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, media_type));
        assert_eq!(String::from_utf8_lossy(&answer.body), page);
    }
}
