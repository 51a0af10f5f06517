use eyebolt_types::manifest::InputSpec;

use super::{Crop, tensor};
use crate::{
    BackendError,
    backend::{Session, TensorView},
};

/// Tells whether a line stands on its head.
pub struct LineOrienter<'a> {
    /// The model.
    pub session: &'a mut dyn Session,
    /// How pixels become its input: a line is squeezed into this size.
    pub input: &'a InputSpec,
}

impl LineOrienter<'_> {
    /// The probability that the line stands on its head, 0–1.
    pub(crate) fn upside_down(&mut self, crop: &Crop) -> Result<f32, BackendError> {
        let (width, height) = (self.input.width.max(1), self.input.height.max(1));
        let planes = tensor::padded_planes(&crop.stretched(width, height), self.input, width as usize);
        let shape = [1, 3, height as usize, width as usize];
        let mut probability = Ok(0.0);
        self.session.run(TensorView { shape: &shape, data: &planes }, &mut |outputs| {
            probability = tensor::output(outputs, |shape| shape == [2]).map(|(_, both)| both[1]);
        })?;
        probability
    }
}
