//! Things and their boxes.

mod ssd;
mod yolox;

use eyebolt_types::{
    manifest::Decoder,
    request::ObjectParameters,
    result::{Object, Objects},
};

use super::detection::{Candidate, band, suppress};
use crate::{
    BackendError, EngineError, Picture,
    models::{Model, Running},
    preprocess::prepare,
};

const MAX_RESULTS: u32 = 100;

/// Finds things. `Err` where the model fails or its outputs don't fit the manifest.
pub(crate) fn find(
    picture: &Picture,
    running: &mut Running<'_>,
    parameters: &ObjectParameters,
) -> Result<Objects, EngineError> {
    let model = running.model();
    let input = running.preprocess(|| prepare(picture, &model.manifest.input, 0));
    let floor = parameters.min_confidence.unwrap_or(model.manifest.min_confidence);
    let wanted: Vec<bool> = model.labels.iter().map(|label| is_wanted(label, parameters)).collect();
    let read = Reading { model: &model, placement: input.placement, floor, wanted: &wanted };
    let (candidates, iou) = running.infer(&input, |outputs| match &model.manifest.decoder {
        Decoder::Ssd { iou, .. } => Ok((ssd::candidates(outputs, &read)?, *iou)),
        Decoder::Yolox { iou } => Ok((yolox::candidates(outputs, &read, input.shape)?, *iou)),
        other => Err(BackendError::Outputs { reason: format!("{other:?} does not find objects") }),
    })?;
    let most = parameters.max_results.unwrap_or(MAX_RESULTS) as usize;
    let kept = running.postprocess(|| suppress(candidates, iou, most, |a, b| a == b));
    let items = kept
        .into_iter()
        .map(|found| Object {
            label: model.labels[found.what].clone(),
            confidence: found.confidence,
            confidence_band: band(found.confidence, model.manifest.bands),
            bounds: found.bounds,
        })
        .collect();
    Ok(Objects { model: model.id.clone(), confidence_guide: model.confidence_guide(), items })
}

fn is_wanted(label: &str, parameters: &ObjectParameters) -> bool {
    !label.is_empty() && parameters.labels.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one == label))
}

/// What reading an output needs to know.
struct Reading<'a> {
    model: &'a Model,
    placement: crate::preprocess::Placement,
    floor: f32,
    wanted: &'a [bool],
}

type Found = Candidate<usize>;
