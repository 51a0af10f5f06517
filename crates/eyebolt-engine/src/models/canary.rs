//! A tiny inference that shows that a session computes: run when it is loaded and by the readiness check.

use eyebolt_types::manifest::Decoder;

use super::Model;
use crate::{
    BackendError,
    backend::{Session, TensorView},
};

/// Side of the canary where a model leaves its size free: small, and a multiple of 32.
const FREE_SIDE: usize = 64;

/// Runs mid-grey through the session; outputs must be there, and every number finite.
///
/// # Errors
/// Where the model fails or answers with something that is no number.
pub(crate) fn run(model: &Model, session: &mut dyn Session) -> Result<(), BackendError> {
    let spec = &model.manifest.input;
    let side = |side: u32| if side == 0 { FREE_SIDE } else { side as usize };
    let (width, height) = (side(spec.width), side(spec.height));
    let mut data = Vec::with_capacity(3 * width * height);
    for channel in 0..3 {
        let grey = (128.0 - spec.mean[channel]) * spec.scale[channel];
        data.resize(data.len() + width * height, grey);
    }
    let mut sound = false;
    session.run(TensorView { shape: &[1, 3, height, width], data: &data }, &mut |outputs| {
        let numbers = |output: &TensorView<'_>| output.data.iter().all(|value| value.is_finite());
        sound = outputs.len() >= outputs_of(&model.manifest.decoder) && outputs.iter().all(numbers);
    })?;
    if sound {
        Ok(())
    } else {
        Err(BackendError::Outputs { reason: "the canary found outputs missing or not finite".to_owned() })
    }
}

fn outputs_of(decoder: &Decoder) -> usize {
    match decoder {
        Decoder::Ssd { .. } => 2,
        Decoder::Centerface { .. } => 4,
        Decoder::Classifier { logits_output, embedding_output } => {
            1 + embedding_output.unwrap_or(0).max(*logits_output)
        }
        Decoder::Yolox { .. }
        | Decoder::DbText { .. }
        | Decoder::LineOrientation {}
        | Decoder::CtcText { .. } => 1,
    }
}
