use std::{path::Path, sync::Arc};

use rten::{Model, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::{AsView, Layout, TensorView as RtenView};

use super::{Backend, Session, TensorView};
use crate::BackendError;

const NAME: &str = "rten";

/// Runs models in pure Rust: needs no library, takes two to four times the time.
#[derive(Debug, Default)]
pub struct Rten;

impl Backend for Rten {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, model: &Path) -> Result<Box<dyn Session>, BackendError> {
        let model = Model::load_file(model)
            .map_err(|error| BackendError::Load { backend: NAME, reason: error.to_string() })?;
        let options = RunOptions::default().with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(1))));
        Ok(Box::new(Loaded { model, options }))
    }
}

struct Loaded {
    model: Model,
    options: RunOptions,
}

impl Session for Loaded {
    fn run(
        &mut self,
        input: TensorView<'_>,
        read: &mut dyn FnMut(&[TensorView<'_>]),
    ) -> Result<(), BackendError> {
        let failed = |reason: String| BackendError::Run { backend: NAME, reason };
        let view =
            RtenView::try_from_data(input.shape, input.data).map_err(|error| failed(error.to_string()))?;
        let &id =
            self.model.input_ids().first().ok_or_else(|| failed("the model has no input".to_owned()))?;
        let inputs = vec![(id, ValueOrView::from(view))];
        let outputs = self
            .model
            .run(inputs, self.model.output_ids(), Some(self.options.clone()))
            .map_err(|error| failed(error.to_string()))?;
        let tensors = outputs.iter().map(float_tensor).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let shapes: Vec<Vec<usize>> = tensors.iter().map(|tensor| tensor.shape().to_vec()).collect();
        let data: Vec<_> = tensors.iter().map(|tensor| tensor.to_slice()).collect();
        let views: Vec<_> =
            shapes.iter().zip(&data).map(|(shape, data)| TensorView { shape, data }).collect();
        read(&views);
        Ok(())
    }
}

fn float_tensor(value: &Value) -> Result<&rten_tensor::Tensor<f32>, String> {
    match value {
        Value::FloatTensor(tensor) => Ok(tensor),
        _ => Err("an output is not a 32-bit float tensor".to_owned()),
    }
}
