//! Holds probe and decode against a corpus: `corpus_verdicts CORPUS_DIR [ON_DEMAND_DIR] [--all]`.
//!
//! Reads `manifest.json` there, prints each wrong verdict, the totals, the slowest file and the file that took most
//! memory beyond its plan. `--all` prints every verdict.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use eyebolt_engine::decode::{self, DecodePlan};
use eyebolt_engine::{ImageError, Picture, probe};
use eyebolt_types::ImageLimits;
use serde_json::Value;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let all =
        arguments.iter().position(|argument| argument == "--all").map(|at| arguments.remove(at)).is_some();
    let root = PathBuf::from(arguments.first().context("the corpus directory is missing")?);
    let on_demand = arguments.get(1).map(PathBuf::from);
    let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("manifest.json"))?)?;
    let rows = manifest["files"].as_array().context("the manifest has no files")?;
    let mut score = Score { all, root: root.clone(), ..Score::default() };
    for row in rows.iter().filter(|row| row["expected"]["gate"] != "quality") {
        let path = row["path"].as_str().context("a row without a path")?;
        let file = match (path.strip_prefix("ondemand/"), &on_demand) {
            (None, _) => root.join(path),
            (Some(name), Some(directory)) => directory.join(name),
            (Some(_), None) => continue,
        };
        score.take(path, row, &std::fs::read(file)?)?;
    }
    score.report();
    Ok(())
}

/// What all files together came to.
#[derive(Default)]
struct Score {
    all: bool,
    root: PathBuf,
    files: usize,
    mistakes: usize,
    compared: usize,
    total: Duration,
    slowest: (Duration, String),
    slowest_probe: (Duration, String),
    /// Memory beyond the plan, bytes.
    greediest: (i64, String),
    peak: i64,
}

impl Score {
    fn take(&mut self, path: &str, row: &Value, bytes: &[u8]) -> Result<()> {
        let before = reset_peak()?;
        let start = Instant::now();
        let (verdict, probed, plan) = analyse(bytes, start);
        let took = start.elapsed();
        let used = peak()? - before;
        let over = used - plan.map_or(0, |plan| plan.bytes_needed as i64);
        self.files += 1;
        self.total += took;
        self.peak = self.peak.max(used);
        keep_worst(&mut self.slowest, took, path);
        keep_worst(&mut self.slowest_probe, probed, path);
        keep_worst(&mut self.greediest, over, path);
        if self.all {
            println!("{path}: {} {:.1} ms, {over:+} B", describe(&verdict), took.as_secs_f64() * 1e3);
        }
        if let Some(mistake) = mistake(row, &verdict) {
            self.mistakes += 1;
            println!("{path}: {mistake}");
        }
        if let (Some(other), Some(limit), Ok(picture)) =
            (row["truth"]["matches"].as_str(), row["truth"]["max_mean_abs_diff"].as_f64(), &verdict)
        {
            self.compared += 1;
            let difference = difference(picture, &std::fs::read(self.root.join(other))?)?;
            if difference > limit {
                self.mistakes += 1;
                println!("{path}: differs from {other} by {difference:.2}, more than {limit}");
            }
        }
        Ok(())
    }

    fn report(&self) {
        println!(
            "{} files, {} mistakes ({:.2} % right), {} compared with another picture, {:.1} s in all",
            self.files,
            self.mistakes,
            100.0 - 100.0 * self.mistakes as f64 / self.files as f64,
            self.compared,
            self.total.as_secs_f64()
        );
        println!("slowest: {:.1} ms {}", self.slowest.0.as_secs_f64() * 1e3, self.slowest.1);
        println!(
            "slowest probe: {:.2} ms {}",
            self.slowest_probe.0.as_secs_f64() * 1e3,
            self.slowest_probe.1
        );
        println!("most memory beyond its plan: {} KiB {}", self.greediest.0 >> 10, self.greediest.1);
        println!("peak memory of a file: {} KiB", self.peak >> 10);
    }
}

fn keep_worst<T: PartialOrd>(worst: &mut (T, String), value: T, path: &str) {
    if value > worst.0 {
        *worst = (value, path.to_owned());
    }
}

type Analysed = (Result<Picture, ImageError>, Duration, Option<DecodePlan>);

fn analyse(bytes: &[u8], start: Instant) -> Analysed {
    let header = probe::probe(bytes, &ImageLimits::default());
    let probed = start.elapsed();
    match header {
        Err(error) => (Err(error), probed, None),
        Ok(header) => {
            let plan = decode::plan(&header, None);
            (decode::decode(bytes, &header, &plan), probed, Some(plan))
        }
    }
}

fn describe(verdict: &Result<Picture, ImageError>) -> String {
    match verdict {
        Ok(picture) => format!("{picture:?}"),
        Err(error) => format!("{}: {error}", reason(error)),
    }
}

/// What is wrong with a verdict, if anything.
fn mistake(row: &Value, verdict: &Result<Picture, ImageError>) -> Option<String> {
    let expected = &row["expected"];
    let reasons = || expected["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match (expected["verdict"].as_str(), verdict) {
        (Some("reject"), Ok(_)) if expected["gate"] == "any" => None,
        (Some("reject"), Ok(_)) => Some(format!("accepted; expected {:?}", reasons().collect::<Vec<_>>())),
        (_, Ok(_)) => None,
        (Some("accept"), Err(error)) => Some(format!("refused: {}: {error}", reason(error))),
        (_, Err(error)) if reasons().any(|listed| listed == reason(error)) => None,
        (_, Err(error)) => {
            Some(format!("{}: {error}; expected {:?}", reason(error), reasons().collect::<Vec<_>>()))
        }
    }
}

/// The manifest's word for a refusal.
fn reason(error: &ImageError) -> &'static str {
    match error {
        ImageError::Empty => "empty_file",
        ImageError::UnsupportedFormat { .. } => "unsupported_format",
        ImageError::Corrupt { .. } | ImageError::DecoderDied { .. } => "corrupt_image",
        ImageError::TooManyBytes { .. } => "file_too_large",
        ImageError::TooManyPixels { .. } | ImageError::SideTooLong { .. } => "image_too_large",
        ImageError::TooSmall { .. } => "too_small",
        ImageError::BadAspectRatio { .. } => "bad_aspect_ratio",
        ImageError::TooManyFrames { .. } => "too_many_frames",
        ImageError::DecompressionBomb { .. } => "decompression_bomb",
        ImageError::TooManyMetadata { .. } => "too_many_metadata",
        ImageError::Polyglot { .. } => "polyglot",
        ImageError::ActiveContent { .. } => "active_content",
        ImageError::Malware { .. } => "malware",
        ImageError::DecodeTimeout { .. } => "decode_timeout",
        ImageError::OverBudget { .. } => "over_budget",
    }
}

/// Mean absolute difference of all samples, 0 to 255.
fn difference(picture: &Picture, other: &[u8]) -> Result<f64> {
    let header = probe::probe(other, &ImageLimits::default())?;
    let other = decode::decode(other, &header, &decode::plan(&header, None))?;
    anyhow::ensure!((picture.width, picture.height) == (other.width, other.height), "sizes differ");
    let sum: u64 = picture.pixels.iter().zip(&other.pixels).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    Ok(sum as f64 / picture.pixels.len() as f64)
}

/// Forgets the highest memory so far (Linux); gives the memory in use, bytes.
fn reset_peak() -> Result<i64> {
    std::fs::write("/proc/self/clear_refs", "5")?;
    status("VmRSS:")
}

fn peak() -> Result<i64> {
    status("VmHWM:")
}

fn status(field: &str) -> Result<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kibibytes: i64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes << 10)
}
