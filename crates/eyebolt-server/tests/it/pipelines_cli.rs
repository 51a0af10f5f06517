//! Pipelines from the command line.

use std::{path::Path, process::Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    app::{KEY, TestApp},
    pipelines::{parts, signs},
    place::eyebolt,
    wire::JSON,
};

/// A folder with two images in a folder `photos`, and a request with a pipeline.
fn desk() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("photos")).expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("a file");
    write("photos/a.png", b"three");
    write("photos/b.png", b"many 2 signs");
    write("signs.json", json!({"pipeline": signs(&json!({}))}).to_string().as_bytes());
    folder
}

/// Runs a command against the server.
async fn asked(app: &TestApp, desk: &Path, arguments: &[&str]) -> Output {
    let url = format!("http://{}", app.address);
    let server = ["--server", url.as_str(), "--key", KEY.reveal()];
    eyebolt(desk, &[arguments, &server].concat()).await
}

/// The documents that it prints, line by line.
pub(crate) fn printed(output: &Output) -> Vec<Value> {
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

fn told(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn an_image_is_analyzed_with_a_pipeline_of_a_file_or_by_its_name() {
    let (app, desk) = (TestApp::start().await, desk());
    let analyze =
        async |more: &[&str]| asked(&app, desk.path(), &[&["analyze", "photos/a.png"], more].concat()).await;
    let whole = analyze(&["--pipeline", "signs.json", "--set", "detail=low"]).await;
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let job = printed(&whole).remove(0);
    assert_eq!((parts(&job, "read"), &job["pipeline"]["name"]), (vec!["succeeded"; 3], &Value::Null));
    assert_eq!(app.sitter.ordered(), ["find", "read/0", "read/1", "read/2"]);

    let named = json!({"name": "my-signs", "pipeline": signs(&json!({}))}).to_string();
    assert_eq!(app.ask("POST /v1/pipelines", &[JSON], named.as_bytes()).await.status, 201);
    for more in [["--pipeline", "my-signs@1"], ["--pipeline", "my-signs"], ["--set", "pipeline=my-signs"]] {
        let job = printed(&analyze(&more).await).remove(0);
        assert_eq!(
            (parts(&job, "read").len(), &job["pipeline"]["name"]),
            (3, &json!("my-signs@1")),
            "{more:?}"
        );
    }
    let unknown = printed(&analyze(&["--pipeline", "other"]).await).remove(0);
    assert_eq!(unknown["code"], "pipeline_not_found");

    let beside = analyze(&["--pipeline", "my-signs", "--features", "text"]).await;
    assert!(told(&beside).contains("cannot be used with"), "{}", told(&beside));
    let alone = eyebolt(desk.path(), &["analyze", "photos/a.png", "--pipeline", "my-signs"]).await;
    assert!(told(&alone).contains("--server"), "{}", told(&alone));
    std::fs::write(desk.path().join("signs.json"), r#"{"steps": [{"id": "a", "feature": "smell"}]}"#)
        .unwrap();
    let wrong = printed(&analyze(&["--pipeline", "signs.json"]).await).remove(0);
    assert_eq!(wrong["errors"][0]["pointer"], "/pipeline/steps/0/feature");
}

#[tokio::test]
async fn a_folder_is_sent_with_a_pipeline_one_by_one_or_as_a_batch() {
    let (app, desk) = (TestApp::start().await, desk());
    let folder = ["analyze", "photos", "--pipeline", "signs.json"];
    let first = asked(&app, desk.path(), &folder).await;
    let counts: Vec<_> = printed(&first).iter().map(|line| parts(&line["job"], "read").len()).collect();
    assert_eq!(counts, [3, 2]);
    app.sitter.ordered();
    assert_eq!(asked(&app, desk.path(), &folder).await.stdout, first.stdout);
    assert!(app.sitter.ordered().is_empty(), "the same command is the same intent");

    let create = ["batch", "create", "photos", "--pipeline", "signs.json"];
    let batch = asked(&app, desk.path(), &create).await;
    assert!(batch.status.success(), "{}", String::from_utf8_lossy(&batch.stderr));
    let batch = printed(&batch).remove(0);
    assert_eq!(batch["counts"]["succeeded"], 2);
    let results = asked(&app, desk.path(), &["batch", "results", batch["id"].as_str().unwrap()]).await;
    let found: Vec<_> = printed(&results).iter().map(|line| parts(&line["job"], "read").len()).collect();
    assert_eq!(found, [3, 2]);
}
