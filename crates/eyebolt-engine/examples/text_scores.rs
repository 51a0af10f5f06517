//! Reads the text files of a corpus and prints how well and at what price:
//! `text_scores CORPUS_DIR MODELS_DIR [--detail low|standard|high] [--match PART] [--rten] [--lines]`.
//!
//! For each row of `manifest.json` with `truth.text` or `truth.text_contains`: the character error rate, and the CPU
//! milliseconds of the detector, the recogniser, line orientation and the rest. The summary counts only files whose
//! characters the recogniser knows, but for 3 in 100. `--lines` prints every line found.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use eyebolt_engine::{
    BackendError, Picture,
    backend::{Backend, OnnxRuntime, Rten, Session, TensorView},
    text::{self, Characters, DbThresholds, Detector, LineOrienter, Recogniser, TextModels, TextOptions},
};
use eyebolt_types::{Detail, ModelManifest, manifest::Decoder};
use image::ImageDecoder;
use serde_json::Value;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [corpus, models, ..] = &arguments[..] else { bail!("CORPUS_DIR and MODELS_DIR are missing") };
    let option = |name: &str| arguments.iter().position(|argument| argument == name).map(|at| at + 1);
    let value = |name: &str| option(name).and_then(|at| arguments.get(at)).map(String::as_str);
    let detail = match value("--detail") {
        None | Some("standard") => Detail::Standard,
        Some("low") => Detail::Low,
        Some("high") => Detail::High,
        Some(other) => bail!("--detail takes low, standard or high, not {other}"),
    };
    let mut loaded = Loaded::open(Path::new(models), option("--rten").is_some())?;
    let manifest: Value = serde_json::from_slice(&fs::read(Path::new(corpus).join("manifest.json"))?)?;
    let rows = manifest["files"].as_array().context("the manifest has no files")?;
    let mut scores = Scores { lines: option("--lines").is_some(), ..Scores::default() };
    for row in rows {
        let path = row["path"].as_str().context("a row without a path")?;
        let wanted = ["text", "text_contains"].iter().any(|truth| row["truth"][truth].is_array());
        if wanted && path.contains(value("--match").unwrap_or_default()) {
            let picture = decode(&Path::new(corpus).join(path)).with_context(|| path.to_owned())?;
            scores.take(path, &row["truth"], &loaded.read(&picture, detail)?);
        }
    }
    scores.report();
    Ok(())
}

/// The three models with their clocks.
struct Loaded {
    detector: Model,
    recogniser: Model,
    orientation: Model,
    thresholds: DbThresholds,
    characters: Characters,
}

/// What one file gave.
struct Outcome {
    found: text::TextFindings,
    /// CPU milliseconds: detector, recogniser, orientation, the rest.
    spent: [f64; 4],
    /// Whether the recogniser knows each character.
    known: HashSet<char>,
}

impl Loaded {
    fn open(models: &Path, rten: bool) -> Result<Self> {
        let backend: Box<dyn Backend> = if rten {
            Box::new(Rten)
        } else {
            Box::new(OnnxRuntime::load(&only(&models.join("runtime"), "onnxruntime-")?.join(LIBRARY))?)
        };
        let load = |prefix: &str| Model::load(&*backend, &only(&models.join("models"), prefix)?);
        let (detector, recogniser) = (load("pp-ocrv6-det")?, load("pp-ocrv6-rec")?);
        let Decoder::DbText { threshold, box_threshold, unclip_ratio } = detector.manifest.decoder else {
            bail!("the detector has no db_text decoder");
        };
        Ok(Self {
            thresholds: DbThresholds { pixel: threshold, region: box_threshold, unclip_ratio },
            characters: Characters::load(&recogniser.folder.join("characters.txt"))?,
            orientation: load("pp-lcnet-textline")?,
            detector,
            recogniser,
        })
    }

    fn read(&mut self, picture: &Picture, detail: Detail) -> Result<Outcome> {
        let manifest = &self.recogniser.manifest;
        let options = TextOptions {
            detail,
            min_confidence: manifest.min_confidence,
            bands: manifest.bands,
            max_results: 1000,
            auto_rotate: true,
        };
        let start = cpu_ms();
        let models = TextModels {
            detector: Detector {
                session: &mut self.detector.session,
                input: &self.detector.manifest.input,
                thresholds: self.thresholds,
            },
            recogniser: Recogniser {
                session: &mut self.recogniser.session,
                input: &manifest.input,
                characters: &self.characters,
            },
            orientation: Some(LineOrienter {
                session: &mut self.orientation.session,
                input: &self.orientation.manifest.input,
            }),
        };
        let found = text::read(picture, models, &options)?;
        let all = cpu_ms() - start;
        let [a, b, c] = [&mut self.detector, &mut self.recogniser, &mut self.orientation]
            .map(|model| std::mem::take(&mut model.session.spent));
        let file = fs::read_to_string(self.recogniser.folder.join("characters.txt"))?;
        Ok(Outcome { found, spent: [a, b, c, all - a - b - c], known: file.chars().chain([' ']).collect() })
    }
}

const LIBRARY: &str = "libonnxruntime.so.1.32.0";

/// The folder inside whose name begins so.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let found = entries.iter().find(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    Ok(found.with_context(|| format!("{prefix}… is missing"))?.path())
}

/// A model with its manifest.
struct Model {
    folder: PathBuf,
    manifest: ModelManifest,
    session: Timed,
}

impl Model {
    fn load(backend: &dyn Backend, folder: &Path) -> Result<Self> {
        let manifest: ModelManifest = toml::from_str(&fs::read_to_string(folder.join("model.toml"))?)?;
        let session = backend.load(&folder.join(&manifest.file))?;
        Ok(Self { folder: folder.to_owned(), manifest, session: Timed { session, spent: 0.0 } })
    }
}

/// Counts the time that a model computes.
struct Timed {
    session: Box<dyn Session>,
    /// CPU milliseconds.
    spent: f64,
}

impl Session for Timed {
    fn run(
        &mut self,
        input: TensorView<'_>,
        read: &mut dyn FnMut(&[TensorView<'_>]),
    ) -> Result<(), BackendError> {
        let start = cpu_ms();
        let done = self.session.run(input, read);
        self.spent += cpu_ms() - start;
        done
    }
}

/// Milliseconds that this thread has computed; where the system does not tell, wall time.
fn cpu_ms() -> f64 {
    thread_local!(static START: Instant = Instant::now());
    let spent = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.with(Instant::elapsed).as_secs_f64() * 1e3, |spent| spent / 1e6)
}

fn decode(path: &Path) -> Result<Picture> {
    let mut decoder = image::ImageReader::open(path)?.with_guessed_format()?.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = image::DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    Ok(Picture::full(image.width(), image.height(), image.into_raw()))
}

/// What all files together came to.
#[derive(Default)]
struct Scores {
    lines: bool,
    files: usize,
    spent: [f64; 4],
    /// Of the files whose characters are known.
    error_rates: Vec<f64>,
    missed: usize,
    invented: usize,
}

impl Scores {
    fn take(&mut self, path: &str, truth: &Value, outcome: &Outcome) {
        self.files += 1;
        self.spent.iter_mut().zip(outcome.spent).for_each(|(sum, spent)| *sum += spent);
        let read = collapsed(&outcome.found.text);
        let note = self.judge(truth, &read, &outcome.known);
        let [detector, recogniser, orientation, rest] = outcome.spent;
        println!(
            "{path}: {note}; turned {}°, {} lines; detector {detector:.0} ms, recogniser {recogniser:.0} ms, \
             orientation {orientation:.0} ms, rest {rest:.0} ms",
            outcome.found.rotation,
            outcome.found.lines.len(),
        );
        for line in outcome.found.lines.iter().filter(|_| self.lines) {
            println!("    {:.3} {:?} {}", line.confidence, line.polygon, line.text);
        }
    }

    fn judge(&mut self, truth: &Value, read: &str, known: &HashSet<char>) -> String {
        let parts = |name: &str| -> Vec<&str> {
            truth[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let wanted = collapsed(&parts("text").join(" "));
        let mut notes: Vec<String> = Vec::new();
        for part in parts("text_contains").into_iter().filter(|part| !read.contains(part)) {
            self.missed += 1;
            notes.push(format!("missed {part:?} in {read:?}"));
        }
        if !wanted.is_empty() {
            let rate = error_rate(&wanted, read);
            let unknown = wanted.chars().filter(|character| !known.contains(character)).count();
            let covered = unknown as f64 <= 0.03 * wanted.chars().count() as f64;
            notes.push(format!("CER {rate:.4}{}", if covered { "" } else { " (script not covered)" }));
            if covered {
                self.error_rates.push(rate);
            }
            if covered && rate > 0.0 {
                notes.push(format!("\n    wanted {wanted}\n    read   {read}\n   "));
            }
        } else if truth["text"].is_array() && !read.is_empty() {
            self.invented += 1;
            notes.push(format!("invented {read:?}"));
        }
        if notes.is_empty() { "right".to_owned() } else { notes.join(", ") }
    }

    fn report(mut self) {
        self.error_rates.sort_by(f64::total_cmp);
        let count = self.error_rates.len();
        let median = self.error_rates.get(count / 2).copied().unwrap_or_default();
        let up_to = |limit: f64| self.error_rates.iter().filter(|rate| **rate <= limit).count();
        let [detector, recogniser, orientation, rest] = self.spent.map(|sum| sum / self.files.max(1) as f64);
        println!(
            "{} files, {count} of covered scripts: CER median {median:.4}, mean {:.4}, {} at most 0.02, {} at most 0.1; \
             {} substrings missed, text invented in {} files",
            self.files,
            self.error_rates.iter().sum::<f64>() / count.max(1) as f64,
            up_to(0.02),
            up_to(0.1),
            self.missed,
            self.invented,
        );
        println!(
            "CPU ms a file: {:.0} (detector {detector:.0}, recogniser {recogniser:.0}, orientation {orientation:.0}, \
             rest {rest:.0})",
            detector + recogniser + orientation + rest,
        );
    }
}

fn collapsed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Levenshtein distance over characters, as a share of what is wanted.
fn error_rate(wanted: &str, read: &str) -> f64 {
    let read: Vec<char> = read.chars().collect();
    let mut row: Vec<usize> = (0..=read.len()).collect();
    for (at, a) in wanted.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, b) in read.iter().enumerate() {
            let best = (diagonal + usize::from(a != *b)).min(row[column] + 1).min(row[column + 1] + 1);
            diagonal = std::mem::replace(&mut row[column + 1], best);
        }
    }
    row[read.len()] as f64 / wanted.chars().count() as f64
}
