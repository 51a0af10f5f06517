//! A model at work on one image, with a stopwatch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Model;
use crate::{
    BackendError, EngineError,
    backend::{Session, TensorView},
    preprocess::Prepared,
};

/// Where the time of a step went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// Pixels to tensors.
    pub preprocess: Duration,
    /// Inside the backend.
    pub inference: Duration,
    /// Tensors to findings.
    pub postprocess: Duration,
}

/// A model, a session of it, and where the time goes.
pub(crate) struct Running<'a> {
    pub(crate) model: &'a Arc<Model>,
    pub(crate) session: &'a mut dyn Session,
    pub(crate) phases: &'a mut Phases,
}

impl Running<'_> {
    pub(crate) fn model(&self) -> Arc<Model> {
        Arc::clone(self.model)
    }

    pub(crate) fn preprocess<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.phases.preprocess += begun.elapsed();
        done
    }

    pub(crate) fn postprocess<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.phases.postprocess += begun.elapsed();
        done
    }

    /// Runs the model and reads its outputs where they lie.
    pub(crate) fn infer<T>(
        &mut self,
        input: &Prepared,
        read: impl Fn(&[TensorView<'_>]) -> Result<T, BackendError>,
    ) -> Result<T, EngineError> {
        let begun = Instant::now();
        let (mut answer, mut reading) = (None, Duration::ZERO);
        let view = TensorView { shape: &input.shape, data: &input.data };
        let ran = self.session.run(view, &mut |outputs| {
            let begun = Instant::now();
            answer = Some(read(outputs));
            reading = begun.elapsed();
        });
        self.phases.inference += begun.elapsed().saturating_sub(reading);
        self.phases.postprocess += reading;
        let missing = || BackendError::Outputs { reason: "the backend showed no outputs".to_owned() };
        ran.and_then(|()| answer.ok_or_else(missing)?).map_err(|error| self.failed(error))
    }

    pub(crate) fn failed(&self, source: BackendError) -> EngineError {
        EngineError::ModelFailed { model: self.model.id.clone(), source }
    }
}
