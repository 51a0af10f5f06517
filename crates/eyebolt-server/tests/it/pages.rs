//! Rows of the catalogue against their pages, and pages against what the server really says.

use std::{collections::BTreeSet, fs, path::Path};

use eyebolt_engine::{BackendError, EngineError, ImageError};
use eyebolt_server::{ApiError, http::ErrorList};
use eyebolt_types::{ErrorCode, Feature, ImageFormat, Problem, error::Fault};

use crate::app::TestApp;

async fn catalogue() -> ErrorList {
    let answer = TestApp::start().await.ask("GET /v1/errors", &[], b"").await;
    serde_json::from_slice(&answer.body).expect("the catalogue")
}

fn example(page: &str) -> Problem {
    let (_, after) = page.split_once("```json\n").expect("an example");
    let (text, _) = after.split_once("\n```").expect("the end of the example");
    serde_json::from_str(text).expect("a problem")
}

#[tokio::test]
async fn every_row_has_a_page_that_says_the_same() {
    let catalogue = catalogue().await;
    assert_eq!(catalogue.data.iter().map(|row| row.code).collect::<Vec<_>>(), ErrorCode::ALL);
    for row in &catalogue.data {
        let code = row.code;
        let who = match row.fault {
            Fault::Client => "the program that called",
            Fault::Image => "whoever supplied the image",
            Fault::Server => "the operator, or Eyebolt itself",
        };
        let retry = if row.retryable { "yes, after `Retry-After`" } else { "no" };
        let head = format!("# {code}\n\n{}.\n", row.title);
        assert!(row.page.starts_with(&head), "{code}: title");
        assert!(row.page.contains(&format!("| {} | {who} | {retry} |", row.status)), "{code}: table");
        assert!(row.page.contains(&row.remedy), "{code}: remedy");
        for section in ["\n## Why\n", "\n## Example\n", "\n## What to do\n"] {
            assert!(row.page.contains(section), "{code}: {section}");
        }
        let shown = example(&row.page);
        let mut wanted = Problem::new(code, shown.detail.clone());
        wanted.instance.clone_from(&shown.instance);
        wanted.request_id.clone_from(&shown.request_id);
        wanted.params.clone_from(&shown.params);
        wanted.errors.clone_from(&shown.errors);
        wanted.violated_policies.clone_from(&shown.violated_policies);
        // A type that others know too.
        let registered = match code {
            ErrorCode::QuotaExceeded | ErrorCode::QuotaExhausted => Some("quota-exceeded"),
            ErrorCode::AbnormalUsage => Some("abnormal-usage-detected"),
            ErrorCode::TemporaryReducedCapacity => Some("temporary-reduced-capacity"),
            _ => None,
        };
        if let Some(kind) = registered {
            wanted.kind = format!("https://iana.org/assignments/http-problem-types#{kind}");
        }
        if row.retryable {
            wanted = wanted.after(shown.retry_after.expect("a time to wait"));
        }
        assert_eq!(shown, wanted, "{code}: example");
    }
}

#[test]
fn there_is_no_page_without_a_row() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let files = fs::read_dir(folder).expect("the pages");
    let names: BTreeSet<_> =
        files.map(|file| file.expect("a page").file_name().into_string().expect("text")).collect();
    assert_eq!(names, ErrorCode::ALL.iter().map(|code| format!("{code}.md")).collect());
}

/// The examples of refusals by the engine are what the server says, word by word.
#[tokio::test]
async fn examples_are_true() {
    let pages = catalogue().await.data;
    let failed = || BackendError::Run { backend: "script", reason: "a secret path".to_owned() };
    let text = str::to_owned;
    let errors: [EngineError; 20] = [
        ImageError::Empty.into(),
        ImageError::UnsupportedFormat { found: text("a PDF document") }.into(),
        ImageError::Corrupt { format: ImageFormat::Jpeg, what: text("the data end early") }.into(),
        ImageError::TooManyBytes { limit: 20_971_520, found: 25_165_824 }.into(),
        ImageError::TooManyPixels { limit: 40_000_000, width: 30_000, height: 30_000 }.into(),
        ImageError::TooSmall { limit: 32, width: 16, height: 16 }.into(),
        ImageError::BadAspectRatio { limit: 20.0, width: 12_000, height: 100 }.into(),
        ImageError::TooManyFrames { limit: 300, found: 1200 }.into(),
        ImageError::DecompressionBomb {
            what: text("animation pixels"),
            limit: 200_000_000,
            found: 4_900_000_000,
        }
        .into(),
        ImageError::TooManyMetadata { limit: 1_048_576, found: 3_145_728 }.into(),
        ImageError::Polyglot { format: ImageFormat::Jpeg, also: text("a ZIP archive") }.into(),
        ImageError::ActiveContent { what: text("a script element in a comment") }.into(),
        ImageError::Malware { signature: text("EICAR test file") }.into(),
        ImageError::DecodeTimeout { limit_seconds: 30 }.into(),
        EngineError::ModelMismatch {
            name: text("centerface@1"),
            task: Feature::Faces,
            wanted: Feature::Objects,
        },
        EngineError::UnsupportedLanguage { language: text("th"), model: text("ppocr-latin@1") },
        EngineError::FeatureUnavailable { feature: Feature::Faces, reason: text("a secret path") },
        EngineError::ModelUnavailable { model: text("yolox-nano@1"), source: failed() },
        EngineError::ModelFailed { model: text("yolox-nano@1"), source: failed() },
        EngineError::Stopped,
    ];
    for error in errors {
        let mut said = Problem::from(ApiError::from(error));
        let page = pages.iter().find(|row| row.code == said.code).expect("a page");
        let shown = example(&page.page);
        said.instance.clone_from(&shown.instance);
        said.request_id.clone_from(&shown.request_id);
        assert_eq!(said, shown, "{}", page.code);
    }
}
