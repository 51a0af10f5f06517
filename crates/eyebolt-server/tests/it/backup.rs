//! Yesterday's backup, restored.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::{
    app::{Setup, TestApp},
    place::eyebolt,
    wire::key,
};

fn copied(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(from, folder.path());
    folder
}

/// The ids of all charges, as a billing system gets them.
async fn charges(app: &TestApp) -> BTreeSet<String> {
    let exported = eyebolt(app.folder.path(), &["usage", "export"]).await;
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let lines = String::from_utf8(exported.stdout).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    lines.lines().map(id).collect()
}

// Matrix row 56.
#[tokio::test]
async fn after_a_restore_lost_keys_run_again_and_the_export_shows_the_gap() {
    let app = TestApp::start().await;
    let kept = app.analyze(b"kept", &[key("kept")]).await;
    let (folder, clock) = app.stop_for_good().await;
    let backup = copied(folder.path());

    let app =
        TestApp::set_up(Setup { folder: Some(folder), clock: Some(clock.clone()), ..Setup::default() }).await;
    let lost = app.analyze(b"lost", &[key("lost")]).await;
    let billed = charges(&app).await;
    assert_eq!(billed.len(), 2);
    drop(app.stop_for_good().await);

    let mut app =
        TestApp::set_up(Setup { folder: Some(backup), clock: Some(clock), ..Setup::default() }).await;
    let again = app.analyze(b"kept", &[key("kept")]).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &kept.body));
    let gone = app.ask(&format!("GET /v1/jobs/{}", lost.job()), &[], b"").await;
    assert_eq!((gone.status, gone.code()), (404, "job_not_found"));
    assert_eq!(app.read("/v1/idempotency-keys/lost").await["state"], "unused");
    assert_eq!(app.runs(), 0);

    // It is run, and charged, again: nobody here knows that it was. The books that were handed out do.
    let anew = app.analyze(b"lost", &[key("lost")]).await;
    assert_eq!((anew.status, anew.header("idempotent-replayed"), app.runs()), (200, None, 1));
    app.assert_charged(2).await;
    let missing: Vec<_> = billed.difference(&charges(&app).await).cloned().collect();
    assert_eq!(missing, [format!("{}/use/0", lost.job())]);
}
