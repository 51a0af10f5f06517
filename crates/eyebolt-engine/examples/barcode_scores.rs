//! Reads the codes of the corpus: `barcode_scores CORPUS_DIR [PATH_PART]`.
//!
//! Prints the codes missed, those read that aren't there, and the slowest files; then the totals beside those of the
//! reference decoder. Texts are compared as the manifest's `barcode_equivalence` says.

mod corpus;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use eyebolt_engine::barcodes;
use eyebolt_types::request::BarcodeParameters;
use serde_json::Value;

/// The texts that count as equal: brackets or FNC1, line ends, symbols for control characters, the EAN-13 of a UPC,
/// Codabar without its stop letters.
fn plain(format: &str, text: &str) -> String {
    let flat: String =
        format.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
    let shown = |letter: char| match letter {
        control @ '\0'..'\x20' => char::from_u32(0x2400 + control as u32).unwrap_or(control),
        other => other,
    };
    let text = text.replace("\r\n", "\n").replace('\x1d', "");
    let text: String = text.chars().map(shown).collect();
    match flat.as_str() {
        "UPCA" | "EAN13" if text.len() == 12 => format!("0{text}"),
        "UPCE" if text.len() == 8 => upc_a(&text).map_or(text, |long| format!("0{long}")),
        "CODABAR" => text.to_ascii_uppercase().trim_matches(['A', 'B', 'C', 'D']).to_owned(),
        _ if text.starts_with('(') => text.replace(['(', ')'], ""),
        _ => text,
    }
}

/// The twelve digits of an eight-digit UPC-E.
fn upc_a(text: &str) -> Option<String> {
    let (system, digits, last, check) = (text.get(..1)?, text.get(1..6)?, text.get(6..7)?, text.get(7..8)?);
    let body = match last {
        "0" | "1" | "2" => format!("{}{last}0000{}", &digits[..2], &digits[2..]),
        "3" => format!("{}00000{}", &digits[..3], &digits[3..]),
        "4" => format!("{}00000{}", &digits[..4], &digits[4..]),
        _ => format!("{digits}0000{last}"),
    };
    Some(format!("{system}{body}{check}"))
}

fn listed(codes: &Value) -> Vec<(String, String)> {
    let of = |code: &Value, name: &str| code[name].as_str().unwrap_or_default().to_owned();
    codes.as_array().into_iter().flatten().map(|code| (of(code, "format"), of(code, "text"))).collect()
}

/// How many of the truths are found, the truths that aren't, and what is found beside them.
fn compare(truths: &[(String, String)], found: &[(String, String)]) -> (usize, Vec<String>, Vec<String>) {
    let mut rest: Vec<_> = found.iter().map(|(format, text)| (plain(format, text), format)).collect();
    let mut missed = Vec::new();
    for (format, text) in truths {
        match rest
            .iter()
            .position(|(found, other)| *found == plain(format, text) || *found == plain(other, text))
        {
            Some(index) => drop(rest.swap_remove(index)),
            None => missed.push(format!("{format} {text}")),
        }
    }
    (
        truths.len() - missed.len(),
        missed,
        rest.into_iter().map(|(text, format)| format!("{format} {text}")).collect(),
    )
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("usage: barcode_scores CORPUS_DIR [PATH_PART]"));
    let part = arguments.next().unwrap_or_default();
    let (mut codes, mut read, mut reference, mut extra) = (0, 0, 0, 0);
    let mut times: Vec<(Duration, String)> = Vec::new();
    for row in corpus::rows(&dir).iter().filter(|row| corpus::text(row, "/path").contains(&part)) {
        let truths = row.pointer("/truth/barcodes");
        if truths.is_none() && corpus::text(row, "/expected/verdict") != "accept" {
            continue;
        }
        let Some(picture) = corpus::decode(&dir, row) else { continue };
        let path = corpus::text(row, "/path");
        let began = Instant::now();
        let found = barcodes::read(&picture, &BarcodeParameters::default()).expect("no formats are named");
        times.push((began.elapsed(), format!("{path} {picture:?}")));
        let found: Vec<_> = found.into_iter().map(|code| (code.format, code.text)).collect();
        let Some(truths) = truths.map(listed) else {
            if !found.is_empty() && corpus::text(row, "/category") != "near" {
                println!("no truth: {path}: {found:?}");
            }
            continue;
        };
        let (hits, missed, more) = compare(&truths, &found);
        for missed in missed {
            println!("missed: {path}: {missed}");
        }
        for more in &more {
            println!("wrong extra: {path}: {more}");
        }
        codes += truths.len();
        read += hits;
        extra += more.len();
        reference += compare(&truths, &listed(&row["reference_decoder"])).0;
        if !part.is_empty() {
            println!("{path}: {found:?}");
        }
    }
    times.sort();
    for (time, path) in times.iter().rev().take(6) {
        println!("{time:?} {path}");
    }
    println!("{read} of {codes} codes read, {extra} wrong extra; the reference reads {reference}");
}
