//! From a request to work: models resolved, parameters checked, and how large the picture must be.

use std::sync::Arc;

use eyebolt_types::{
    AnalyzeRequest, Detail, Feature,
    manifest::Fit,
    request::{
        BarcodeParameters, FaceParameters, LabelParameters, ObjectParameters, QualityGate, TextParameters,
    },
};

use crate::{
    EngineError, barcodes,
    features::{faces, objects::views::side_for},
    models::{Model, Models},
    probe::Header,
};

/// No picture is decoded smaller, longer side in pixels: the quality gate needs something to look at.
const LEAST_SIDE: u32 = 256;

/// What is to be done with one image.
pub struct Plan {
    pub(crate) tasks: Vec<Task>,
    pub(crate) gate: QualityGate,
}

/// One feature with its models and parameters.
pub(crate) enum Task {
    Objects(Arc<Model>, ObjectParameters, Detail),
    Faces(Arc<Model>, FaceParameters, Detail),
    Text(TextPlan),
    Barcodes(BarcodeParameters),
    Labels(Arc<Model>, LabelParameters),
    Embedding(Arc<Model>),
    Quality,
}

/// The three models that read text.
pub(crate) struct TextPlan {
    pub(crate) detector: Arc<Model>,
    pub(crate) recogniser: Arc<Model>,
    pub(crate) orientation: Option<Arc<Model>>,
    pub(crate) parameters: TextParameters,
    pub(crate) detail: Detail,
}

impl Plan {
    /// Resolves every model of the request.
    ///
    /// # Errors
    /// Where a model is unknown or of another task, or a parameter names something that the model doesn't know.
    pub fn new(request: &AnalyzeRequest, models: &Models) -> Result<Self, EngineError> {
        let tasks = request.features.iter().map(|&feature| Task::new(feature, request, models));
        Ok(Self { tasks: tasks.collect::<Result<_, _>>()?, gate: request.quality_gate })
    }

    /// The features in the order asked, each with the snapshot or reader that will answer.
    pub fn snapshots(&self) -> Vec<(Feature, Option<String>)> {
        self.tasks.iter().map(|task| (task.feature(), task.answers_as())).collect()
    }

    /// The models that must be at hand, each once, in an order that is the same for every request.
    pub(crate) fn models(&self) -> Vec<Arc<Model>> {
        self.models_from(0)
    }

    /// The same for what is left after so many tasks.
    pub(crate) fn models_from(&self, task: usize) -> Vec<Arc<Model>> {
        let mut models: Vec<_> = self.tasks.iter().skip(task).flat_map(Task::models).cloned().collect();
        models.sort_by(|a, b| a.id.cmp(&b.id));
        models.dedup_by(|a, b| a.id == b.id);
        models
    }

    /// The longer side that the decoded picture must keep; `None`: all of it.
    pub(crate) fn wanted_side(&self, header: &Header) -> Option<u32> {
        let sides = self.tasks.iter().map(|task| task.wanted_side(header));
        sides.collect::<Option<Vec<_>>>().map(|sides| sides.into_iter().fold(LEAST_SIDE, u32::max))
    }
}

impl Task {
    fn new(feature: Feature, request: &AnalyzeRequest, models: &Models) -> Result<Self, EngineError> {
        let p = &request.parameters;
        Ok(match feature {
            Feature::Objects => {
                let model = models.resolve(feature, p.objects.model.as_deref())?;
                check_labels(&model, p.objects.labels.as_deref().unwrap_or_default())?;
                Self::Objects(model, p.objects.clone(), p.objects.detail.unwrap_or(request.detail))
            }
            Feature::Faces => {
                let model = models.resolve(feature, p.faces.model.as_deref())?;
                Self::Faces(model, p.faces.clone(), request.detail)
            }
            Feature::Text => Self::Text(TextPlan::new(request, models)?),
            Feature::Barcodes => {
                barcodes::check(&p.barcodes)?;
                Self::Barcodes(p.barcodes.clone())
            }
            Feature::Labels => {
                Self::Labels(models.resolve(feature, p.labels.model.as_deref())?, p.labels.clone())
            }
            Feature::Embedding => Self::Embedding(models.resolve(feature, p.embedding.model.as_deref())?),
            Feature::Quality => Self::Quality,
        })
    }

    pub(crate) fn feature(&self) -> Feature {
        match self {
            Self::Objects(..) => Feature::Objects,
            Self::Faces(..) => Feature::Faces,
            Self::Text(_) => Feature::Text,
            Self::Barcodes(_) => Feature::Barcodes,
            Self::Labels(..) => Feature::Labels,
            Self::Embedding(_) => Feature::Embedding,
            Self::Quality => Feature::Quality,
        }
    }

    fn models(&self) -> Vec<&Arc<Model>> {
        match self {
            Self::Objects(model, ..)
            | Self::Faces(model, ..)
            | Self::Labels(model, _)
            | Self::Embedding(model) => {
                vec![model]
            }
            Self::Text(text) => [Some(&text.detector), Some(&text.recogniser), text.orientation.as_ref()]
                .into_iter()
                .flatten()
                .collect(),
            Self::Barcodes(_) | Self::Quality => Vec::new(),
        }
    }

    /// What answers name as their `model`, where something does.
    pub(crate) fn answers_as(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.recogniser.id.clone()),
            Self::Barcodes(_) => Some(barcodes::MODEL.to_owned()),
            _ => self.models().first().map(|model| model.id.clone()),
        }
    }

    fn wanted_side(&self, header: &Header) -> Option<u32> {
        match self {
            Self::Faces(_, parameters, detail) => Some(faces::input_side(parameters, *detail)),
            Self::Objects(model, _, detail) => Some(side_for(*detail, fixed_side(model, header))),
            Self::Labels(model, _) | Self::Embedding(model) => Some(fixed_side(model, header)),
            // Small letters and fine bars need every pixel; the pixel digest is of every pixel.
            Self::Text(_) | Self::Barcodes(_) | Self::Quality => None,
        }
    }
}

/// The longer side at which no side of the model's input is enlarged.
fn fixed_side(model: &Model, header: &Header) -> u32 {
    let input = &model.manifest.input;
    let side = input.width.max(input.height);
    let (long, short) = (header.width.max(header.height), header.width.min(header.height).max(1));
    let by_short_side = |side: u32| (u64::from(side) * u64::from(long)).div_ceil(u64::from(short)) as u32;
    match input.fit {
        Fit::Stretch => by_short_side(side),
        Fit::CentreCrop => by_short_side(side * 256 / 224),
        Fit::LetterboxTopLeft | Fit::LetterboxCentre | Fit::Multiple32 => side,
    }
}

fn check_labels(model: &Model, labels: &[String]) -> Result<(), EngineError> {
    match labels.iter().enumerate().find(|(_, label)| label.is_empty() || !model.labels.contains(label)) {
        None => Ok(()),
        Some((index, _)) => Err(EngineError::InvalidParameter {
            pointer: format!("/parameters/objects/labels/{index}"),
            reason: format!("{} does not know this label; GET /v1/models/{} lists them", model.id, model.id),
        }),
    }
}

impl TextPlan {
    fn new(request: &AnalyzeRequest, models: &Models) -> Result<Self, EngineError> {
        let parameters = request.parameters.text.clone();
        let recogniser = models.resolve(Feature::Text, parameters.model.as_deref())?;
        let detector =
            models.in_role("text/detection/default").ok_or_else(|| EngineError::FeatureUnavailable {
                feature: Feature::Text,
                reason: "no text detector is installed: run eyebolt setup".to_owned(),
            })?;
        for language in parameters.languages.iter().flatten() {
            if !reads(&recogniser, language) {
                let (language, model) = (language.clone(), recogniser.id.clone());
                return Err(EngineError::UnsupportedLanguage { language, model });
            }
        }
        let orientation = models.in_role("text/orientation/default");
        Ok(Self {
            detector,
            recogniser,
            orientation,
            detail: parameters.detail.unwrap_or(request.detail),
            parameters,
        })
    }
}

/// `pt-BR` is read by a model that lists `pt`; `zh-Hant` is not read by one that lists `zh-Hans` alone.
fn reads(model: &Model, language: &str) -> bool {
    let wanted = language.to_ascii_lowercase();
    model.manifest.languages.iter().any(|known| {
        let known = known.to_ascii_lowercase();
        wanted == known || wanted.strip_prefix(&known).is_some_and(|rest| rest.starts_with('-'))
    })
}
