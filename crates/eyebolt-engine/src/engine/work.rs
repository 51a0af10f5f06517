//! What is done with one image, step by step.

use std::time::{Duration, Instant};

use eyebolt_types::{
    Feature, Results,
    request::QualityGate,
    result::{QualityVerdict, Verdict},
};

use super::Sessions;
use crate::{
    EngineError, ImageError, Picture,
    compute::Canceled,
    digest::{self, ContentDigests},
    features::run_task,
    models::Phases,
    plan::{Plan, Task},
    probe::Header,
    quality,
};

/// What was found in one image.
#[derive(Debug)]
pub struct Findings {
    /// What the file says of itself.
    pub header: Header,
    /// Verdicts of the quality gate; empty where it is off.
    pub verdicts: Vec<QualityVerdict>,
    /// Answers of the steps that succeeded.
    pub results: Results,
    /// What the picture is known by when it comes again.
    pub content: ContentDigests,
    /// One for each feature, in the order asked.
    pub steps: Vec<StepReport>,
    /// Bytes to pixels.
    pub decode: Duration,
    /// The quality gate.
    pub gate: Duration,
    /// From the first byte decoded to the last answer.
    pub elapsed: Duration,
}

/// How one feature went.
#[derive(Debug)]
pub struct StepReport {
    /// The feature.
    pub feature: Feature,
    /// The snapshot that answered, or the reader's name.
    pub model: Option<String>,
    /// Why it has no answer.
    pub error: Option<EngineError>,
    /// When it began, after the first byte was decoded.
    pub begun: Duration,
    /// How long it took.
    pub took: Duration,
    /// Where the time went.
    pub phases: Phases,
}

/// One image with all that its plan needs, on the thread that computes.
pub(super) struct Work<'a> {
    pub(super) header: Header,
    pub(super) plan: Plan,
    pub(super) sessions: Sessions,
    pub(super) canceled: &'a Canceled<'a>,
}

impl Work<'_> {
    pub(super) fn perform(
        mut self,
        decode: impl FnOnce(&Header) -> Result<Picture, ImageError>,
        ended: &mut dyn FnMut(&StepReport, &Results),
    ) -> Result<Findings, EngineError> {
        let begun = Instant::now();
        let picture = decode(&self.header)?;
        let decoded = begun.elapsed();
        let verdicts = judge(self.plan.gate, &picture)?;
        let gate = begun.elapsed().saturating_sub(decoded);
        let content = digest::content_digests(&picture);
        let mut results = Results::default();
        let mut steps = Vec::with_capacity(self.plan.tasks.len());
        for task in &self.plan.tasks {
            // Nobody waits any more: what is left would be for nothing.
            if self.canceled.is_canceled() {
                return Err(EngineError::Canceled);
            }
            let mut report = step(task, &picture, &mut self.sessions, &mut results);
            report.begun = begun.elapsed().saturating_sub(report.took);
            ended(&report, &results);
            steps.push(report);
        }
        let elapsed = begun.elapsed();
        let Self { header, .. } = self;
        Ok(Findings { header, verdicts, results, content, steps, decode: decoded, gate, elapsed })
    }
}

/// What the quality gate says of a picture.
pub(crate) fn judge(gate: QualityGate, picture: &Picture) -> Result<Vec<QualityVerdict>, EngineError> {
    if gate == QualityGate::Off {
        return Ok(Vec::new());
    }
    let verdicts = quality::judge(&quality::measure(picture));
    if gate == QualityGate::Reject && verdicts.iter().any(|one| one.verdict == Verdict::Fail) {
        return Err(EngineError::LowQuality { verdicts });
    }
    Ok(verdicts)
}

/// Does one task of a plan.
pub(crate) fn step(
    task: &Task,
    picture: &Picture,
    sessions: &mut Sessions,
    results: &mut Results,
) -> StepReport {
    let (begun, mut phases) = (Instant::now(), Phases::default());
    let ran = run_task(task, picture, (sessions, &mut phases), results);
    let model = task.answers_as();
    let took = begun.elapsed();
    StepReport { feature: task.feature(), model, error: ran.err(), begun: Duration::ZERO, took, phases }
}
