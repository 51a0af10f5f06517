//! The examples of the documentation, as they are printed.

use std::{path::Path, process::Command};

use eyebolt_server::{jobs::IdempotencySettings, outbound::Resolver};

use crate::app::{KEY, MAX_FILE_BYTES, Setup, TestApp};

/// All blocks of shell of a page, in their order.
fn blocks(page: &str) -> String {
    let fenced = page.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix("sh\n")).collect()
}

/// Runs a page's examples one after the other in a folder of their own. What they print.
async fn run(page: &str) -> String {
    for tool in ["curl", "jq", "python3"] {
        let there = Command::new(tool).arg("--version").output().is_ok();
        assert!(there, "the examples need {tool}, which is not installed");
    }
    let mut setup = Setup::default();
    setup.rules.idempotency = IdempotencySettings::default();
    // The receivers of the examples are nowhere.
    setup.resolver = Resolver::new(|_, _| async { Ok(Vec::new()) });
    let app = TestApp::set_up(setup).await;
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The engine looks at no pixels, and a file may be no longer here.
    let photo = std::fs::read(root.join("assets/sample.jpg")).unwrap();
    std::fs::write(folder.path().join("photo.jpg"), &photo[..photo.len().min(MAX_FILE_BYTES as usize)])
        .unwrap();
    let script = blocks(&std::fs::read_to_string(root.join("../../docs").join(page)).unwrap());
    assert!(script.contains("curl"), "{page} has examples");

    let mut bash = Command::new("bash");
    bash.args(["-eu", "-o", "pipefail", "-c", &script]).current_dir(&folder);
    bash.env("EYEBOLT", format!("http://{}", app.address))
        .env("KEY", KEY.reveal())
        .env("NO_PROXY", "127.0.0.1");
    let ran = tokio::task::spawn_blocking(move || bash.output()).await.unwrap().expect("bash");
    let [printed, complaints] =
        [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ran.status.success(), "{page}: {}\n{printed}\n{complaints}", ran.status);
    printed
}

#[tokio::test]
async fn the_examples_of_retrying_do_what_they_say() {
    let printed = run("retrying.md").await;
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    for expected in ["idempotent-replayed: true", "422", "idempotency_key_reused", "succeeded", "bypassed"] {
        assert!(lines.contains(&expected), "{expected} is not in\n{printed}");
    }
    assert!(printed.contains("\"state\":\"answered\""));
    // The loop was told the same job twice; what is printed before it ends without a new line.
    let job = lines.iter().find(|line| line.starts_with("job_")).expect("the second run of the loop");
    assert_eq!(printed.matches(job).count(), 2, "{job} in\n{printed}");
}

#[tokio::test]
async fn the_examples_of_jobs_do_what_they_say() {
    let printed = run("jobs.md").await;
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    for expected in ["succeeded", "objects\tsucceeded\t1\tcats@1", "labels\tsucceeded\t1\tcats@1"] {
        assert!(lines.contains(&expected), "{expected} is not in\n{printed}");
    }
}

#[tokio::test]
async fn the_examples_of_batches_do_what_they_say() {
    let printed = run("batches.md").await;
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    let expected = [
        "processing",
        "3",
        "3",
        "0.5",
        "completed\t3\t0",
        "0\ta\tsucceeded\tcat",
        "1\tb\tsucceeded\tcat",
        "2\tc\tsucceeded\tcat",
        "c",
        "idempotent-replayed: true",
        "422",
        "batch_not_retryable",
    ];
    assert_eq!(lines, expected, "{printed}");
}

#[tokio::test]
async fn the_examples_of_pipelines_do_what_they_say() {
    let printed = run("pipelines.md").await;
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    for expected in [
        "succeeded",
        r#"{"index":0,"status":"succeeded","region":{"box":{"x":0,"y":0,"width":26.25,"height":26.25}}}"#,
        "read\ttext\tsucceeded",
        "/pipeline/steps/1/for_each/step\tinvalid_pipeline",
        "/pipeline/steps/1/params/max_results\tinvalid_parameter",
        r#"["prediction",21,[1,20]]"#,
        r#"["prediction",["read"]]"#,
        "my-signs\t1\ttrue",
        "my-signs@1",
    ] {
        assert!(lines.contains(&expected), "{expected} is not in\n{printed}");
    }
}

#[tokio::test]
async fn the_examples_of_events_do_what_they_say() {
    let printed = run("events.md").await;
    assert!(printed.contains("\nid: 1\nevent: job.succeeded\ndata: {\"id\":\"evt_"), "{printed}");
}

#[tokio::test]
async fn the_examples_of_webhooks_do_what_they_say() {
    let printed = run("webhooks.md").await;
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    assert_eq!((lines[1], lines[2]), ("enabled", "webhook.test"), "{printed}");
    assert_eq!(lines.iter().filter(|line| **line == "true").count(), 2, "{printed}");
}
