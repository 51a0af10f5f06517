use eyebolt_types::manifest::{Channels, InputSpec};

use super::Crop;
use crate::{BackendError, backend::TensorView};

/// The pixels as three planes in the order and scale of the input, each row padded to `width` with the pad value.
pub(crate) fn padded_planes(crop: &Crop, spec: &InputSpec, width: usize) -> Vec<f32> {
    let mut planes = Vec::with_capacity(3 * width * crop.height);
    for (place, channel) in channel_order(spec).into_iter().enumerate() {
        let value = |byte: u8| (f32::from(byte) - spec.mean[place]) * spec.scale[place];
        for row in crop.pixels.chunks_exact(crop.width * 3) {
            planes.extend(row.as_chunks::<3>().0.iter().map(|pixel| value(pixel[channel])));
            planes.resize(planes.len() + width.saturating_sub(crop.width), value(spec.pad));
        }
    }
    planes
}

fn channel_order(spec: &InputSpec) -> [usize; 3] {
    match spec.channels {
        Channels::Rgb => [0, 1, 2],
        Channels::Bgr => [2, 1, 0],
    }
}

/// The numbers of the first output and its last dimensions, where these are as expected.
pub(crate) fn output<'a, const N: usize>(
    outputs: &[TensorView<'a>],
    fits: impl Fn([usize; N]) -> bool,
) -> Result<([usize; N], &'a [f32]), BackendError> {
    let wrong = |reason: String| BackendError::Outputs { reason };
    let first = outputs.first().ok_or_else(|| wrong("the model has no output".to_owned()))?;
    match first.shape.last_chunk::<N>() {
        Some(&shape) if fits(shape) && shape.iter().product::<usize>() == first.data.len() => {
            Ok((shape, first.data))
        }
        _ => Err(wrong(format!("the first output has the shape {:?}", first.shape))),
    }
}

#[cfg(test)]
mod tests {
    use eyebolt_types::manifest::Fit;

    use super::*;

    #[test]
    fn planes_are_swapped_scaled_and_padded() {
        let spec = InputSpec {
            width: 0,
            height: 0,
            fit: Fit::LetterboxTopLeft,
            channels: Channels::Bgr,
            mean: [1.0, 2.0, 3.0],
            scale: [10.0, 1.0, 1.0],
            pad: 5,
        };
        let crop = Crop { width: 2, height: 1, pixels: vec![10, 20, 30, 40, 50, 60] };
        let planes = [290.0, 590.0, 40.0, 18.0, 48.0, 3.0, 7.0, 37.0, 2.0];
        assert_eq!(padded_planes(&crop, &spec, 3), planes);
    }

    #[test]
    fn outputs_of_another_shape_are_refused() {
        let view = TensorView { shape: &[1, 2, 3], data: &[0.0; 6] };
        assert_eq!(output(&[view], |shape| shape == [2, 3]).unwrap(), ([2, 3], &[0.0; 6][..]));
        let wrong = output(&[view], |[classes]| classes == 3).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "the model's outputs don't fit its manifest: the first output has the shape [1, 2, 3]"
        );
        assert!(output(&[], |[_]: [usize; 1]| true).is_err());
    }
}
