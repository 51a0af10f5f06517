use serde_json::{Map, Value};

use super::{
    Course, Crop, Each, MAX_ATTEMPTS, MAX_ITEMS, MAX_STEPS, MAX_TIMEOUT, MAX_UNITS, OnError, Pipeline, Stage,
    StepSpec, Way,
    graph::{Graph, wrong},
    parameters,
};
use crate::{
    AnalyzeRequest, ErrorCode, Feature, FieldError,
    request::{Degrade, Parameters},
};

/// Labels of one `for_each`, and bytes of all of them.
const MAX_LABELS: usize = 1000;
const MAX_LABEL_BYTES: usize = 32 << 10;
/// Things of a step where the pipeline says no number.
const ITEMS: u32 = 20;
/// Their shorter side at least.
const SIZE: u32 = 16;

/// Who knows the models.
pub struct Asked<'a> {
    /// The feature that a model of this name answers.
    pub task: &'a dyn Fn(&str) -> Option<Feature>,
    /// The snapshot that answers a request for one feature, where a model does; or what of the request can't be taken.
    pub snapshot: &'a dyn Fn(&AnalyzeRequest) -> Result<Option<String>, FieldError>,
}

/// One way to do a step, as it is written.
struct Written<'a> {
    feature: Option<Feature>,
    model: Option<&'a str>,
    params: &'a Map<String, Value>,
}

impl Course {
    /// Checks a pipeline and resolves every model. `base`: the request that it is of; `detail` and `quality_gate` count.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place in the pipeline.
    pub fn freeze(
        pipeline: &Pipeline,
        base: &AnalyzeRequest,
        models: &Asked<'_>,
    ) -> Result<Self, Vec<FieldError>> {
        let count = pipeline.steps.len();
        // What comes after this takes time by the square of it.
        if !(1..=MAX_STEPS).contains(&count) {
            return Err(vec![wrong(
                "/steps".to_owned(),
                format!("has {count} steps, outside 1 to {MAX_STEPS}"),
            )]);
        }
        let mut errors = Vec::new();
        check_shape(pipeline, &mut errors);
        let graph = Graph::of(pipeline, &mut errors);
        let mut freezing = Freezing { base, models, errors };
        let stages: Vec<_> =
            pipeline.steps.iter().enumerate().map(|place| freezing.stage(place, &graph)).collect();
        let mut errors = freezing.errors;
        check_kinds(pipeline, &stages, &mut errors);
        let stages: Option<Vec<_>> = stages.into_iter().collect();
        let course = stages.map(|stages| Self { stages, order: graph.order });
        if let Some(bound) = course.as_ref().map(Self::bound).filter(|bound| *bound > MAX_UNITS) {
            let detail =
                format!("may cost {bound} units, more than {MAX_UNITS}: lower max_items of a for_each");
            errors.push(wrong("/steps".to_owned(), detail));
        }
        match course {
            Some(course) if errors.is_empty() => Ok(course),
            _ => Err(errors),
        }
    }

    /// The course of a pipeline that [`Course::written`] gave.
    ///
    /// # Errors
    /// Where it is another one.
    pub fn thaw(frozen: &Pipeline, base: &AnalyzeRequest) -> Result<Self, Vec<FieldError>> {
        let snapshot = |request: &AnalyzeRequest| Ok(request.model().cloned());
        Self::freeze(frozen, base, &Asked { task: &|_| None, snapshot: &snapshot })
    }

    /// The pipeline with every feature and model named: a snapshot, where a name or nothing stood before.
    #[must_use]
    pub fn written(&self, mut pipeline: Pipeline) -> Pipeline {
        for (step, stage) in pipeline.steps.iter_mut().zip(&self.stages) {
            step.feature = Some(stage.way.feature);
            step.model = stage.way.request.model().cloned();
            if let (Some(fallback), Some(way)) = (&mut step.fallback, &stage.fallback) {
                fallback.feature = Some(way.feature);
                fallback.model = way.request.model().cloned();
            }
        }
        pipeline
    }
}

struct Freezing<'a> {
    base: &'a AnalyzeRequest,
    models: &'a Asked<'a>,
    errors: Vec<FieldError>,
}

impl Freezing<'_> {
    /// `None`: something is wrong with it, and told.
    fn stage(&mut self, (index, step): (usize, &StepSpec), graph: &Graph) -> Option<Stage> {
        let at = format!("/steps/{index}");
        let own = Written { feature: step.feature, model: step.model.as_deref(), params: &step.params };
        let way = self.way(&own, &at);
        let fallback = step.fallback.as_ref().map(|fallback| {
            // A model says its own feature; where nothing is said, it is the step's.
            let feature = fallback.feature.or(if fallback.model.is_none() {
                Some(way.as_ref()?.feature)
            } else {
                None
            });
            let model = fallback.model.as_deref();
            self.way(&Written { feature, model, params: &fallback.params }, &format!("{at}/fallback"))
        });
        let each = step.for_each.as_ref().map(|each| {
            Some(Each {
                of: graph.place_of(&each.step)?,
                labels: each.labels.clone(),
                min_confidence: each.min_confidence.unwrap_or(0.0),
                min_size: each.min_size.unwrap_or(SIZE),
                max_items: each.max_items.unwrap_or(ITEMS).clamp(1, MAX_ITEMS),
            })
        });
        Some(Stage {
            id: step.id.clone(),
            way: way?,
            fallback: fallback.map_or(Some(None), |way| way.map(Some))?,
            on_error: step.on_error,
            needs: graph.needs.get(index)?.clone(),
            each: each.map_or(Some(None), |each| each.map(Some))?,
            crop: step.crop.unwrap_or_default(),
            max_attempts: step.max_attempts,
            timeout: step.timeout,
        })
    }

    fn way(&mut self, written: &Written<'_>, at: &str) -> Option<Way> {
        let Some(feature) = written.feature.or_else(|| (self.models.task)(written.model?)) else {
            self.errors.push(match written.model {
                None => wrong(at.to_owned(), "names neither a feature nor a model"),
                Some(_) => FieldError::new(
                    format!("{at}/model"),
                    ErrorCode::UnknownModel,
                    "is no model of this server; GET /v1/models lists them",
                ),
            });
            return None;
        };
        let before = self.errors.len();
        let params = format!("{at}/params");
        let mut parameters = parameters::read(feature, written.params, (&params, &mut self.errors));
        if !parameters.name_model(feature, written.model) {
            let detail = "can't be chosen: the feature has no models";
            self.errors.push(FieldError::new(format!("{at}/model"), ErrorCode::InvalidParameter, detail));
        }
        if self.errors.len() > before {
            return None;
        }
        let request = AnalyzeRequest {
            detail: self.base.detail,
            quality_gate: self.base.quality_gate,
            degrade: Degrade::Never,
            parameters,
            ..AnalyzeRequest::of([feature])
        };
        match (self.models.snapshot)(&request) {
            Ok(model) => {
                let request = request.with_models(&[(feature, model.clone())]);
                Some(Way { feature, model, request })
            }
            Err(error) => {
                let own = format!("/parameters/{feature}");
                let pointer = match error.pointer.strip_prefix(&own) {
                    Some("/model") => format!("{at}/model"),
                    Some(rest) => format!("{at}/params{rest}"),
                    None => at.to_owned(),
                };
                self.errors.push(FieldError { pointer, ..error });
                None
            }
        }
    }
}

impl Parameters {
    /// Names the model of a feature; `false` where it has none and one is named.
    fn name_model(&mut self, feature: Feature, name: Option<&str>) -> bool {
        let model = match feature {
            Feature::Objects => &mut self.objects.model,
            Feature::Faces => &mut self.faces.model,
            Feature::Text => &mut self.text.model,
            Feature::Labels => &mut self.labels.model,
            Feature::Embedding => &mut self.embedding.model,
            Feature::Barcodes | Feature::Quality => return name.is_none(),
        };
        *model = name.map(str::to_owned);
        true
    }
}

impl AnalyzeRequest {
    /// The model that a request for one feature names.
    fn model(&self) -> Option<&String> {
        let p = &self.parameters;
        match self.features.first()? {
            Feature::Objects => p.objects.model.as_ref(),
            Feature::Faces => p.faces.model.as_ref(),
            Feature::Text => p.text.model.as_ref(),
            Feature::Labels => p.labels.model.as_ref(),
            Feature::Embedding => p.embedding.model.as_ref(),
            Feature::Barcodes | Feature::Quality => None,
        }
    }
}

/// Names, numbers, and what belongs together.
fn check_shape(pipeline: &Pipeline, errors: &mut Vec<FieldError>) {
    let length = pipeline.description.as_ref().map_or(0, |text| text.chars().count());
    if length > 500 {
        errors.push(wrong("/description".to_owned(), format!("has {length} characters, more than 500")));
    }
    for (index, step) in pipeline.steps.iter().enumerate() {
        let at = |member: &str| format!("/steps/{index}/{member}");
        if !is_name(&step.id, 40) {
            let detail = "must begin with a small letter and go on with at most 39 of a-z, 0-9, _ and -";
            errors.push(wrong(at("id"), detail));
        }
        if step.needs.len() > MAX_STEPS {
            let detail = format!("names {} steps, more than {MAX_STEPS}", step.needs.len());
            errors.push(wrong(at("needs"), detail));
        }
        let labels = step.for_each.iter().flat_map(|each| each.labels.iter().flatten());
        let (count, bytes) = labels.fold((0, 0), |(count, bytes), label| (count + 1, bytes + label.len()));
        if count > MAX_LABELS || bytes > MAX_LABEL_BYTES {
            let detail = format!(
                "are {count} labels of {bytes} bytes, more than {MAX_LABELS} or {MAX_LABEL_BYTES} bytes"
            );
            errors.push(wrong(at("for_each/labels"), detail));
        }
        if pipeline.steps[..index].iter().any(|other| other.id == step.id) {
            errors.push(wrong(at("id"), "is the name of an earlier step, too"));
        }
        match (step.on_error, &step.fallback) {
            (OnError::Fallback, None) => {
                errors.push(wrong(at("fallback"), "is missing, and on_error says fallback"));
            }
            (OnError::Fail | OnError::Skip, Some(_)) => {
                errors.push(wrong(at("fallback"), "is there, and on_error does not say fallback"));
            }
            _ => {}
        }
        if step.crop.is_some() && step.for_each.is_none() {
            errors.push(wrong(at("crop"), "is of steps with for_each alone"));
        }
        check_numbers(step, (&at, errors));
    }
}

/// Where a member of a step stands.
type PlaceOf<'a> = &'a dyn Fn(&str) -> String;

fn check_numbers(step: &StepSpec, (at, errors): (PlaceOf<'_>, &mut Vec<FieldError>)) {
    let each = step.for_each.as_ref();
    let whole = |number: Option<u32>| number.map(|number| number as f32);
    let numbers = [
        ("max_attempts", whole(step.max_attempts), (1.0, MAX_ATTEMPTS as f32)),
        ("timeout", step.timeout, (0.001, MAX_TIMEOUT)),
        ("crop/padding", step.crop.map(|crop: Crop| crop.padding), (0.0, 1.0)),
        ("for_each/min_confidence", each.and_then(|each| each.min_confidence), (0.0, 1.0)),
        ("for_each/min_size", whole(each.and_then(|each| each.min_size)), (8.0, 10_000.0)),
        ("for_each/max_items", whole(each.and_then(|each| each.max_items)), (1.0, MAX_ITEMS as f32)),
    ];
    for (member, value, (low, high)) in numbers {
        if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
            let detail = format!("is {value}, outside {low} to {high}");
            errors.push(FieldError::new(at(member), ErrorCode::InvalidParameter, detail));
        }
    }
}

/// Whether what a step is done for has a place.
fn check_kinds(pipeline: &Pipeline, stages: &[Option<Stage>], errors: &mut Vec<FieldError>) {
    for (index, step) in pipeline.steps.iter().enumerate() {
        let Some(each) = &step.for_each else { continue };
        let Some(of) = pipeline.steps.iter().position(|other| other.id == each.step) else { continue };
        let at = |member: &str| format!("/steps/{index}/for_each/{member}");
        if pipeline.steps[of].for_each.is_some() {
            errors.push(wrong(
                at("step"),
                "names a step that has a for_each itself; regions of regions are not cut",
            ));
        }
        // What is wrong with that step is told there.
        let Some(feature) = stages[of].as_ref().map(|stage| stage.way.feature) else { continue };
        if !feature.has_places() {
            errors.push(wrong(
                at("step"),
                format!("names a step of {feature}, which finds no places in the image"),
            ));
        }
        if each.labels.is_some() && feature != Feature::Objects {
            errors.push(wrong(at("labels"), format!("are of objects alone, and the step finds {feature}")));
        }
        let other = stages[of].as_ref().and_then(|stage| stage.fallback.as_ref());
        if other.is_some_and(|way| way.feature != feature) {
            let pointer = format!("/steps/{of}/fallback");
            errors.push(wrong(
                pointer,
                format!("finds something else than {feature}, which {} is done for", step.id),
            ));
        }
    }
}

/// Whether a word can name a step or a pipeline: a small letter, then small letters, digits, `_` and `-`.
pub(super) fn is_name(text: &str, longest: usize) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    text.len() <= longest
        && text.bytes().all(rest)
        && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
}
