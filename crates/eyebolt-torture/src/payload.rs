//! What clients send: small files that the fake backend takes for images.

use aws_lc_rs::digest;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// What the fake backend makes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Succeeds.
    Sound,
    /// Fails, each time in the same way: `422 corrupt_image`.
    Corrupt,
    /// Fails on its first attempts, then succeeds.
    Flaky,
}

/// A file and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// What becomes of it.
    pub(crate) kind: Kind,
    /// The file's text.
    pub(crate) text: String,
    /// Names, separated by commas.
    pub(crate) features: String,
    /// What is at the end of the address that wants to be told of its job's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hook: Option<String>,
    /// The pipeline that is asked for instead of features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Plan>,
}

const FEATURES: [&str; 3] = ["objects", "text", "labels"];
const LONGEST_PADDING: usize = 4000;
/// More than the server keeps in a row, bytes.
const LARGE: usize = 140_000;

impl Payload {
    /// A file that nobody sent before. One in sixteen is corrupt, as many are flaky.
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let kind = match rng.random_range(0..16) {
            0 => Kind::Corrupt,
            1 => Kind::Flaky,
            _ => Kind::Sound,
        };
        let word = match kind {
            Kind::Sound => "sound",
            Kind::Corrupt => "corrupt",
            Kind::Flaky => "flaky",
        };
        let length = rng.random_range(0..=LONGEST_PADDING);
        // One in eight is too large for its row, and becomes a blob.
        let length = if rng.random_range(0..8) == 0 { LARGE + length } else { length };
        let padding = "x".repeat(length);
        let text = format!("FAKE {word} {:032x} {padding}", rng.random::<u128>());
        let count = rng.random_range(1..=FEATURES.len());
        let features = FEATURES.sample(rng, count).copied().collect::<Vec<_>>().join(",");
        Self { kind, text, features, hook: hook(rng), plan: None }
    }

    /// A file that nobody sent before, and a pipeline for it.
    pub(crate) fn draw_pipeline(rng: &mut StdRng) -> Self {
        let plan = Plan::draw(rng);
        let padding = "x".repeat(rng.random_range(0..=LONGEST_PADDING));
        let text = format!("FAKE sound {} {:032x} {padding}", plan.words(), rng.random::<u128>());
        Self { kind: Kind::Sound, text, features: String::new(), hook: hook(rng), plan: Some(plan) }
    }

    /// A digest of everything that makes another request of it.
    pub(crate) fn fingerprint(&self) -> String {
        let hook = self.hook.as_deref().unwrap_or_default();
        let plan = self.plan.as_ref().map(|plan| plan.pipeline().to_string()).unwrap_or_default();
        sha256(format!("{}{plan}\n{hook}\n{}", self.features, self.text).as_bytes())
    }
}

/// One in four wants to be told.
fn hook(rng: &mut StdRng) -> Option<String> {
    (rng.random_range(0..4) == 0).then(|| format!("{:032x}", rng.random::<u128>()))
}

/// As lower-case hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_files_again_and_no_file_twice() {
        let draw = || {
            let mut rng = StdRng::seed_from_u64(7);
            (0..100).map(|_| Payload::draw(&mut rng)).collect::<Vec<_>>()
        };
        let (first, again) = (draw(), draw());
        assert_eq!(first, again);
        let fingerprints: std::collections::BTreeSet<_> = first.iter().map(Payload::fingerprint).collect();
        assert_eq!(fingerprints.len(), first.len());
        for kind in [Kind::Sound, Kind::Corrupt, Kind::Flaky] {
            assert!(first.iter().any(|payload| payload.kind == kind), "{kind:?} is never drawn");
        }
        let hooks = first.iter().filter(|payload| payload.hook.is_some()).count();
        assert!((1..first.len()).contains(&hooks), "{hooks}");
    }
}
