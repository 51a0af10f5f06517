//! What is done with one image, step by step.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eyebolt_types::{
    Feature, Results,
    request::QualityGate,
    result::{QualityVerdict, Verdict},
};

use super::{
    Sessions,
    stint::{Pixels, Progress, Stint, Work},
};
use crate::{
    EngineError, ImageError, Picture,
    digest::{self, ContentDigests},
    features::run_task,
    models::{Model, Phases},
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

/// One image with all that its plan needs.
pub(super) struct Looks<D, T> {
    pub(super) header: Header,
    pub(super) plan: Plan,
    /// Bytes to pixels.
    pub(super) decode: D,
    /// Told each step as it ends.
    pub(super) ended: T,
    /// What is known since its first stint.
    pub(super) seen: Option<Seen>,
    pub(super) _pixels: Pixels,
}

/// A picture, and what was found in it so far.
pub(super) struct Seen {
    picture: Picture,
    begun: Instant,
    decoded: Duration,
    gate: Duration,
    verdicts: Vec<QualityVerdict>,
    content: ContentDigests,
    results: Results,
    steps: Vec<StepReport>,
}

impl Seen {
    fn first(
        decode: impl FnOnce() -> Result<Picture, ImageError>,
        gate: QualityGate,
    ) -> Result<Self, EngineError> {
        let begun = Instant::now();
        let picture = decode()?;
        let decoded = begun.elapsed();
        let verdicts = judge(gate, &picture)?;
        let gate = begun.elapsed().saturating_sub(decoded);
        let content = digest::content_digests(&picture);
        let (results, steps) = (Results::default(), Vec::new());
        Ok(Self { picture, begun, decoded, gate, verdicts, content, results, steps })
    }
}

impl<D, T> Work for Looks<D, T>
where
    D: Fn(&Header) -> Result<Picture, ImageError> + Send + 'static,
    T: FnMut(&StepReport, &Results) + Send + 'static,
{
    type Done = Findings;

    fn models(&self) -> Vec<Arc<Model>> {
        let done = self.seen.as_ref().map_or(0, |seen| seen.steps.len());
        self.plan.models_from(done)
    }

    fn go_on(mut self, mut stint: Stint<'_>) -> Result<Progress<Self>, EngineError> {
        let (mut seen, mut did) = match self.seen.take() {
            Some(seen) => (seen, false),
            None => (Seen::first(|| (self.decode)(&self.header), self.plan.gate)?, true),
        };
        while let Some(task) = self.plan.tasks.get(seen.steps.len()) {
            stint.check()?;
            if did && stint.is_wanted() {
                self.seen = Some(seen);
                return Ok(Progress::Interrupted(self));
            }
            let mut report = step(task, &seen.picture, &mut stint.sessions, &mut seen.results);
            report.begun = seen.begun.elapsed().saturating_sub(report.took);
            (self.ended)(&report, &seen.results);
            seen.steps.push(report);
            did = true;
        }
        let Seen { begun, decoded, gate, verdicts, content, results, steps, .. } = seen;
        let elapsed = begun.elapsed();
        let header = self.header;
        Ok(Progress::Done(Findings {
            header,
            verdicts,
            results,
            content,
            steps,
            decode: decoded,
            gate,
            elapsed,
        }))
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
