//! What the image shows as a whole, and a vector for similarity search: two outputs of one classifier.

use eyebolt_types::{
    manifest::Decoder,
    request::LabelParameters,
    result::{Embedding, Label, Labels},
};

use super::detection::band;
use crate::{
    BackendError, EngineError, Picture,
    backend::TensorView,
    models::{Model, Running},
    preprocess::{Frame, prepare},
};

const MAX_RESULTS: u32 = 5;

/// Names what the image shows. `Err` where the model fails or its outputs don't fit the manifest.
pub(crate) fn name(
    picture: &Picture,
    running: &mut Running<'_>,
    parameters: &LabelParameters,
) -> Result<Labels, EngineError> {
    let model = running.model();
    let input = running.preprocess(|| prepare(picture, &model.manifest.input, Frame::Whole));
    let mut probabilities = running.infer(&input, |outputs| {
        let logits = vector(&model, outputs, |logits, _| Some(logits))?;
        if logits.len() != model.labels.len() {
            let reason = format!("{} logits for {} labels", logits.len(), model.labels.len());
            return Err(BackendError::Outputs { reason });
        }
        Ok(logits.to_vec())
    })?;
    let floor = parameters.min_confidence.unwrap_or(model.manifest.min_confidence);
    let most = parameters.max_results.unwrap_or(MAX_RESULTS) as usize;
    let ranked = running.postprocess(|| {
        softmax(&mut probabilities);
        let mut ranked: Vec<_> =
            probabilities.iter().copied().enumerate().filter(|(_, p)| *p >= floor).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(most);
        ranked
    });
    let items = ranked
        .into_iter()
        .map(|(class, confidence)| Label {
            label: model.labels[class].clone(),
            confidence,
            confidence_band: band(confidence, model.manifest.bands),
        })
        .collect();
    Ok(Labels { model: model.id.clone(), confidence_guide: model.confidence_guide(), items })
}

/// The image as a vector of length 1. `Err` where the model fails or has no such output.
pub(crate) fn embed(picture: &Picture, running: &mut Running<'_>) -> Result<Embedding, EngineError> {
    let model = running.model();
    let input = running.preprocess(|| prepare(picture, &model.manifest.input, Frame::Whole));
    let mut vector = running
        .infer(&input, |outputs| vector(&model, outputs, |_, embedding| embedding).map(<[f32]>::to_vec))?;
    running.postprocess(|| normalise(&mut vector));
    Ok(Embedding { model: model.id.clone(), dimensions: vector.len() as u32, vector })
}

/// The output that `pick` chooses among logits and embedding, one row.
fn vector<'a>(
    model: &Model,
    outputs: &[TensorView<'a>],
    pick: impl Fn(usize, Option<usize>) -> Option<usize>,
) -> Result<&'a [f32], BackendError>
where
{
    let Decoder::Classifier { logits_output, embedding_output } = model.manifest.decoder else {
        return Err(BackendError::Outputs {
            reason: format!("{:?} does not classify", model.manifest.decoder),
        });
    };
    pick(logits_output, embedding_output)
        .and_then(|index| outputs.get(index))
        .filter(|output| output.shape.first() == Some(&1))
        .map(|output| output.data)
        .ok_or_else(|| BackendError::Outputs {
            reason: "the output is not there or has more than one row".to_owned(),
        })
}

fn softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for value in values.iter_mut() {
        *value = (*value - most).exp();
    }
    let sum: f32 = values.iter().sum();
    for value in values {
        *value /= sum;
    }
}

fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value /= length;
        }
    }
}
