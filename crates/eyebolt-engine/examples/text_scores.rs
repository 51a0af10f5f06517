//! Reads the text files of a corpus and prints how well and at what cost: character error rate, CPU time of the
//! detector, the recogniser and the rest.
//!
//! `text_scores CORPUS_DIR MODELS_DIR [--detail low|standard|high] [--match PART] [--verbose]`

use std::{collections::HashMap, path::{Path, PathBuf}, sync::{Arc, Mutex}};

use eyebolt_engine::{BackendError, Picture, backend::{Session, TensorView}, text::{self, Characters, DbThresholds, Detector, LineOrienter, Recogniser, TextModels, TextOptions}};
use eyebolt_types::{Detail, manifest::{Bands, Channels, Fit, InputSpec}};
use image::ImageDecoder;

struct Ort(ort::session::Session);
impl Session for Ort {
    fn run(&mut self, input: TensorView<'_>, read: &mut dyn FnMut(&[TensorView<'_>])) -> Result<(), BackendError> {
        let shape: Vec<i64> = input.shape.iter().map(|d| *d as i64).collect();
        let t = ort::value::TensorRef::from_array_view((shape, input.data)).unwrap();
        let out = self.0.run(ort::inputs![t]).unwrap();
        let v = out[0].try_extract_tensor::<f32>().unwrap();
        let shape: Vec<usize> = v.0.iter().map(|d| *d as usize).collect();
        read(&[TensorView { shape: &shape, data: v.1 }]);
        Ok(())
    }
}

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

struct Timed { inner: Box<dyn Session>, spent: f64, runs: usize }
impl Session for Timed {
    fn run(&mut self, input: TensorView<'_>, read: &mut dyn FnMut(&[TensorView<'_>])) -> Result<(), BackendError> {
        let start = cpu();
        let r = self.inner.run(input, read);
        self.spent += cpu() - start;
        self.runs += 1;
        r
    }
}

fn spec(w: u32, h: u32, imagenet: bool) -> InputSpec {
    let (mean, scale) = if imagenet {
        ([123.675, 116.28, 103.53], [1.0 / 58.395, 1.0 / 57.12, 1.0 / 57.375])
    } else { ([127.5; 3], [1.0 / 127.5; 3]) };
    InputSpec { width: w, height: h, fit: Fit::Multiple32, channels: if imagenet { Channels::Rgb } else { Channels::Bgr }, mean, scale, pad: 0 }
}

fn levenshtein(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

fn decode(path: &Path) -> Option<Picture> {
    let mut decoder = image::ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_decoder().ok()?;
    let o = decoder.orientation().ok()?;
    let mut i = image::DynamicImage::from_decoder(decoder).ok()?;
    i.apply_orientation(o);
    let i = i.into_rgb8();
    Some(Picture::full(i.width(), i.height(), i.into_raw()))
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let corpus = PathBuf::from(&args[1]);
    let models = PathBuf::from(&args[2]);
    let opt = |n: &str| args.iter().position(|a| a == n).map(|i| args[i + 1].clone());
    let detail = match opt("--detail").as_deref() { Some("low") => Detail::Low, Some("high") => Detail::High, _ => Detail::Standard };
    let part = opt("--match").unwrap_or_default();
    let verbose = args.iter().any(|a| a == "--verbose");
    let env = ort::init_from(models.join("libonnxruntime.so.1.32.0")).unwrap().build().unwrap();
    let load = |n: &str| Timed { inner: Box::new(Ort(ort::session::Session::builder(&env).unwrap().with_intra_threads(1).unwrap().commit_from_file(models.join(n)).unwrap())), spent: 0.0, runs: 0 };
    let (mut det, mut rec, mut ori) = (load("PP-OCRv6_det_small.onnx"), load("PP-OCRv6_rec_small.onnx"), load("ppocrv5_cls.onnx"));
    let characters = Characters::load(&models.join("characters.txt")).unwrap();
    let known: std::collections::HashSet<char> = std::fs::read_to_string(models.join("characters.txt")).unwrap().chars().chain([' ']).collect();
    let manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(corpus.join("manifest.json")).unwrap()).unwrap();
    let (sd, sr, so) = (spec(0, 0, false), spec(0, 48, false), spec(160, 80, true));
    let mut cers = vec![];
    let mut totals = [0.0f64; 4];
    let mut n = 0;
    for row in manifest["files"].as_array().unwrap() {
        let truth = &row["truth"];
        let path = row["path"].as_str().unwrap();
        if truth.get("text").is_none() && truth.get("text_contains").is_none() && !(args.iter().any(|a| a == "--all") && path.starts_with("good/")) || !path.contains(&part) { continue; }
        let Some(p) = decode(&corpus.join(path)) else { println!("{path}: not decoded"); continue };
        let before = (det.spent, rec.spent, ori.spent, rec.runs, ori.runs);
        let start = cpu();
        let no = std::env::var("NOORI").is_ok();
        let m = TextModels {
            detector: Detector { session: &mut det, input: &sd, thresholds: DbThresholds { pixel: tune("PIX", 0.3), region: tune("BOX", 0.5), unclip_ratio: tune("UNCLIP", 1.6) } },
            recogniser: Recogniser { session: &mut rec, input: &sr, characters: &characters },
            orientation: (!no).then_some(LineOrienter { session: &mut ori, input: &so }),
        };
        let options = TextOptions { detail, min_confidence: tune("MINC", 0.5), bands: Bands::default(), max_results: 1000, auto_rotate: true };
        let f = text::read(&p, m, &options).unwrap();
        let all = cpu() - start;
        let (d, r, o) = (det.spent - before.0, rec.spent - before.1, ori.spent - before.2);
        for (t, v) in totals.iter_mut().zip([d, r, o, all - d - r - o]) { *t += v; }
        n += 1;
        let read = f.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut cer = String::new();
        if let Some(lines) = truth["text"].as_array() {
            let want = lines.iter().map(|l| l.as_str().unwrap()).collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
            if want.is_empty() {
                if !read.is_empty() { cer = format!("FALSE {read}"); }
            } else {
                let (a, b): (Vec<char>, Vec<char>) = (want.chars().collect(), read.chars().collect());
                let c = levenshtein(&a, &b) as f64 / a.len() as f64;
                let missing = a.iter().filter(|c| !known.contains(c)).count() as f64 / a.len() as f64;
                if missing < 0.03 { cers.push(c); }
                cer = format!("{c:.4}{}", if missing < 0.03 { "" } else { " (not covered)" });
                if c > 0.0 && missing < 0.2 { cer += &format!("\n    want {want}\n    read {read}"); }
            }
        }
        for part in truth["text_contains"].as_array().unwrap_or(&vec![]) {
            if !read.contains(part.as_str().unwrap()) { cer += &format!("\n    MISSED {part} in {read}"); }
        }
        println!("{path} {}x{} rot {} det {d:.0} rec {r:.0}/{} ori {o:.0}/{} rest {:.1} | {cer}", p.width, p.height, f.rotation, rec.runs - before.3, ori.runs - before.4, all - d - r - o);
        if verbose { for l in &f.lines { println!("      {:.3} {:?} {}", l.confidence, l.polygon, l.text); } }
    }
    cers.sort_by(f64::total_cmp);
    println!("covered {} median {:.4} mean {:.4} ≤0.1 {} ≤.02 {}; CPU ms per file det {:.0} rec {:.0} ori {:.0} rest {:.1} of {n}", cers.len(), cers[cers.len() / 2], cers.iter().sum::<f64>() / cers.len() as f64, cers.iter().filter(|c| **c <= 0.1).count(), cers.iter().filter(|c| **c <= 0.02).count(), totals[0] / n as f64, totals[1] / n as f64, totals[2] / n as f64, totals[3] / n as f64);
    let _ = (HashMap::<u8, u8>::new(), Arc::new(Mutex::new(0)));
}
fn tune(name: &str, default: f32) -> f32 { std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default) }
