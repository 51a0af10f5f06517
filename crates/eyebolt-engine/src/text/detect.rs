use eyebolt_types::{Detail, manifest::InputSpec};

use super::{
    Crop, DbThresholds,
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
        let pixels = resized(&picture.pixels, (picture.width, picture.height), None, (width, height));
        let (width, height) = (width as usize, height as usize);
        let planes = tensor::padded_planes(&Crop { width, height, pixels }, self.input, width);
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
/// resolution. Small pictures keep their size, or grow a little where small things are looked for.
fn input_size(picture: &Picture, detail: Detail) -> (u32, u32) {
    let (area, enlarged) = match detail {
        Detail::Low => (640.0 * 480.0, 1.0),
        Detail::Standard => (960.0 * 720.0, 1.0),
        Detail::High => (1600.0 * 1200.0, 1.5),
    };
    let (width, height) = (picture.width as f32, picture.height as f32);
    let scale = (area / (width * height)).sqrt().min(enlarged);
    let side = |length: f32| ((length * scale / STRIDE).round().max(1.0) * STRIDE) as u32;
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32, detail: Detail) -> (u32, u32) {
        input_size(&Picture { width, height, full_width: width, full_height: height, pixels: vec![] }, detail)
    }

    #[test]
    fn large_pictures_shrink_to_the_area_that_the_detail_allows() {
        assert_eq!(size(4000, 3000, Detail::Low), (640, 480));
        assert_eq!(size(4000, 3000, Detail::Standard), (960, 736));
        assert_eq!(size(4000, 3000, Detail::High), (1600, 1216));
        assert_eq!(size(4000, 250, Detail::Standard), (3328, 192));
    }

    #[test]
    fn small_pictures_keep_their_size_but_for_high_detail() {
        assert_eq!(size(640, 320, Detail::Standard), (640, 320));
        assert_eq!(size(640, 320, Detail::High), (960, 480));
        assert_eq!(size(3, 3, Detail::Low), (32, 32));
    }
}
