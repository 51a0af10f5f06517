//! What is old goes, for every reader at once.

use std::{path::Path, time::Duration};

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    app::{ANALYZE, Setup, TestApp},
    database::on_both,
    wire::{FORM, image, key},
};

/// Too large for its row.
fn large(kind: &[u8]) -> Vec<u8> {
    [kind, &vec![b'x'; 140 << 10]].concat()
}

async fn days_pass(app: &TestApp, days: i64) {
    app.clock.advance(SignedDuration::from_hours(24 * days));
    app.jobs.remove_old().await.unwrap();
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let below = entries.map(Result::unwrap).flat_map(|entry| {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path())
        } else {
            vec![entry.file_name().into_string().unwrap()]
        }
    });
    below.collect()
}

async fn job_count(app: &TestApp) -> usize {
    app.read("/v1/jobs").await["data"].as_array().map_or(0, Vec::len)
}

async fn usage(app: &TestApp) -> Value {
    app.read("/v1/usage?from=2026-01-01&to=2026-01-03").await["data"].clone()
}

on_both! {
    async fn a_job_is_removed_with_its_files_and_its_price_stays(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let blobs = app.folder.path().join("blobs");
        let first = app.analyze(&large(b"huge"), &[key("k")]).await;
        assert_eq!((first.status, files(&blobs).len()), (200, 2), "image and document");
        let used = usage(&app).await;
        days_pass(&app, 29).await;
        let path = format!("/v1/jobs/{}", first.job());
        assert_eq!(app.read(&path).await["status"], "succeeded");
        assert_eq!(files(&blobs).len(), 1, "the image went before");

        days_pass(&app, 2).await;
        for line in ["GET PATH", "GET PATH/steps", "GET PATH?wait=5", "POST PATH:cancel", "POST PATH:retry"] {
            let gone = app.ask(&line.replace("PATH", &path), &[], b"").await;
            assert_eq!((gone.status, gone.code()), (404, "job_not_found"), "{line}");
        }
        assert_eq!((job_count(&app).await, files(&blobs)), (0, vec![]));
        assert_eq!(usage(&app).await, used);
        assert_eq!(app.read("/v1/idempotency-keys/k").await["state"], "expired");
        let late = app.analyze(&large(b"huge"), &[key("k")]).await;
        assert_eq!((late.status, late.code()), (410, "idempotency_key_expired"));
        assert_eq!(app.runs(), 1);
        app.assert_charged(1).await;
    }

    async fn an_image_that_was_removed_is_stored_anew_when_it_is_sent_again(setup: Setup) {
        let on_schema = setup.schema.clone();
        let again = || on_schema.as_ref().map_or_else(Setup::default, Setup::on);
        let mut app = TestApp::set_up(setup).await;
        let blobs = app.folder.path().join("blobs");
        let first = app.analyze(&large(b"wait then"), &[key("a"), ("Prefer", "respond-async")]).await;
        assert_eq!(app.running.recv().await, Some(true));
        app.release();
        let first = app.end_of(&first.job()).await;
        days_pass(&app, 8).await;
        assert_eq!((files(&blobs), job_count(&app).await), (vec![], 1));

        // It is read from its file by the worker that takes the job up after a crash.
        app.runs();
        let waits = app.analyze(&large(b"wait then"), &[key("b"), ("Prefer", "respond-async")]).await;
        assert_eq!(app.running.recv().await, Some(true));
        let mut app = app.crash_and_restart(again()).await;
        assert_eq!(app.running.recv().await, Some(true));
        app.release();
        let second = app.end_of(&waits.job()).await;
        assert_eq!(second["status"], "succeeded");
        assert_eq!(second["input"]["sha256"], first["input"]["sha256"]);
        assert_ne!(second["input"]["image_id"], first["input"]["image_id"]);
        assert_eq!(files(&blobs).len(), 1);
    }

    async fn sent_twice_an_image_is_one_file(setup: Setup) {
        let again = setup.schema.as_ref().map_or_else(Setup::default, Setup::on);
        let app = TestApp::set_up(setup).await;
        let blobs = app.folder.path().join("blobs");
        let mut ids = Vec::new();
        for name in ["a", "b"] {
            let answer = app.analyze(&large(b"cat"), &[key(name)]).await;
            ids.push(answer.json()["input"]["image_id"].clone());
        }
        assert_eq!(ids[0], ids[1]);
        let app = app.stop_and_restart(again).await;
        assert_eq!(files(&blobs).len(), 1, "the second one was not needed");
        drop(app);
    }

    async fn nothing_goes_that_runs_or_can_be_run_again(setup: Setup) {
        let mut setup = setup;
        setup.rules.jobs.retryable = Duration::from_hours(7 * 24);
        setup.rules.jobs.retention = Duration::from_hours(7 * 24);
        let mut app = TestApp::set_up(setup).await;
        let failed = app.analyze(&large(b"fail"), &[key("a")]).await;
        assert_eq!(failed.status, 500);
        app.runs();
        let mut runs = app.begin(&large(b"wait"), &[key("b")]).await;
        while app.running.recv().await != Some(true) {}
        days_pass(&app, 6).await;
        app.mend();
        let retried = app.ask(&format!("POST /v1/jobs/{}:retry", failed.job()), &[], b"").await;
        assert_eq!(retried.status, 202);
        assert_eq!(app.end_of(&failed.job()).await["status"], "succeeded");
        days_pass(&app, 6).await;
        assert_eq!(job_count(&app).await, 2);
        app.release();
        assert_eq!(runs.answer().await.status, 200);
        days_pass(&app, 8).await;
        assert_eq!(job_count(&app).await, 0);
        app.assert_charged(2).await;
    }
}

#[tokio::test]
async fn the_page_of_jobs_goes_on_behind_one_that_was_removed() {
    let app = TestApp::start().await;
    for (name, days) in [("a", 1), ("b", 1), ("c", 0)] {
        assert_eq!(app.ask(ANALYZE, &[FORM, key(name)], &image(name.as_bytes())).await.status, 200);
        days_pass(&app, days).await;
    }
    let page = app.read("/v1/jobs?limit=2").await;
    days_pass(&app, 30).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(app.read(&format!("/v1/jobs?limit=2&cursor={cursor}")).await["data"], json!([]));
    assert_eq!(job_count(&app).await, 1);
}
