//! The room "run": what the engine does for a job, in the words of the job.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_engine::{
    Engine, EngineError, Order as EngineOrder, Sitting as EngineSitting, StepReport,
    digest::{self, ContentDigests},
    models::Model,
    probe::Header,
};
use eyebolt_store::Charging;
use eyebolt_types::{
    AnalyzeRequest, Class, Clock, Dedup, ErrorCode, Feature, FieldError, ImageFormat, Input, Job, JobStatus,
    Mode, Problem, Results, Warning,
    id::{ImageId, JobId},
    pipeline::{Asked, Course, Pipeline, Stage},
    result::{QualityVerdict, Verdict},
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use crate::{
    Analyzer, ApiError, BodyMemory, Declared,
    admission::Worker,
    analysis::{
        Attempt, Capabilities, Checked, ConfidenceGuide, ModelInfo, Order, Remarks, Sitting, StepEnd,
    },
    ingest::IngestError,
    jobs::document::{self, Outline, State},
    problem::shown,
    settings::Mismatch,
};

/// Files larger than this are probed away from the threads that serve sockets.
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

/// The file, the share of the body budget that it takes, and the worker: dropped together, by the thread that computes.
struct File {
    bytes: Bytes,
    _memory: Option<BodyMemory>,
    _worker: Worker,
}

impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Runner {
    /// The same as the door that the edge knows.
    pub fn analyzer(self) -> Analyzer {
        let (checking, running, sitting) = (self.clone(), self.clone(), self.clone());
        let freezing = Arc::clone(&self.engine);
        let (described, weighed, probed) = (Arc::clone(&self.engine), Arc::clone(&self.engine), self.engine);
        let check = move |bytes, sha256, request, declared| {
            let runner = checking.clone();
            async move { runner.check((bytes, sha256), &request, &declared).await }
        };
        let run = move |attempt| {
            let runner = running.clone();
            async move { runner.attempt(attempt).await }
        };
        let freeze =
            move |pipeline: &Pipeline, request: &AnalyzeRequest| freeze(&freezing, pipeline, request);
        let sit = move |taken: Sitting| {
            let runner = sitting.clone();
            async move { runner.sit(taken).await }
        };
        let memory = move || (weighed.memory_used(), weighed.memory_total());
        let probe = move || {
            let engine = Arc::clone(&probed);
            async move { engine.canary().await.map_err(ApiError::from) }
        };
        let analyzer = Analyzer::new(check, run, move || capabilities(&described));
        analyzer.with_memory(memory).with_probe(probe).with_pipelines(freeze, sit)
    }

    /// Reads the header and resolves the models.
    ///
    /// # Errors
    /// Where the image or a setting is refused.
    pub async fn check(
        &self,
        (bytes, sha256): (Bytes, [u8; 32]),
        request: &AnalyzeRequest,
        declared: &Declared,
    ) -> Result<Checked, ApiError> {
        let plan = self.engine.plan(request).map_err(|error| refused(&self.engine, request, error))?;
        let snapshots = plan.snapshots();
        let length = bytes.len();
        let header = look(&self.engine, bytes).await?;
        let mut warnings = check_declared(declared, header.format, self.mismatch)?;
        if header.frames > 1 {
            let detail =
                format!("The file has {} frames or pages; the first one was analysed.", header.frames);
            warnings.push(Warning { code: "first_frame_only".to_owned(), detail });
        }
        Ok(Checked {
            input: input(&header, length, sha256),
            warnings,
            snapshots,
            course: None,
            kept: Vec::new(),
        })
    }

    /// Runs one request to its end, in the name of a job that is nowhere stored.
    ///
    /// # Errors
    /// Where the image or a setting is refused, a model can't be had or the engine stops.
    pub async fn run(
        &self,
        bytes: Bytes,
        request: &AnalyzeRequest,
        declared: &Declared,
    ) -> Result<Job, ApiError> {
        let created_at = self.clock.now();
        let checked = self.check((bytes.clone(), digest::sha256(&bytes)), request, declared).await?;
        let (job, (ended, mut ends)) = (JobId::new(), mpsc::unbounded_channel());
        let (memory, worker) = (None, Worker::default());
        let (class, request) = (Class::Interactive, request.clone());
        let attempt = Attempt { job, token: 1, class, bytes, memory, worker, request, ended };
        let remarks = self.attempt(attempt).await?;
        let mut steps = Vec::new();
        while let Some(end) = ends.recv().await {
            steps.push(document::of_loose_end(&end));
        }
        let outline = Outline {
            id: job,
            mode: Mode::Live,
            created_at,
            started_at: Some(created_at),
            input: checked.input,
            warnings: [checked.warnings, remarks.warnings].concat(),
            dedup: Dedup::none(),
            degraded: None,
            pipeline: None,
        };
        let error = steps.iter().find_map(|(step, _)| step.error.clone());
        let status = if error.is_some() { JobStatus::Failed } else { JobStatus::Succeeded };
        let finished_at = Some(self.clock.now());
        let state = State { status, finished_at, error, retryable_until: None, charging: Charging::Steps };
        Ok(outline.job(steps, state))
    }

    /// Runs one attempt at a job.
    ///
    /// # Errors
    /// Where the image is refused, a model can't be had or the engine stops.
    pub async fn attempt(&self, attempt: Attempt) -> Result<Remarks, ApiError> {
        let Attempt { class, bytes, memory, worker, request, ended, .. } = attempt;
        let plan = self.engine.plan(&request)?;
        let header = look(&self.engine, bytes.clone()).await?;
        let (clock, file) = (self.clock.clone(), File { bytes, _memory: memory, _worker: worker });
        let tell = move |report: &StepReport, results: &Results| {
            // Nobody listens once the job was given up.
            _ = ended.send(step_end(report, results, clock.now()));
        };
        let findings = self.engine.analyze_by_step(file, (header, plan), (class, tell)).await?;
        Ok(remarks(&findings.verdicts, findings.content))
    }

    /// Runs one attempt at a job with a pipeline: the image is decoded once.
    ///
    /// # Errors
    /// Where the image is refused, a model can't be had or the engine stops.
    pub async fn sit(&self, sitting: Sitting) -> Result<Remarks, ApiError> {
        let Sitting { class, bytes, memory, worker, course, mut orders, .. } = sitting;
        let ways = course.stages.iter().flat_map(Stage::ways);
        let plans = ways.map(|way| self.engine.plan(&way.request)).collect::<Result<Vec<_>, _>>()?;
        let header = look(&self.engine, bytes.clone()).await?;
        let full = course.has_regions();
        let (give, taken) = std::sync::mpsc::channel();
        let passing_on = async move {
            while let Some(order) = orders.recv().await {
                // Nobody takes it: the attempt has failed, and says so.
                _ = give.send(passed_on(order, &course));
            }
        };
        let request = (header, EngineSitting { plans, full, class });
        let file = File { bytes, _memory: memory, _worker: worker };
        let sitting = self.engine.sit(file, request, taken);
        tokio::pin!(sitting);
        let sat = tokio::select! {
            sat = &mut sitting => sat?,
            () = passing_on => sitting.await?,
        };
        Ok(remarks(&sat.verdicts, sat.content))
    }
}

/// How a pipeline is run with the models of the engine. `request`: the one that it is of.
///
/// # Errors
/// Everything that is wrong with it.
pub fn freeze(
    engine: &Engine,
    pipeline: &Pipeline,
    request: &AnalyzeRequest,
) -> Result<Course, Vec<FieldError>> {
    let snapshot = |request: &AnalyzeRequest| {
        let plan = engine.plan(request).map_err(|error| field_error(&error, request))?;
        Ok(plan.snapshots().pop().and_then(|(_, model)| model))
    };
    let task = |name: &str| engine.models().task(name);
    Course::freeze(pipeline, request, &Asked { task: &task, snapshot: &snapshot })
}

/// Why the engine can't do what is asked, with every place in the request where that is so. Each feature is asked alone to find
/// them: the engine itself stops at the first.
fn refused(engine: &Engine, request: &AnalyzeRequest, error: EngineError) -> ApiError {
    let alone = |feature: &Feature| AnalyzeRequest { features: vec![*feature], ..request.clone() };
    let refusal = |asked: AnalyzeRequest| Some(field_error(&engine.plan(&asked).err()?, &asked));
    let found = request.features.iter().map(alone).filter_map(refusal);
    let places: Vec<_> = found.filter(|place| !place.pointer.is_empty()).collect();
    if matches!(error, EngineError::InvalidParameter { .. }) {
        return IngestError::Fields(places).into();
    }
    let mut whole = ApiError::from(error);
    whole.problem_mut().errors = places;
    whole
}

/// Why the engine can't do what one step asks, with the place in a request for its feature alone.
fn field_error(error: &EngineError, request: &AnalyzeRequest) -> FieldError {
    let own = request.features.first().map_or("", |feature| feature.name());
    let pointer = match error {
        EngineError::InvalidParameter { pointer, .. } => pointer.clone(),
        EngineError::UnknownModel { .. } | EngineError::ModelMismatch { .. } => {
            format!("/parameters/{own}/model")
        }
        EngineError::UnsupportedLanguage { .. } => format!("/parameters/{own}/languages"),
        _ => String::new(),
    };
    let detail = match error {
        EngineError::InvalidParameter { pointer, reason } => match said_at(request, pointer) {
            Some(said) => format!("is {}, and {reason}", shown(&said)),
            None => reason.clone(),
        },
        _ => ApiError::from(error).problem().detail.clone(),
    };
    FieldError::new(pointer, ApiError::from(error).problem().code, detail)
}

/// The word at this place of a request.
fn said_at(request: &AnalyzeRequest, pointer: &str) -> Option<String> {
    let request = serde_json::to_value(request).ok()?;
    request.pointer(pointer).and_then(|said| said.as_str()).map(str::to_owned)
}

/// An order in the words of the engine.
fn passed_on(order: Order, course: &Course) -> EngineOrder {
    let Order { step, fallback, part, begun, done } = order;
    let before: usize = course.stages.iter().take(step).map(|stage| stage.ways().count()).sum();
    let name = course.stages.get(step).map(|stage| stage.id.clone());
    EngineOrder {
        plan: before + usize::from(fallback),
        region: part.map(|(_, region)| region),
        // Who waits no more needs no answer.
        begun: Box::new(move || _ = begun.send(())),
        done: Box::new(move |found| {
            _ = done.send(found.map_err(|error| {
                let mut problem = Problem::from(ApiError::from(&error));
                problem.step = name;
                problem
            }));
        }),
    }
}

fn step_end(report: &StepReport, results: &Results, now: Timestamp) -> StepEnd {
    let feature = report.feature;
    StepEnd {
        feature,
        model: report.model.clone(),
        result: match &report.error {
            None => Ok(results.only(feature)),
            Some(error) => {
                let mut problem = Problem::from(ApiError::from(error));
                problem.step = Some(feature.name().to_owned());
                Err(problem)
            }
        },
        started_at: now - signed(report.took),
        finished_at: now,
    }
}

fn remarks(verdicts: &[QualityVerdict], content: ContentDigests) -> Remarks {
    Remarks { warnings: verdicts.iter().filter_map(quality_warning).collect(), content: Some(content) }
}

/// The header of the file.
async fn look(engine: &Arc<Engine>, bytes: Bytes) -> Result<Header, ApiError> {
    if bytes.len() <= LARGE_FILE {
        return engine.probe(&bytes).map_err(ApiError::from);
    }
    let engine = Arc::clone(engine);
    let looked = tokio::task::spawn_blocking(move || engine.probe(&bytes)).await;
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

fn input(header: &Header, bytes: usize, sha256: [u8; 32]) -> Input {
    Input {
        image_id: ImageId::new(),
        sha256: hex::encode(sha256),
        bytes: bytes as u64,
        format: header.format,
        width: header.width,
        height: header.height,
        megapixels: (header.pixels() as f32 / 1e6 * 1000.0).round() / 1000.0,
        frames: header.frames,
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
