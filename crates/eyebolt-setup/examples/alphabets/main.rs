//! Shows which languages a text recogniser's characters cover, and holds its manifest to that:
//! `cargo run -p eyebolt-setup --example alphabets -- MODELS_DIR/models/pp-ocrv6-rec-small@1`.
//! It fails where the manifest claims another set of languages.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    error::Error,
    fs,
    path::PathBuf,
};

use encoding_rs::Encoding;
use eyebolt_types::ModelManifest;
use serde::Deserialize;

/// How much of a national standard must be there.
const SHARE: f64 = 0.99;

#[derive(Deserialize)]
struct Alphabets {
    latin: BTreeMap<String, String>,
    other: BTreeMap<String, String>,
    standard: BTreeMap<String, Standard>,
}

#[derive(Deserialize)]
struct Standard {
    all: String,
    encoding: String,
    rows: [u8; 2],
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf =
        std::env::args_os().nth(1).ok_or("give the directory of a text recogniser")?.into();
    let characters = fs::read_to_string(directory.join("characters.txt"))?;
    let known: HashSet<char> = characters.split('\n').flat_map(str::chars).collect();
    let manifest: ModelManifest = toml::from_str(&fs::read_to_string(directory.join("model.toml"))?)?;
    let alphabets: Alphabets = toml::from_str(include_str!("alphabets.toml"))?;

    let (supported, unsupported): (Vec<_>, Vec<_>) =
        alphabets.missing(&known)?.into_iter().partition(|(_, missing)| missing.is_none());
    for (language, missing) in &unsupported {
        println!("{language:8} {}", missing.as_deref().unwrap_or_default());
    }
    let names =
        |list: Vec<(String, Option<String>)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let (supported, unsupported) = (names(supported), names(unsupported));
    println!("languages = {supported:?}\nunsupported_languages = {unsupported:?}");
    if (manifest.languages, manifest.unsupported_languages) != (supported, unsupported) {
        return Err("the manifest lists other languages".into());
    }
    Ok(())
}

impl Alphabets {
    /// For each language, what is missing; `None` where nothing is.
    fn missing(&self, known: &HashSet<char>) -> Result<BTreeMap<String, Option<String>>, String> {
        let lacks = |letters: &str| {
            let cased = expand(letters).into_iter().flat_map(|letter| letter.to_uppercase().chain([letter]));
            let missing: BTreeSet<char> = cased.filter(|letter| !known.contains(letter)).collect();
            (!missing.is_empty()).then(|| format!("lacks {}", String::from_iter(missing)))
        };
        let latin = self.latin.iter().map(|(language, letters)| (language, lacks(&format!("a-z{letters}"))));
        let other = self.other.iter().map(|(language, letters)| (language, lacks(letters)));
        let mut all: BTreeMap<String, _> =
            latin.chain(other).map(|(language, missing)| (language.clone(), missing)).collect();
        for (language, standard) in &self.standard {
            let characters = standard.characters()?;
            let present = characters.iter().filter(|character| known.contains(character)).count();
            let share = present as f64 / characters.len() as f64;
            let few = (share < SHARE).then(|| format!("has {present} of {}", characters.len()));
            all.insert(language.clone(), lacks(&standard.all).or(few));
        }
        Ok(all)
    }
}

impl Standard {
    /// The characters in its rows.
    fn characters(&self) -> Result<Vec<char>, String> {
        let name = &self.encoding;
        let encoding = Encoding::for_label(name.as_bytes()).ok_or_else(|| format!("no encoding {name}"))?;
        let [first, last] = self.rows;
        let codes = (first..=last).flat_map(|row| (0x40..=0xFE).map(move |cell| [row, cell]));
        let valid = codes.filter(|[_, cell]| name == "big5" || *cell >= 0xA1);
        let decoded = valid.filter_map(|code| {
            encoding.decode_without_bom_handling_and_without_replacement(&code)?.chars().next()
        });
        Ok(decoded.collect())
    }
}

/// Writes ranges (`a-f`) out.
fn expand(letters: &str) -> Vec<char> {
    let letters: Vec<char> = letters.chars().collect();
    let mut all = Vec::new();
    let mut rest = letters.as_slice();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if let ['-', last, after @ ..] = after {
            all.extend(first..=*last);
            rest = after;
        } else {
            all.push(first);
        }
    }
    all
}
