//! Holds the content digests against the corpus, as it is scored: `near_duplicates CORPUS_DIR [LARGE_JPEG]`.
//!
//! Files go in the order of the manifest; each is linked to the oldest one before it that has its bytes, else its
//! pixels, else a near picture. Candidates come from the bands alone, as in an index. With a JPEG: what decoding it at
//! each fraction costs, and what the digests add.

#[expect(dead_code, reason = "files go through the engine's own decoders")]
mod corpus;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Instant,
};

use eyebolt_engine::{
    Picture, decode,
    digest::{ContentDigests, PerceptualDigest, blake3, content_digests, perceptual_distance},
    probe,
};
use eyebolt_types::ImageLimits;
use serde_json::Value;

/// Relations whose members must be found.
const LINKED: [&str; 3] = ["original", "same_pixels", "near"];

/// What was seen before.
#[derive(Default)]
struct Index {
    seen: Vec<(String, PerceptualDigest)>,
    bytes: HashMap<[u8; 32], usize>,
    pixels: HashMap<[u8; 32], usize>,
    bands: HashMap<u32, Vec<usize>>,
}

impl Index {
    /// The oldest match of the strongest kind, and how far it is.
    fn find(&self, bytes: &[u8; 32], content: &ContentDigests) -> Option<(usize, &'static str, u32)> {
        let exact = self.bytes.get(bytes).map(|&at| (at, "bytes", 0));
        exact.or_else(|| self.pixels.get(&content.pixels).map(|&at| (at, "pixels", 0))).or_else(|| {
            let probes = content.perceptual.probes();
            let candidates = probes.iter().filter_map(|probe| self.bands.get(probe)).flatten();
            let near = candidates.filter_map(|&at| {
                let far = perceptual_distance(content.perceptual.as_bytes(), self.seen[at].1.as_bytes())?;
                Some((at, "perceptual", far))
            });
            near.min()
        })
    }

    fn add(&mut self, name: &str, bytes: [u8; 32], content: ContentDigests) {
        let at = self.seen.len();
        self.bytes.entry(bytes).or_insert(at);
        self.pixels.entry(content.pixels).or_insert(at);
        for band in content.perceptual.bands() {
            self.bands.entry(band).or_default().push(at);
        }
        self.seen.push((name.to_owned(), content.perceptual));
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("usage: near_duplicates CORPUS_DIR [LARGE_JPEG]"));
    let rows = corpus::rows(&dir);
    let rows: HashMap<_, _> = rows.iter().map(|row| (corpus::text(row, "/path"), row)).collect();
    score(&dir, &rows);
    if let Some(large) = arguments.next() {
        cost(&std::fs::read(large).expect("the large file can be read"));
    }
}

fn score(dir: &Path, rows: &HashMap<&str, &Value>) {
    let (mut index, mut links) = (Index::default(), BTreeMap::<&str, usize>::new());
    let (mut must, mut anchored) = (BTreeMap::<(String, &str), usize>::new(), Vec::new());
    let order = corpus::rows(dir);
    for row in order.iter().filter(|row| row["near"].is_object()) {
        let path = corpus::text(row, "/path");
        let bytes = std::fs::read(dir.join(path)).expect("the corpus is whole");
        let (digest, content) = (blake3(&bytes), content_digests(&decoded(&bytes, None).1));
        let found = index.find(&digest, &content);
        let kind = found.map_or("none", |(at, ..)| judge(row, rows[index.seen[at].0.as_str()]));
        *links.entry(kind).or_default() += 1;
        if let Some((at, by, far)) = found.filter(|_| ["false", "hard", "optional"].contains(&kind)) {
            println!("{kind}: {path} to {} by {by}, {far}", index.seen[at].0);
        }
        let (group, relation) = (corpus::text(row, "/near/group"), corpus::text(row, "/near/relation"));
        if LINKED.contains(&relation) {
            if anchored.contains(&group) {
                let linked = if kind == "right" || kind == "unscored" { "linked" } else { "missed" };
                *must.entry((relation.to_owned(), linked)).or_default() += 1;
                if linked == "missed" {
                    println!("missed: {path}");
                }
            }
            anchored.push(group);
        }
        index.add(path, digest, content);
    }
    println!("must link: {must:?}\nlinks: {links:?}");
}

/// As the corpus is scored: right, false, or a kind of link that the precision leaves out.
fn judge(row: &Value, other: &Value) -> &'static str {
    let [this, other] = [row, other].map(|row| {
        let part = |name| corpus::text(row, name);
        (part("/near/group"), part("/near/relation"), part("/near/scene"))
    });
    match () {
        () if this.0 == other.0 && LINKED.contains(&this.1) => "right",
        () if this.0 == other.0 => "unscored",
        () if !this.2.is_empty() && this.2 == other.2 => "same scene",
        () if this.1 == "optional" || other.1 == "optional" => "optional",
        () if this.1 == "negative_hard" || other.1 == "negative_hard" => "hard",
        () => "false",
    }
}

fn decoded(bytes: &[u8], wanted: Option<u32>) -> (u32, Picture) {
    let header = probe::probe(bytes, &ImageLimits::default()).expect("the file is taken");
    let plan = decode::plan(&header, wanted);
    (plan.scale, decode::decode(bytes, &header, &plan).expect("the file is whole"))
}

fn cost(bytes: &[u8]) {
    println!(
        "| fraction | decoding, ms | pixel digest, ms | perceptual digest, ms |\n| ---: | ---: | ---: | ---: |"
    );
    let side = decoded(bytes, None).1.width.max(decoded(bytes, None).1.height);
    for fraction in [1, 2, 4, 8] {
        let (scale, picture) = decoded(bytes, Some(side / fraction));
        let decoding = best(|| decoded(bytes, Some(side / fraction)));
        let perceptual = best(|| PerceptualDigest::of(&picture));
        let both = best(|| content_digests(&picture));
        println!("| 1/{scale} | {decoding:.2} | {:.2} | {perceptual:.2} |", both - perceptual);
    }
}

/// The best of nine, milliseconds.
fn best<T>(work: impl Fn() -> T) -> f64 {
    let times = (0..9).map(|_| {
        let begun = Instant::now();
        let done = work();
        let took = begun.elapsed();
        drop(std::hint::black_box(done));
        took.as_secs_f64() * 1000.0
    });
    times.fold(f64::INFINITY, f64::min)
}
