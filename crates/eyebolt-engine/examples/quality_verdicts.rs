//! Holds the quality gate against the corpus: `quality_verdicts CORPUS_DIR [PATH_PART]`.
//!
//! Prints every mistake, the distribution of each measure over what must be taken and what must be refused, and the
//! totals. With a part of a path: the measures of the files whose path holds it.

mod corpus;

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use eyebolt_engine::quality::{Measures, judge, measure, refusals};
use eyebolt_types::ErrorCode;
use serde_json::Value;

/// The rows whose refusal is due to size or quality, or that must be taken.
fn concerned(row: &Value) -> bool {
    let gate = corpus::text(row, "/expected/gate");
    corpus::text(row, "/expected/verdict") == "accept" || gate == "quality" || gate == "any"
}

fn is_listed(row: &Value, code: ErrorCode) -> bool {
    let name = if code == ErrorCode::ImageTooSmall { "too_small" } else { code.as_str() };
    row["expected"]["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|reason| reason == name))
}

fn mistake(row: &Value, refused: &[ErrorCode]) -> Option<&'static str> {
    match (corpus::text(row, "/expected/verdict"), refused.first()) {
        ("accept", Some(_)) => Some("refused by mistake"),
        ("reject", None) => Some("accepted by mistake"),
        (_, Some(&first)) if !is_listed(row, first) => Some("wrong reason"),
        _ => None,
    }
}

fn values(found: &Measures) -> [(&'static str, Option<f32>); 9] {
    [
        ("sharpness", found.sharpness),
        ("brightest", Some(found.brightest)),
        ("darkest", Some(found.darkest)),
        ("mean", Some(found.mean)),
        ("contrast", Some(found.contrast)),
        ("content", Some(found.content)),
        ("noise", found.noise.filter(|_| found.midtones >= 0.2)),
        ("blockiness", found.blockiness.filter(|_| found.midtones >= 0.2)),
        ("short side", Some(found.short_side as f32)),
    ]
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("usage: quality_verdicts CORPUS_DIR [PATH_PART]"));
    let part = arguments.next();
    let mut totals = BTreeMap::<(String, &str), usize>::new();
    let mut spread = BTreeMap::<(&str, String), Vec<(f32, String)>>::new();
    let (mut seconds, mut megapixels) = (0.0, 0.0);
    for row in corpus::rows(&dir).iter().filter(|row| concerned(row)) {
        let path = corpus::text(row, "/path");
        let wanted = corpus::text(row, "/expected/verdict").to_owned();
        if part.as_ref().is_some_and(|part| !path.contains(part)) {
            continue;
        }
        let Some(picture) = corpus::decode(&dir, row) else {
            *totals.entry((wanted, "not decoded here")).or_default() += 1;
            continue;
        };
        let began = Instant::now();
        let found = measure(&picture);
        seconds += began.elapsed().as_secs_f64();
        megapixels += f64::from(picture.width) * f64::from(picture.height) / 1e6;
        let refused = refusals(&found);
        if part.is_some() {
            println!("{path} {found:?}");
            for verdict in judge(&found) {
                println!("    {verdict:?}");
            }
        }
        let outcome = mistake(row, &refused);
        if let Some(outcome) = outcome {
            println!("{outcome}: {path} {refused:?} {found:?}");
        }
        *totals.entry((wanted.clone(), outcome.unwrap_or("ok"))).or_default() += 1;
        for (name, value) in values(&found) {
            if let Some(value) = value {
                spread.entry((name, wanted.clone())).or_default().push((value, path.to_owned()));
            }
        }
    }
    for ((name, wanted), mut found) in spread {
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        let at = |share: f32| found[((found.len() - 1) as f32 * share) as usize].0;
        let ends = (&found[0].1, &found[found.len() - 1].1);
        println!(
            "{name:11} {wanted:6} {:9.4} | {:9.4} {:9.4} {:9.4} {:9.4} {:9.4} | {:9.4} {ends:?}",
            at(0.0),
            at(0.01),
            at(0.1),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
    println!("{totals:#?}");
    println!("{:.2} ms a megapixel", seconds * 1e3 / megapixels);
}
