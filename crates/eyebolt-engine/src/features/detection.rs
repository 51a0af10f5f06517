//! What object and face detectors have in common: candidates, and non-maximum suppression.

use eyebolt_types::{BoundingBox, manifest::Bands, result::ConfidenceBand};

/// One finding before suppression, in pixels of the full image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate<T> {
    /// 0–1.
    pub(crate) confidence: f32,
    pub(crate) bounds: BoundingBox,
    /// The class, or whatever else belongs to the finding.
    pub(crate) what: T,
}

/// Greedy non-maximum suppression: the surest first; a weaker one is dropped where it is the `same` as a kept one. At
/// most `most` are kept. Candidates without an area or a finite confidence are dropped.
pub(crate) fn suppress<T>(
    mut candidates: Vec<Candidate<T>>,
    most: usize,
    same: impl Fn(&Candidate<T>, &Candidate<T>) -> bool,
) -> Vec<Candidate<T>> {
    candidates.retain(|candidate| candidate.confidence.is_finite() && candidate.bounds.area() > 0.0);
    candidates.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut kept: Vec<Candidate<T>> = Vec::new();
    for candidate in candidates {
        if kept.len() == most {
            break;
        }
        if !kept.iter().any(|other| same(other, &candidate)) {
            kept.push(candidate);
        }
    }
    kept
}

/// The band of a confidence.
pub(crate) fn band(confidence: f32, bands: Bands) -> ConfidenceBand {
    if confidence >= bands.high {
        ConfidenceBand::High
    } else if confidence >= bands.medium {
        ConfidenceBand::Medium
    } else {
        ConfidenceBand::Low
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(confidence: f32, x: f32, what: u8) -> Candidate<u8> {
        let bounds = BoundingBox { x, y: 0.0, width: 10.0, height: 10.0 };
        Candidate { confidence, bounds, what }
    }

    #[test]
    fn the_surer_of_two_that_overlap_stays_and_other_kinds_are_left_alone() {
        let found = vec![candidate(0.5, 1.0, 0), candidate(0.9, 0.0, 0), candidate(0.4, 1.0, 1)];
        let kept = suppress(found, 10, |a, b| a.what == b.what && a.bounds.iou(&b.bounds) > 0.5);
        assert_eq!(kept, [candidate(0.9, 0.0, 0), candidate(0.4, 1.0, 1)]);
    }

    #[test]
    fn what_is_no_number_is_dropped() {
        assert!(suppress(vec![candidate(f32::NAN, 0.0, 0)], 10, |_, _| true).is_empty());
    }

    proptest! {
        #[test]
        fn no_two_kept_ones_overlap(places in prop::collection::vec((0.0f32..1.0, 0.0f32..200.0), 0..60)) {
            let found: Vec<_> = places.iter().map(|&(confidence, x)| candidate(confidence, x, 0)).collect();
            let kept = suppress(found, usize::MAX, |a, b| a.bounds.iou(&b.bounds) > 0.3);
            for (index, one) in kept.iter().enumerate() {
                for other in &kept[..index] {
                    prop_assert!(one.bounds.iou(&other.bounds) <= 0.3);
                    prop_assert!(one.confidence <= other.confidence);
                }
            }
        }
    }
}
