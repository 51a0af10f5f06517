//! SSD outputs (arXiv 1512.02325), with the box coding of the TensorFlow object detection API: scales 10, 10, 5, 5.

use super::{Candidate, Found, Reading, What};
use crate::{BackendError, backend::TensorView};

/// Reads `loc` \[1, n, 4\] (ty, tx, th, tw) and `scores` \[1, n, classes\] against the anchors
/// (ymin, xmin, ymax, xmax; 0–1 of the input).
pub(super) fn candidates(outputs: &[TensorView<'_>], read: &Reading<'_>) -> Result<Vec<Found>, BackendError> {
    let anchors = &read.model.anchors;
    let classes = read.wanted.len();
    let [loc, scores, ..] = outputs else {
        return Err(BackendError::Outputs { reason: "fewer than two outputs".to_owned() });
    };
    if loc.shape != [1, anchors.len(), 4] || scores.shape != [1, anchors.len(), classes] {
        let reason = format!(
            "{:?} and {:?} for {} anchors and {classes} labels",
            loc.shape,
            scores.shape,
            anchors.len()
        );
        return Err(BackendError::Outputs { reason });
    }
    let mut found = Vec::new();
    for ((anchor, code), row) in
        anchors.iter().zip(loc.data.chunks_exact(4)).zip(scores.data.chunks_exact(classes))
    {
        for (class, &confidence) in row.iter().enumerate() {
            if confidence >= read.floor && read.wanted[class] {
                found.push(Candidate {
                    confidence,
                    bounds: decode(anchor, code, read),
                    what: What { class, in_part: false },
                });
            }
        }
    }
    Ok(found)
}

fn decode(anchor: &[f32; 4], code: &[f32], read: &Reading<'_>) -> eyebolt_types::BoundingBox {
    let &[top, left, bottom, right] = anchor;
    let (height, width) = (bottom - top, right - left);
    let y = code[0] / 10.0 * height + f32::midpoint(top, bottom);
    let x = code[1] / 10.0 * width + f32::midpoint(left, right);
    let half_height = (code[2] / 5.0).exp() * height / 2.0;
    let half_width = (code[3] / 5.0).exp() * width / 2.0;
    let input = &read.model.manifest.input;
    let (w, h) = (input.width as f32, input.height as f32);
    read.placement
        .bounds([(x - half_width) * w, (y - half_height) * h], [(x + half_width) * w, (y + half_height) * h])
}
