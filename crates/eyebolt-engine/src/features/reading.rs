//! Text: three models at once, which [`crate::text`] leads through a page.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use eyebolt_types::{manifest::Decoder, result::Text};

use crate::{
    BackendError, EngineError, Picture,
    backend::{Session, TensorView},
    engine::Sessions,
    models::{Model, Phases},
    plan::TextPlan,
    text::{
        self, Characters, DbThresholds, Detector, LineOrienter, Recogniser, TextFindings, TextModels,
        TextOptions,
    },
};

const MAX_RESULTS: u32 = 1000;

/// Reads the text. `Err` where a model fails or its outputs don't fit its manifest.
pub(crate) fn read(
    picture: &Picture,
    plan: &TextPlan,
    (sessions, phases): (&mut Sessions, &mut Phases),
) -> Result<Text, EngineError> {
    let begun = Instant::now();
    // Three sessions are used at once, so they leave the shelf for that long.
    let mut detector = sessions.take(&plan.detector);
    let mut recogniser = sessions.take(&plan.recogniser);
    let mut orientation = plan.orientation.as_ref().map(|model| (model, sessions.take(model)));
    let mut sitting = Sitting {
        detector: Timed::new(&mut *detector),
        recogniser: Timed::new(&mut *recogniser),
        orientation: orientation.as_mut().map(|(_, session)| Timed::new(&mut **session)),
    };
    // The sessions go back whatever happens: other parts of the picture need them.
    let found = catch_unwind(AssertUnwindSafe(|| read_with(picture, plan, &mut sitting)));
    let inference = sitting.spent();
    sessions.put(&plan.detector, detector);
    sessions.put(&plan.recogniser, recogniser);
    if let Some((model, session)) = orientation {
        sessions.put(model, session);
    }
    let found = found.unwrap_or_else(|panic| resume_unwind(panic));
    phases.inference += inference;
    phases.postprocess += begun.elapsed().saturating_sub(inference);
    let model = &plan.recogniser;
    let found = found.map_err(|source| EngineError::ModelFailed { model: model.id.clone(), source })?;
    Ok(Text {
        model: model.id.clone(),
        confidence_guide: model.confidence_guide(),
        text: found.text,
        rotation: found.rotation,
        lines: found.lines,
    })
}

fn read_with(
    picture: &Picture,
    plan: &TextPlan,
    sitting: &mut Sitting<'_>,
) -> Result<TextFindings, BackendError> {
    let models = TextModels {
        detector: Detector {
            session: &mut sitting.detector,
            input: &plan.detector.manifest.input,
            thresholds: thresholds(&plan.detector)?,
        },
        recogniser: Recogniser {
            session: &mut sitting.recogniser,
            input: &plan.recogniser.manifest.input,
            characters: characters(&plan.recogniser)?,
        },
        orientation: sitting
            .orientation
            .as_mut()
            .zip(plan.orientation.as_ref())
            .map(|(session, model)| LineOrienter { session, input: &model.manifest.input }),
    };
    let manifest = &plan.recogniser.manifest;
    let options = TextOptions {
        detail: plan.detail,
        min_confidence: plan.parameters.min_confidence.unwrap_or(manifest.min_confidence),
        bands: manifest.bands,
        max_results: plan.parameters.max_results.unwrap_or(MAX_RESULTS) as usize,
        auto_rotate: plan.parameters.auto_rotate.unwrap_or(true),
    };
    text::read(picture, models, &options)
}

/// The three sessions while one picture is read.
struct Sitting<'a> {
    detector: Timed<'a>,
    recogniser: Timed<'a>,
    orientation: Option<Timed<'a>>,
}

impl Sitting<'_> {
    fn spent(&self) -> Duration {
        let orientation = self.orientation.as_ref().map_or(Duration::ZERO, |timed| timed.spent);
        self.detector.spent + self.recogniser.spent + orientation
    }
}

/// A session that adds up the time spent in the backend.
struct Timed<'a> {
    session: &'a mut dyn Session,
    spent: Duration,
}

impl<'a> Timed<'a> {
    fn new(session: &'a mut dyn Session) -> Self {
        Self { session, spent: Duration::ZERO }
    }
}

impl Session for Timed<'_> {
    fn run(
        &mut self,
        input: TensorView<'_>,
        read: &mut dyn FnMut(&[TensorView<'_>]),
    ) -> Result<(), BackendError> {
        let (begun, mut reading) = (Instant::now(), Duration::ZERO);
        let ran = self.session.run(input, &mut |outputs| {
            let begun = Instant::now();
            read(outputs);
            reading += begun.elapsed();
        });
        self.spent += begun.elapsed().saturating_sub(reading);
        ran
    }
}

fn thresholds(model: &Model) -> Result<DbThresholds, BackendError> {
    match model.manifest.decoder {
        Decoder::DbText { threshold, box_threshold, unclip_ratio } => {
            Ok(DbThresholds { pixel: threshold, region: box_threshold, unclip_ratio })
        }
        _ => Err(BackendError::Outputs { reason: format!("{} does not detect text", model.id) }),
    }
}

fn characters(model: &Model) -> Result<&Characters, BackendError> {
    let missing = || BackendError::Outputs { reason: format!("{} has no characters", model.id) };
    model.characters.as_ref().ok_or_else(missing)
}
