//! Things and their boxes.

mod ssd;
pub(crate) mod views;
mod yolox;

use eyebolt_types::{
    Detail,
    manifest::Decoder,
    request::ObjectParameters,
    result::{Object, Objects},
};

use self::views::views;
use super::detection::{Candidate, band, suppress};
use crate::{
    BackendError, EngineError, Picture,
    backend::TensorView,
    models::{Model, Running},
    preprocess::{Frame, prepare},
};

const MAX_RESULTS: u32 = 100;

/// A finding in a part of the picture is dropped where this share of it lies in a surer one of the same kind.
const COVERED: f32 = 0.75;

/// Finds things. `Err` where the model fails or its outputs don't fit the manifest.
pub(crate) fn find(
    picture: &Picture,
    running: &mut Running<'_>,
    (parameters, detail): (&ObjectParameters, Detail),
) -> Result<Objects, EngineError> {
    let model = running.model();
    let input = &model.manifest.input;
    let floor = parameters.min_confidence.unwrap_or(model.manifest.min_confidence);
    let wanted: Vec<bool> = model.labels.iter().map(|label| is_wanted(label, parameters)).collect();
    let mut found: Vec<Found> = Vec::new();
    for view in views(picture, detail, input.width.max(input.height)) {
        let input = running.preprocess(|| prepare(picture, input, Frame::Crop(view.crop)));
        let read = Reading { model: &model, placement: input.placement, floor, wanted: &wanted };
        let mut seen = running.infer(&input, |outputs| candidates(outputs, &read, input.shape))?;
        seen.retain(|one| !(view.is_part && view.cuts(&one.bounds, picture)));
        for one in &mut seen {
            one.what.in_part = view.is_part;
        }
        found.append(&mut seen);
    }
    let most = parameters.max_results.unwrap_or(MAX_RESULTS) as usize;
    let iou = iou(&model);
    let kept = running.postprocess(|| suppress(found, most, |kept, one| is_same(kept, one, iou)));
    let items = kept
        .into_iter()
        .map(|found| Object {
            label: model.labels[found.what.class].clone(),
            confidence: found.confidence,
            confidence_band: band(found.confidence, model.manifest.bands),
            bounds: found.bounds,
        })
        .collect();
    Ok(Objects { model: model.id.clone(), confidence_guide: model.confidence_guide(), items })
}

fn candidates(
    outputs: &[TensorView<'_>],
    read: &Reading<'_>,
    input: [usize; 4],
) -> Result<Vec<Found>, BackendError> {
    match &read.model.manifest.decoder {
        Decoder::Ssd { .. } => ssd::candidates(outputs, read),
        Decoder::Yolox { .. } => yolox::candidates(outputs, read, input),
        other => Err(BackendError::Outputs { reason: format!("{other:?} does not find objects") }),
    }
}

fn iou(model: &Model) -> f32 {
    match model.manifest.decoder {
        Decoder::Ssd { iou, .. } | Decoder::Yolox { iou } => iou,
        _ => 1.0,
    }
}

fn is_same(kept: &Found, one: &Found, iou: f32) -> bool {
    let both = kept.bounds.intersection(&one.bounds);
    let covered = one.what.in_part && both > COVERED * one.bounds.area();
    kept.what.class == one.what.class && (covered || kept.bounds.iou(&one.bounds) > iou)
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

/// The class of a finding, and whether a part of the picture showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct What {
    class: usize,
    in_part: bool,
}

type Found = Candidate<What>;
