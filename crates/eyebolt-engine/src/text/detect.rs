use eyebolt_types::{Detail, manifest::InputSpec};

use super::{
    DbThresholds,
    crop::resized,
    regions::{self, ProbabilityMap, Region},
    tensor,
};
use crate::{
    BackendError, Picture,
    backend::{Session, TensorView},
};

/// Both sides of the input are multiples of this: the model halves them five times.
const STRIDE: f32 = 32.0;

/// Finds lines: one probability map at input size.
pub struct Detector<'a> {
    /// The model.
    pub session: &'a mut dyn Session,
    /// How pixels become its input; the size is decided here.
    pub input: &'a InputSpec,
    /// How its map is read.
    pub thresholds: DbThresholds,
}

impl Detector<'_> {
    /// The regions with text, in picture pixels.
    pub(crate) fn detect(&mut self, picture: &Picture, detail: Detail) -> Result<Vec<Region>, BackendError> {
        let (width, height) = input_size(picture, detail);
        let size = (picture.width, picture.height);
        let pixels = resized(&picture.pixels, size, None, (width, height)).unwrap_or_default();
        let mut planes = Vec::new();
        tensor::write_planes(&pixels, self.input, &mut planes);
        let (width, height) = (width as usize, height as usize);
        let input = TensorView { shape: &[1, 3, height, width], data: &planes };
        let mut found = Ok(Vec::new());
        self.session.run(input, &mut |outputs| {
            found = tensor::output(outputs, |shape| shape == [height, width])
                .map(|(_, values)| regions::find(ProbabilityMap { width, height, values }, self.thresholds));
        })?;
        let scale = [picture.width as f32 / width as f32, picture.height as f32 / height as f32];
        let mut found = found?;
        for region in &mut found {
            region.quad = region.quad.map(|[x, y]| [x * scale[0], y * scale[1]]);
        }
        Ok(found)
    }
}

/// Width and height of the input. The detail sets its area, so that time is bounded and long strips keep their
/// resolution; small pictures are enlarged at most by [`ENLARGE`].
fn input_size(picture: &Picture, detail: Detail) -> (u32, u32) {
    let area = match detail {
        Detail::Low => 640.0 * 480.0,
        Detail::Standard => 960.0 * 720.0,
        Detail::High => 1600.0 * 1200.0,
    };
    let (width, height) = (picture.width as f32, picture.height as f32);
    let scale = (area / (width * height)).sqrt().min(crate::text::tune("ENLARGE", 1.0));
    let side = |length: f32| ((length * scale / STRIDE).round().max(1.0) * STRIDE) as u32;
    (side(width), side(height))
}
