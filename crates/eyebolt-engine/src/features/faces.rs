//! Faces with five landmarks, by CenterFace (arXiv 1911.03599).

use eyebolt_types::{
    Detail, Point,
    manifest::Decoder,
    request::FaceParameters,
    result::{Face, Faces, Landmarks},
};

use super::detection::{Candidate, band, suppress};
use crate::{
    BackendError, EngineError, Picture,
    backend::TensorView,
    models::Running,
    preprocess::{Frame, Placement, prepare},
};

const MAX_RESULTS: u32 = 100;
/// Input pixels for one cell of the outputs.
const STRIDE: f32 = 4.0;

/// The longer side that the model sees, pixels.
pub(crate) fn input_side(parameters: &FaceParameters, detail: Detail) -> u32 {
    parameters.input_size.unwrap_or(match parameters.detail.unwrap_or(detail) {
        Detail::Low => 320,
        Detail::Standard => 640,
        Detail::High => 1280,
    })
}

/// Finds faces. `Err` where the model fails or its outputs don't fit the manifest.
pub(crate) fn find(
    picture: &Picture,
    running: &mut Running<'_>,
    (parameters, detail): (&FaceParameters, Detail),
) -> Result<Faces, EngineError> {
    let model = running.model();
    let Decoder::Centerface { iou } = model.manifest.decoder else {
        let reason = format!("{:?} does not find faces", model.manifest.decoder);
        return Err(running.failed(BackendError::Outputs { reason }));
    };
    let side = input_side(parameters, detail);
    let input = running.preprocess(|| prepare(picture, &model.manifest.input, Frame::LongSide(side)));
    let floor = parameters.min_confidence.unwrap_or(model.manifest.min_confidence);
    let candidates = running
        .infer(&input, |outputs| Ok(Maps::read(outputs, input.shape)?.faces(floor, input.placement)))?;
    let most = parameters.max_results.unwrap_or(MAX_RESULTS) as usize;
    let kept = running.postprocess(|| suppress(candidates, most, |a, b| a.bounds.iou(&b.bounds) > iou));
    let items = kept
        .into_iter()
        .map(|found| Face {
            confidence: found.confidence,
            confidence_band: band(found.confidence, model.manifest.bands),
            bounds: found.bounds,
            landmarks: found.what,
        })
        .collect();
    Ok(Faces { model: model.id.clone(), confidence_guide: model.confidence_guide(), items })
}

/// The four output maps, `rows × columns` cells each.
struct Maps<'a> {
    columns: usize,
    cells: usize,
    heat: &'a [f32],
    size: &'a [f32],
    offset: &'a [f32],
    landmarks: &'a [f32],
}

impl<'a> Maps<'a> {
    fn read(outputs: &[TensorView<'a>], input: [usize; 4]) -> Result<Self, BackendError> {
        let (rows, columns) = (input[2] / 4, input[3] / 4);
        let fits = |index: usize, channels: usize| {
            outputs.get(index).is_some_and(|output| output.shape == [1, channels, rows, columns])
        };
        if !(fits(0, 1) && fits(1, 2) && fits(2, 2) && fits(3, 10)) {
            let shapes: Vec<_> = outputs.iter().map(|output| output.shape).collect();
            return Err(BackendError::Outputs {
                reason: format!("{shapes:?} for {rows} × {columns} cells")
            });
        }
        let [heat, size, offset, landmarks] = [0, 1, 2, 3].map(|index| outputs[index].data);
        Ok(Self { columns, cells: rows * columns, heat, size, offset, landmarks })
    }

    fn faces(&self, floor: f32, placement: Placement) -> Vec<Candidate<Landmarks>> {
        let sure = self.heat.iter().enumerate().filter(|(_, heat)| **heat >= floor);
        sure.map(|(cell, &confidence)| self.face(cell, confidence, placement)).collect()
    }

    fn face(&self, cell: usize, confidence: f32, placement: Placement) -> Candidate<Landmarks> {
        let (row, column) = ((cell / self.columns) as f32, (cell % self.columns) as f32);
        let height = self.size[cell].exp() * STRIDE;
        let width = self.size[self.cells + cell].exp() * STRIDE;
        let top = (row + self.offset[cell] + 0.5) * STRIDE - height / 2.0;
        let left = (column + self.offset[self.cells + cell] + 0.5) * STRIDE - width / 2.0;
        // Landmarks are pairs (y, x) in units of the box, from its top left corner.
        let mark = |index: usize| -> Point {
            let y = self.landmarks[2 * index * self.cells + cell] * height + top;
            let x = self.landmarks[(2 * index + 1) * self.cells + cell] * width + left;
            placement.point([x, y])
        };
        let landmarks = Landmarks {
            left_eye: mark(0),
            right_eye: mark(1),
            nose: mark(2),
            mouth_left: mark(3),
            mouth_right: mark(4),
        };
        let bounds = placement.bounds([left, top], [left + width, top + height]);
        Candidate { confidence, bounds, what: landmarks }
    }
}
