use eyebolt_types::manifest::{Channels, InputSpec};

use crate::{BackendError, backend::TensorView};

/// Writes RGB pixels as three planes, in the order and scale of the input.
pub(crate) fn write_planes(pixels: &[u8], spec: &InputSpec, planes: &mut Vec<f32>) {
    let order = match spec.channels {
        Channels::Rgb => [0, 1, 2],
        Channels::Bgr => [2, 1, 0],
    };
    let pixels = pixels.as_chunks::<3>().0;
    planes.clear();
    for (place, channel) in order.into_iter().enumerate() {
        let (mean, scale) = (spec.mean[place], spec.scale[place]);
        planes.extend(pixels.iter().map(|pixel| (f32::from(pixel[channel]) - mean) * scale));
    }
}

/// The first output, where its last dimensions are as expected.
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
        _ => Err(wrong(format!("the output has the shape {:?}", first.shape))),
    }
}
