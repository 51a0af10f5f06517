//! The engine of crash tests: it looks at nothing, answers the same for the same bytes, takes a known time, and writes
//! down each real execution outside the data folder.
//!
//! `EYEBOLT_TORTURE_EFFECTS` names the file and switches it on; `EYEBOLT_TORTURE_DELAY_MS=low..high` is the time a step
//! takes, by the content; `EYEBOLT_TORTURE_THREADS`, how many steps it does at once (all, where it is not set). A file that
//! begins with `FAKE corrupt` is refused, one with `FAKE flaky` fails at first; one with `FAKE mp=2.5` has so many megapixels
//! and takes 8 ms and 12 ms a megapixel, give or take a quarter. Words behind that: `parts=6`, the things that are found in it;
//! `poison=read/3:2`, what fails (`*`: everything) and until which fencing token. A pipeline's fallback never fails.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use eyebolt_engine::{ImageError, Turns};
use eyebolt_types::{
    AnalyzeRequest, BoundingBox, Clock, ErrorCode, Feature, FieldError, ImageFormat, ImageLimits, Input,
    Problem, Results,
    id::{ImageId, JobId},
    pipeline::{Asked, Course, Pipeline},
    result::{Label, Labels, Object, Objects},
};
use tokio::time::sleep;

use crate::{
    Analyzer, ApiError, Declared,
    analysis::{Attempt, Capabilities, Checked, Order, Remarks, Sitting, StepEnd},
};

/// Words of a file that are looked at.
const WORDS: usize = 6;
/// Things beside each other in the image, and rows of them.
const ROW: u8 = 3;

/// The fake engine, where this process is told to use it.
pub(crate) fn analyzer(clock: &Clock) -> Option<Analyzer> {
    let path = std::env::var("EYEBOLT_TORTURE_EFFECTS").ok()?;
    let file =
        OpenOptions::new().create(true).append(true).open(&path).expect("the effects file can be written");
    let fake = Arc::new(Fake {
        effects: Mutex::new(file),
        delay: delay(),
        threads: threads(),
        clock: clock.clone(),
    });
    let (runner, sitter) = (Arc::clone(&fake), fake);
    let run = move |attempt| {
        let fake = Arc::clone(&runner);
        async move { fake.run(attempt).await }
    };
    let analyzer = Analyzer::new(
        |bytes, sha256, request, _: Declared| async move { check(&bytes, sha256, &request) },
        run,
        capabilities,
    );
    let sit = move |sitting| {
        let fake = Arc::clone(&sitter);
        async move { fake.sit(sitting).await }
    };
    Some(analyzer.with_pipelines(freeze, sit))
}

/// Whether this process is to have a defect (`EYEBOLT_TORTURE_DEFECT`), so that crash tests can be seen to find it.
pub(crate) fn has_defect(name: &str) -> bool {
    std::env::var("EYEBOLT_TORTURE_DEFECT").is_ok_and(|defect| defect == name)
}

struct Fake {
    effects: Mutex<File>,
    delay: (u64, u64),
    /// As the engine's: who waits for one has begun.
    threads: Turns,
    clock: Clock,
}

impl Fake {
    async fn run(&self, attempt: Attempt) -> Result<Remarks, ApiError> {
        let Attempt { job, token, class, bytes, request, ended, .. } = attempt;
        if bytes.starts_with(b"FAKE corrupt") {
            let what = "as the test wants it".to_owned();
            return Err(ImageError::Corrupt { format: ImageFormat::Png, what }.into());
        }
        for feature in request.features {
            let started_at = self.clock.now();
            let thread = self.threads.take(class).await.expect("nobody closes it");
            sleep(self.pause(&bytes, feature)).await;
            drop(thread);
            let fails = fails(&bytes, feature.name(), token);
            self.note((job, token), feature.name(), (!fails, false));
            let result = if fails { Err(as_wanted()) } else { Ok(found(&bytes, feature)) };
            let end = StepEnd {
                feature,
                model: Some("fake@1".to_owned()),
                result,
                started_at,
                finished_at: self.clock.now(),
            };
            _ = ended.send(end);
        }
        Ok(Remarks::default())
    }

    /// Does what is ordered of a pipeline; each order is an execution, known as `step` or `step/part`.
    async fn sit(&self, sitting: Sitting) -> Result<Remarks, ApiError> {
        let Sitting { job, token, bytes, course, mut orders, .. } = sitting;
        while let Some(Order { step, part, fallback, begun, done }) = orders.recv().await {
            let stage = &course.stages[step];
            let way = stage.fallback.as_ref().filter(|_| fallback).unwrap_or(&stage.way);
            _ = begun.send(());
            sleep(self.pause(&bytes, way.feature)).await;
            let part = part.map_or_else(String::new, |(number, _)| format!("/{number}"));
            let place = format!("{}{part}", stage.id);
            let fails = !fallback && fails(&bytes, &place, token);
            self.note((job, token), &place, (!fails, fallback));
            _ = done.send(match way.feature {
                _ if fails => Err(as_wanted()),
                Feature::Objects => Ok(things(&bytes)),
                feature => Ok(found(&bytes, feature)),
            });
        }
        Ok(Remarks::default())
    }

    /// Writes an execution down, in one write: whose, of what, whether it succeeded, and whether it was the fallback.
    fn note(&self, (job, token): (JobId, i64), step: &str, (ok, fallback): (bool, bool)) {
        let at = self.clock.now().as_microsecond();
        let line = format!(
            "{{\"job\":\"{job}\",\"step\":\"{step}\",\"token\":{token},\"attempt\":{token},\"ok\":{ok},\
             \"fallback\":{fallback},\"at_us\":{at}}}\n"
        );
        let mut effects = self.effects.lock().unwrap_or_else(PoisonError::into_inner);
        effects.write_all(line.as_bytes()).expect("the effects file can be written");
    }

    fn pause(&self, bytes: &[u8], feature: Feature) -> Duration {
        let (low, high) = self.delay;
        let seed = u64::from(crc(bytes)) + feature as u64 * 7919;
        if let Some(megapixels) = said_megapixels(bytes) {
            let noise = 0.75 + (seed % 1000) as f64 / 2000.0;
            return Duration::from_secs_f64((0.008 + 0.012 * f64::from(megapixels)) * noise);
        }
        Duration::from_millis(low + seed % (high - low + 1))
    }
}

fn freeze(pipeline: &Pipeline, request: &AnalyzeRequest) -> Result<Course, Vec<FieldError>> {
    let snapshot = |_: &AnalyzeRequest| Ok(Some("fake@1".to_owned()));
    Course::freeze(pipeline, request, &Asked { task: &|_| None, snapshot: &snapshot })
}

fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(17, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}

/// What a file says behind its first word.
fn said<'a>(bytes: &'a [u8], name: &str) -> Option<&'a str> {
    let mut words = bytes.split(|byte| *byte == b' ').take(WORDS);
    words.find_map(|word| std::str::from_utf8(word).ok()?.strip_prefix(name))
}

/// Whether a step or part of this file fails under this token.
fn fails(bytes: &[u8], place: &str, token: i64) -> bool {
    if bytes.starts_with(b"FAKE flaky") {
        return token <= 1;
    }
    let poison = said(bytes, "poison=").and_then(|told| told.split_once(':'));
    poison.is_some_and(|(poisoned, until)| {
        (poisoned == "*" || poisoned == place) && until.parse().is_ok_and(|until: i64| token <= until)
    })
}

fn as_wanted() -> Problem {
    Problem::new(ErrorCode::ModelFailed, "As the test wants it.")
}

fn said_megapixels(bytes: &[u8]) -> Option<f32> {
    let said = bytes.strip_prefix(b"FAKE mp=")?.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(said).ok()?.parse().ok().filter(|megapixels| (0.0..=1000.0).contains(megapixels))
}

fn delay() -> (u64, u64) {
    let told = std::env::var("EYEBOLT_TORTURE_DELAY_MS").unwrap_or_default();
    let range = told.split_once("..").and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    range.filter(|(low, high)| low <= high).unwrap_or((0, 0))
}

fn threads() -> Turns {
    let told = std::env::var("EYEBOLT_TORTURE_THREADS").ok().and_then(|told| told.parse().ok());
    Turns::new(told.unwrap_or(usize::MAX))
}

fn check(bytes: &Bytes, sha256: [u8; 32], request: &AnalyzeRequest) -> Result<Checked, ApiError> {
    if !bytes.starts_with(b"FAKE") {
        return Err(ImageError::UnsupportedFormat { found: "no fake".to_owned() }.into());
    }
    let input = Input {
        image_id: ImageId::new(),
        sha256: hex::encode(sha256),
        bytes: bytes.len() as u64,
        format: ImageFormat::Png,
        width: 64,
        height: 64,
        megapixels: said_megapixels(bytes).unwrap_or(0.004),
        frames: 1,
    };
    let snapshot = |feature: &Feature| (*feature, Some("fake@1".to_owned()));
    Ok(Checked {
        input,
        warnings: Vec::new(),
        snapshots: request.features.iter().map(snapshot).collect(),
        course: None,
        kept: Vec::new(),
    })
}

/// Whatever is asked, the answer says what the bytes were.
fn found(bytes: &[u8], feature: Feature) -> Results {
    let model = "fake@1".to_owned();
    let label = Label {
        label: format!("{feature}-{:08x}", crc(bytes)),
        confidence: 1.0,
        confidence_band: eyebolt_types::result::ConfidenceBand::High,
    };
    let labels = Labels { model, confidence_guide: String::new(), items: vec![label] };
    Results { labels: Some(labels), ..Results::default() }
}

/// As many things as the file says, three where it says nothing, so that a pipeline has parts.
fn things(bytes: &[u8]) -> Results {
    let count = said(bytes, "parts=").and_then(|told| told.parse().ok()).unwrap_or(3).min(ROW * ROW);
    let place = |at: u8| f32::from(at) * 20.0;
    let thing = |at: u8| Object {
        label: "thing".to_owned(),
        confidence: 1.0,
        confidence_band: eyebolt_types::result::ConfidenceBand::High,
        bounds: BoundingBox { x: place(at % ROW), y: place(at / ROW), width: 16.0, height: 16.0 },
    };
    let items = (0..count).map(thing).collect();
    let objects = Objects { model: "fake@1".to_owned(), confidence_guide: String::new(), items };
    Results { objects: Some(objects), ..Results::default() }
}

fn capabilities() -> Capabilities {
    Capabilities {
        object: "list".to_owned(),
        data: Vec::new(),
        features: Feature::ALL.to_vec(),
        formats: vec![ImageFormat::Png],
        limits: ImageLimits::default(),
    }
}
