//! A disk that is full between a job's work and its end.

use std::{fs::File, io::Write, path::Path, process::Command, sync::Arc};

use serde_json::json;

use crate::{
    app::{Setup, TestApp},
    database::Schema,
    wire::key,
};

/// Where the second half of a test finds its small disk.
const SMALL_DISK: &str = "EYEBOLT_TEST_SMALL_DISK";

/// Begins a job, has the disk full at its end, and makes room again.
async fn full_at_the_end(mut app: TestApp, fill: impl FnOnce(), make_room: impl FnOnce()) {
    assert_eq!(app.analyze(b"first", &[key("first")]).await.status, 200);
    app.runs();
    let mut wire = app.begin(b"wait", &[key("k")]).await;
    while app.running.recv().await != Some(true) {}
    fill();
    app.release();
    assert_eq!(app.running.recv().await, Some(false), "the work is done");
    let refused = app.analyze(b"cat", &[key("other")]).await;
    assert_eq!((refused.status, refused.code()), (503, "storage_full"));
    assert!(refused.header("retry-after").is_some());
    let jobs = app.read("/v1/jobs?status=processing").await;
    assert_eq!(jobs["data"].as_array().map(Vec::len), Some(1), "it has not ended: {jobs}");
    assert_eq!(
        app.store.balance(app.project, eyebolt_types::Mode::Live).await.unwrap().used,
        1,
        "nor was it charged"
    );

    make_room();
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None));
    assert_eq!(app.runs(), 0, "what was found is not looked for again");
    let job = app.read(&format!("/v1/jobs/{}", answer.job())).await;
    assert_eq!((&job["status"], &job["steps"][0]["attempt"]), (&json!("succeeded"), &json!(1)));
    assert_eq!(app.analyze(b"cat", &[key("other")]).await.status, 200, "its key stayed free");
    app.assert_charged(3).await;
}

// Matrix row 30.
#[tokio::test]
async fn a_full_disk_of_postgres_between_work_and_end_loses_and_repeats_nothing() {
    let schema = Schema::new();
    let app = TestApp::set_up(Setup::on(&schema)).await;
    let full = Arc::clone(&schema);
    // The server says so where a table can't grow.
    let fill = move || {
        full.run(
            "CREATE FUNCTION SCHEMA.refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; \
             CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON SCHEMA.jobs EXECUTE FUNCTION SCHEMA.refuse()",
        );
    };
    full_at_the_end(app, fill, move || schema.run("DROP TRIGGER full_disk ON SCHEMA.jobs")).await;
}

// Matrix row 30: a file system of 8 MiB, in a mount namespace of its own.
#[test]
fn a_full_disk_of_sqlite_between_work_and_end_loses_and_repeats_nothing() {
    let disk = tempfile::tempdir().unwrap();
    let root =
        std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() == 0;
    let apart: &[&str] = if root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let mut unshare = Command::new("unshare");
    unshare.args(apart).args(["sh", "-c", r#"mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@""#]);
    unshare.arg(disk.path()).arg(std::env::current_exe().unwrap());
    unshare
        .args(["--exact", "disk::on_a_small_disk", "--ignored", "--nocapture"])
        .env(SMALL_DISK, disk.path());
    let ran = unshare.output().expect("unshare, to have a small disk in a mount namespace");
    let told = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ran.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
#[ignore = "another test runs it on a small disk"]
async fn on_a_small_disk() {
    let disk = std::env::var(SMALL_DISK).expect("a small disk");
    let folder = tempfile::tempdir_in(&disk).unwrap();
    let app = TestApp::set_up(Setup { folder: Some(folder), ..Setup::default() }).await;
    let filler = Path::new(&disk).join("filler");
    let fill = || {
        let mut file = File::create(&filler).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
    };
    full_at_the_end(app, fill, || std::fs::remove_file(&filler).unwrap()).await;
}
