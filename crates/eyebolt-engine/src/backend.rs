//! What runs a model: ONNX Runtime, or rten where no library can be had.

mod onnx_runtime;
mod rten;

use std::path::Path;

pub use self::{onnx_runtime::OnnxRuntime, rten::Rten};
use crate::BackendError;

/// A view of one 32-bit float tensor, row-major. The memory belongs to whoever made it.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Extent of each dimension.
    pub shape: &'a [usize],
    /// As many numbers as the product of the extents.
    pub data: &'a [f32],
}

/// Loads models.
pub trait Backend: Send + Sync {
    /// Its name in settings, logs and `GET /v1/models`.
    fn name(&self) -> &'static str;

    /// Loads the ONNX file into a session of its own, which computes on the caller's thread alone.
    ///
    /// # Errors
    /// Where the file can't be read or is no model that the backend takes.
    fn load(&self, model: &Path) -> Result<Box<dyn Session>, BackendError>;
}

/// One loaded model, for one caller at a time.
pub trait Session: Send {
    /// Runs the model on its only input and shows the outputs, in the order of the file, to `read`.
    ///
    /// Neither input nor outputs are copied: the outputs live as long as the call to `read`.
    ///
    /// # Errors
    /// Where the shape is not one that the model takes, or an operator fails.
    fn run(
        &mut self,
        input: TensorView<'_>,
        read: &mut dyn FnMut(&[TensorView<'_>]),
    ) -> Result<(), BackendError>;
}
