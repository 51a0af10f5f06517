//! YOLOX outputs (arXiv 2107.08430): anchor-free, a grid for each of the strides 8, 16 and 32.

use super::{Candidate, Found, Reading, What};
use crate::{BackendError, backend::TensorView};

const STRIDES: [usize; 3] = [8, 16, 32];

/// Reads \[1, n, 5 + classes\]: centre and log size in strides, objectness, class scores (both already sigmoid).
pub(super) fn candidates(
    outputs: &[TensorView<'_>],
    read: &Reading<'_>,
    input: [usize; 4],
) -> Result<Vec<Found>, BackendError> {
    let row_length = 5 + read.wanted.len();
    let cells: usize = STRIDES.iter().map(|stride| (input[2] / stride) * (input[3] / stride)).sum();
    let Some(output) = outputs.first().filter(|output| output.shape == [1, cells, row_length]) else {
        let shape = outputs.first().map(|output| output.shape);
        let reason = format!("{shape:?} where [1, {cells}, {row_length}] is due");
        return Err(BackendError::Outputs { reason });
    };
    let grid = STRIDES.into_iter().flat_map(|stride| {
        let (rows, columns) = (input[2] / stride, input[3] / stride);
        (0..rows).flat_map(move |y| (0..columns).map(move |x| (x as f32, y as f32, stride as f32)))
    });
    let mut found = Vec::new();
    for ((x, y, stride), row) in grid.zip(output.data.chunks_exact(row_length)) {
        let objectness = row[4];
        if objectness < read.floor {
            continue;
        }
        let centre = [(row[0] + x) * stride, (row[1] + y) * stride];
        let half = [row[2].exp() * stride / 2.0, row[3].exp() * stride / 2.0];
        let bounds = read
            .placement
            .bounds([centre[0] - half[0], centre[1] - half[1]], [centre[0] + half[0], centre[1] + half[1]]);
        for (class, score) in row[5..].iter().enumerate() {
            let confidence = objectness * score;
            if confidence >= read.floor && read.wanted[class] {
                found.push(Candidate { confidence, bounds, what: What { class, in_part: false } });
            }
        }
    }
    Ok(found)
}
