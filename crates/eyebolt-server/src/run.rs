//! The room "run": a checked request goes to the engine, and what comes back becomes a job.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_engine::{Engine, Findings, StepReport, digest, models::Model, probe::Header};
use eyebolt_types::{
    AnalyzeRequest, Clock, Dedup, ErrorCode, Feature, ImageFormat, Input, Job, JobStatus, Links, Mode,
    Problem, Step, StepStatus, Usage, Warning,
    id::{ImageId, JobId, StepId},
    result::{QualityVerdict, Verdict},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Analyzer, ApiError, BodyMemory, Declared,
    analysis::{Capabilities, ConfidenceGuide, ModelInfo, Submission},
    settings::Mismatch,
};

/// The version of the answers' shape.
const API_VERSION: &str = "2026-11-01";

/// Files larger than this are hashed and probed away from the threads that serve sockets.
const LARGE_FILE: usize = 1 << 20;

/// The engine and what a job needs beside it. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    /// What answers.
    pub engine: Arc<Engine>,
    /// What tells the time.
    pub clock: Clock,
    /// What happens where name and content disagree.
    pub mismatch: Mismatch,
}

/// The file and the share of the body budget that it takes: dropped together.
struct File {
    bytes: Bytes,
    _memory: Option<BodyMemory>,
}

impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Runner {
    /// The same as the door that the edge knows.
    pub fn analyzer(self) -> Analyzer {
        let (running, described, probed) = (self.clone(), self.engine.clone(), self.engine);
        Analyzer::new(
            move |submission| {
                let runner = running.clone();
                async move {
                    let Submission { bytes, request, declared, memory } = submission;
                    runner.run((bytes, Some(memory)), &request, &declared).await
                }
            },
            move || capabilities(&described),
            move || {
                let engine = Arc::clone(&probed);
                async move { engine.canary().await.map_err(ApiError::from) }
            },
        )
    }

    /// Runs one request to its end. `memory` goes when the file does.
    ///
    /// # Errors
    /// Where the image is refused, a model can't be had or the engine stops.
    pub async fn run(
        &self,
        (bytes, memory): (Bytes, Option<BodyMemory>),
        request: &AnalyzeRequest,
        declared: &Declared,
    ) -> Result<Job, ApiError> {
        let created_at = self.clock.now();
        let plan = self.engine.plan(request)?;
        let (header, sha256) = look(&self.engine, bytes.clone()).await?;
        let warnings = check_declared(declared, header.format, self.mismatch)?;
        let input = input(&header, bytes.len(), sha256);
        let findings = self.engine.analyze(File { bytes, _memory: memory }, (header, plan)).await?;
        Ok(job(findings, input, (created_at, self.clock.now()), warnings))
    }
}

/// Header and digest of the file.
async fn look(engine: &Arc<Engine>, bytes: Bytes) -> Result<(Header, String), ApiError> {
    let look =
        |engine: &Engine, bytes: &[u8]| engine.probe(bytes).map(|header| (header, digest::sha256_hex(bytes)));
    if bytes.len() <= LARGE_FILE {
        return look(engine, &bytes).map_err(ApiError::from);
    }
    let engine = Arc::clone(engine);
    let looked = tokio::task::spawn_blocking(move || look(&engine, &bytes)).await;
    looked
        .map_err(|_| ApiError::new(ErrorCode::Internal, "Reading the header failed."))?
        .map_err(ApiError::from)
}

/// A name or media type of another kind: common with honest clients, so that it warns unless the operator is strict.
fn check_declared(
    declared: &Declared,
    found: ImageFormat,
    mismatch: Mismatch,
) -> Result<Vec<Warning>, ApiError> {
    let Some(said) = declared.contradicts(found) else { return Ok(Vec::new()) };
    let detail = format!("The client says {said}, the content is {found}.");
    match mismatch {
        Mismatch::Warn => Ok(vec![Warning { code: ErrorCode::ExtensionMismatch.to_string(), detail }]),
        Mismatch::Reject => Err(Problem::new(ErrorCode::ExtensionMismatch, detail)
            .with("declared", said)
            .with("found", found.name())
            .into()),
    }
}

fn input(header: &Header, bytes: usize, sha256: String) -> Input {
    Input {
        image_id: ImageId::new(),
        sha256,
        bytes: bytes as u64,
        format: header.format,
        width: header.width,
        height: header.height,
        megapixels: (header.pixels() as f32 / 1e6 * 1000.0).round() / 1000.0,
        frames: header.frames,
    }
}

/// The job of what was found. One failed feature fails the job; the answers of the others stay.
fn job(
    findings: Findings,
    input: Input,
    (created_at, finished_at): (Timestamp, Timestamp),
    mut warnings: Vec<Warning>,
) -> Job {
    let started_at = finished_at - signed(findings.elapsed);
    warnings.extend(findings.verdicts.iter().filter_map(quality_warning));
    if input.frames > 1 {
        let detail = format!("The file has {} frames or pages; the first one was analysed.", input.frames);
        warnings.push(Warning { code: "first_frame_only".to_owned(), detail });
    }
    let steps: Vec<_> = findings.steps.into_iter().map(|report| step(report, started_at)).collect();
    let error = steps.iter().find_map(|step| step.error.clone());
    let units = steps.iter().filter(|step| step.status == StepStatus::Succeeded).count() as u64;
    Job {
        id: JobId::new(),
        object: "job".to_owned(),
        status: if error.is_some() { JobStatus::Failed } else { JobStatus::Succeeded },
        created_at,
        started_at: Some(started_at),
        finished_at: Some(finished_at),
        mode: Mode::Live,
        api_version: API_VERSION.to_owned(),
        input,
        steps,
        results: findings.results,
        warnings,
        dedup: Dedup::none(),
        degraded: false,
        usage: Usage { units },
        error,
        retryable_until: None,
        links: Links { models: "/v1/models".to_owned(), errors: "/v1/errors".to_owned() },
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn quality_warning(verdict: &QualityVerdict) -> Option<Warning> {
    let below = match verdict.verdict {
        Verdict::Pass => return None,
        Verdict::Warn => "may cost accuracy",
        Verdict::Fail => "is too poor for a sure answer",
    };
    let QualityVerdict { measure, value, limit, unit, .. } = verdict;
    let code = verdict.code.clone().unwrap_or_else(|| format!("poor_{measure}"));
    Some(Warning { code, detail: format!("The {measure} {below}: {value:.3} {unit}, limit {limit:.3}.") })
}

fn step(report: StepReport, started_at: Timestamp) -> Step {
    let begun = started_at + signed(report.begun);
    let error = report.error.map(|error| {
        let mut problem = Problem::from(ApiError::from(error));
        problem.step = Some(report.feature.name().to_owned());
        problem
    });
    Step {
        id: StepId::new(),
        feature: report.feature,
        status: if error.is_some() { StepStatus::Failed } else { StepStatus::Succeeded },
        attempt: 1,
        model: report.model,
        started_at: Some(begun),
        finished_at: Some(begun + signed(report.took)),
        error,
    }
}

/// What the engine can do now.
pub fn capabilities(engine: &Engine) -> Capabilities {
    let models = engine.models();
    let usable = |feature: Feature| match feature {
        Feature::Quality | Feature::Barcodes => true,
        Feature::Text => engine.reads_text(),
        _ => models.resolve(feature, None).is_ok_and(|model| model.failure().is_none()),
    };
    let mut data: Vec<_> = models.all().iter().map(|model| info(model, models.backend())).collect();
    data.sort_by(|a, b| a.id.cmp(&b.id));
    Capabilities {
        object: "list".to_owned(),
        data,
        features: Feature::ALL.into_iter().filter(|&feature| usable(feature)).collect(),
        formats: eyebolt_engine::decode::formats().to_vec(),
        limits: engine.limits().clone(),
    }
}

fn info(model: &Model, backend: &str) -> ModelInfo {
    let manifest = &model.manifest;
    ModelInfo {
        id: model.id.clone(),
        object: "model".to_owned(),
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        task: manifest.task,
        aliases: model.aliases.clone(),
        description: manifest.description.clone(),
        licence: manifest.licence.clone(),
        sha256: manifest.sha256.clone(),
        backend: backend.to_owned(),
        confidence: ConfidenceGuide {
            min: manifest.min_confidence,
            medium: manifest.bands.medium,
            high: manifest.bands.high,
        },
        labels: model.labels.iter().filter(|label| !label.is_empty()).cloned().collect(),
        languages: manifest.languages.clone(),
        unsupported_languages: manifest.unsupported_languages.clone(),
    }
}
