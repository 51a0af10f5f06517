//! The answer of `quality`: measures, verdicts and digests.

use eyebolt_types::result::{Quality, Verdict};

use crate::{Picture, digest, quality};

/// Measures the picture, which is at full size where `quality` is asked.
pub(crate) fn report(picture: &Picture) -> Quality {
    let verdicts = quality::judge(&quality::measure(picture));
    Quality {
        acceptable: verdicts.iter().all(|verdict| verdict.verdict != Verdict::Fail),
        verdicts,
        pixel_digest: digest::pixel_digest(picture).unwrap_or_default(),
        perceptual_hash: format!("{:016x}", digest::perceptual_hash(picture)),
    }
}
