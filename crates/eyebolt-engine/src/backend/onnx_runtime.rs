use std::{fmt::Display, path::Path};

use ort::{
    environment::Environment,
    ep,
    session::{Session as OrtSession, SessionInputValue, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use super::{Backend, Session, TensorView};
use crate::BackendError;

const NAME: &str = "onnxruntime";

/// Runs models in the ONNX Runtime library, loaded from a file when the server starts.
pub struct OnnxRuntime {
    environment: Environment,
}

impl OnnxRuntime {
    /// Loads the library, version 1.24 or later. Once a process.
    ///
    /// # Errors
    /// Where the file is missing, is no ONNX Runtime, is too old, or a library was loaded already.
    pub fn load(library: &Path) -> Result<Self, BackendError> {
        let failed =
            |reason: &dyn Display| BackendError::Library { backend: NAME, reason: reason.to_string() };
        if !library.is_file() {
            return Err(failed(&format!("{} is missing", library.display())));
        }
        let builder = ort::init_from(library).map_err(|error| failed(&error))?;
        let environment =
            builder.with_name("eyebolt").with_telemetry(false).build().map_err(|error| failed(&error))?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        Ok(Self { environment })
    }

    fn session(&self, model: &Path) -> ort::Result<OrtSession> {
        OrtSession::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::Level3)?
            // A server gains by running requests side by side; threads inside one call would spin against each other.
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            // ONNX Runtime's arena keeps the most that any request ever needed, for each session, for ever.
            .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])?
            // Planned per input shape and kept: pages and lines of text have a new shape each time.
            .with_memory_pattern(false)?
            .commit_from_file(model)
    }
}

impl Backend for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, model: &Path) -> Result<Box<dyn Session>, BackendError> {
        let session = self
            .session(model)
            .map_err(|error| BackendError::Load { backend: NAME, reason: error.to_string() })?;
        Ok(Box::new(Loaded(session)))
    }
}

struct Loaded(OrtSession);

impl Session for Loaded {
    fn run(
        &mut self,
        input: TensorView<'_>,
        read: &mut dyn FnMut(&[TensorView<'_>]),
    ) -> Result<(), BackendError> {
        let failed = |error: ort::Error| BackendError::Run { backend: NAME, reason: error.to_string() };
        let tensor = TensorRef::from_array_view((input.shape, input.data)).map_err(failed)?;
        let outputs = self.0.run([SessionInputValue::from(tensor)]).map_err(failed)?;
        let tensors = (0..outputs.len())
            .map(|index| outputs[index].try_extract_tensor::<f32>())
            .collect::<ort::Result<Vec<_>>>()
            .map_err(failed)?;
        let shapes: Vec<Vec<usize>> =
            tensors.iter().map(|(shape, _)| shape.iter().map(|&extent| extent as usize).collect()).collect();
        let views: Vec<_> =
            shapes.iter().zip(&tensors).map(|(shape, (_, data))| TensorView { shape, data }).collect();
        read(&views);
        Ok(())
    }
}
