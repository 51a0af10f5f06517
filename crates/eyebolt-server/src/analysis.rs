//! The door to the engine: images are checked before anything is promised, and analysed in the name of a job.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use eyebolt_engine::digest::ContentDigests;
use eyebolt_types::{
    AnalyzeRequest, Class, Feature, FieldError, ImageFormat, ImageLimits, Input, ModelId, Problem, Results,
    Warning,
    id::JobId,
    pipeline::{Course, Pipeline, PipelineChoice, Region},
};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use crate::{ApiError, BodyMemory, Declared, admission::Worker, ingest::IngestError};

/// One request that passed the edge: the whole image is here, and every setting is inside its range.
#[derive(Debug)]
pub struct Submission {
    /// The file.
    pub bytes: Bytes,
    /// Digest of the file.
    pub sha256: [u8; 32],
    /// What is asked.
    pub request: AnalyzeRequest,
    /// What the client says the file is.
    pub declared: Declared,
    /// Whether it was asked by parts or the query, so that places of mistakes are their names.
    pub by_field: bool,
    /// The share of the body budget that `bytes` takes; drop both together.
    pub memory: Option<BodyMemory>,
}

/// What a look at the header and the settings found: nothing was decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The image. Its name is not given yet.
    pub input: Input,
    /// What was taken all the same.
    pub warnings: Vec<Warning>,
    /// The features in the order asked, or those of the pipeline's steps; each with the snapshot that will answer.
    pub snapshots: Vec<(Feature, Option<String>)>,
    /// How the pipeline is run, where there is one.
    pub course: Option<Box<Course>>,
    /// Places of the steps that are taken over from another job: they cost nothing.
    pub kept: Vec<usize>,
}

impl Checked {
    /// Units that it costs at most.
    pub fn units(&self) -> u64 {
        (0..self.snapshots.len()).map(|at| self.units_of(at)).sum()
    }

    /// Units that the step at this place costs at most.
    pub fn units_of(&self, at: usize) -> u64 {
        match &self.course {
            _ if self.kept.contains(&at) => 0,
            Some(course) => course.stages[at].bound(),
            None => 1,
        }
    }
}

/// One attempt at a job with a pipeline: a picture that is decoded once, and orders that come while it is there.
#[derive(Debug)]
pub struct Sitting {
    /// The job.
    pub job: JobId,
    /// The fencing token under which it runs.
    pub token: i64,
    /// How urgent it is.
    pub class: Class,
    /// The file.
    pub bytes: Bytes,
    /// The share of the body budget that `bytes` takes, where the file came with the request.
    pub memory: Option<BodyMemory>,
    /// The worker that does it: to be held by whatever computes, until it has ended.
    pub worker: Worker,
    /// What may be ordered.
    pub course: Arc<Course>,
    /// What is ordered, one after the other; the attempt is over when nobody can order any more.
    pub orders: mpsc::UnboundedReceiver<Order>,
}

/// A step of a pipeline, or a part of one, to be done.
#[derive(Debug)]
pub struct Order {
    /// The place of the step.
    pub step: usize,
    /// Whether its fallback is meant.
    pub fallback: bool,
    /// The part: its number, and where it lies. `None`: the whole image.
    pub part: Option<(u32, Region)>,
    /// Told as it begins.
    pub begun: oneshot::Sender<()>,
    /// Told what was found, as it lies in the whole image.
    pub done: oneshot::Sender<Result<Results, Problem>>,
}

/// One attempt at a job.
#[derive(Debug)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// The fencing token under which it runs.
    pub token: i64,
    /// How urgent it is.
    pub class: Class,
    /// The file.
    pub bytes: Bytes,
    /// The share of the body budget that `bytes` takes, where the file came with the request.
    pub memory: Option<BodyMemory>,
    /// The worker that does it: to be held by whatever computes, until it has ended.
    pub worker: Worker,
    /// What is still to be done; every model is a snapshot.
    pub request: AnalyzeRequest,
    /// Told each step as it ends.
    pub ended: mpsc::UnboundedSender<StepEnd>,
}

/// How one step of an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StepEnd {
    /// What was asked.
    pub feature: Feature,
    /// The snapshot that answered.
    pub model: Option<String>,
    /// The answer of this feature alone, or why there is none.
    pub result: Result<Results, Problem>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// What an attempt tells beside its steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remarks {
    /// What was taken all the same.
    pub warnings: Vec<Warning>,
    /// What the pixels are known by when they come again.
    pub content: Option<ContentDigests>,
}

/// What this server can do: the answer of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// Always `list`.
    pub object: String,
    /// The models, sorted by id.
    pub data: Vec<ModelInfo>,
    /// Features that can be asked now.
    pub features: Vec<Feature>,
    /// Image formats that are decoded.
    pub formats: Vec<ImageFormat>,
    /// What an image may be at most.
    pub limits: ImageLimits,
}

/// One model that this server answers with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelInfo {
    /// The snapshot, `name@version`: what answers name as their `model`.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// Shared by all versions.
    pub name: String,
    /// Of this snapshot.
    pub version: String,
    /// The feature that it answers or helps to answer.
    pub task: Feature,
    /// Names that lead to it, such as `objects/default`.
    pub aliases: Vec<String>,
    /// One sentence.
    pub description: String,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// Digest of the model file, hex.
    pub sha256: String,
    /// What computes it, such as `onnxruntime`.
    pub backend: String,
    /// What its confidences mean.
    pub confidence: ConfidenceGuide,
    /// What it can name, where it names things.
    pub labels: Vec<String>,
    /// Languages that it reads (BCP 47).
    pub languages: Vec<String>,
    /// Languages that it is known not to read (BCP 47).
    pub unsupported_languages: Vec<String>,
}

impl ModelInfo {
    /// Whether a request may call it so: by snapshot, by bare name or by alias.
    pub fn answers_to(&self, name: &str) -> bool {
        self.id == name || self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// The address of [`ModelInfo::confidence`] for a model: what answers carry as `confidence_guide`.
    pub fn confidence_guide(id: &ModelId) -> String {
        format!("/v1/models/{id}#confidence")
    }
}

/// What the confidences of a model mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfidenceGuide {
    /// Findings below it are left out unless the request says otherwise.
    pub min: f32,
    /// From here on the band is `medium`: mostly right.
    pub medium: f32,
    /// From here on the band is `high`: nearly always right.
    pub high: f32,
}

type Check = dyn Fn(Bytes, [u8; 32], AnalyzeRequest, Declared) -> BoxFuture<'static, Result<Checked, ApiError>>
    + Send
    + Sync;
type Run = dyn Fn(Attempt) -> BoxFuture<'static, Result<Remarks, ApiError>> + Send + Sync;
type Freeze = dyn Fn(&Pipeline, &AnalyzeRequest) -> Result<Course, Vec<FieldError>> + Send + Sync;
type Sit = dyn Fn(Sitting) -> BoxFuture<'static, Result<Remarks, ApiError>> + Send + Sync;
type Describe = dyn Fn() -> Capabilities + Send + Sync;
type Memory = dyn Fn() -> (u64, u64) + Send + Sync;
type Probe = dyn Fn() -> BoxFuture<'static, Result<(), ApiError>> + Send + Sync;

/// Checks and runs analyses. Cheap to clone; every clone is the same engine.
#[derive(Clone)]
pub struct Analyzer {
    check: Arc<Check>,
    run: Arc<Run>,
    freeze: Arc<Freeze>,
    sit: Arc<Sit>,
    describe: Arc<Describe>,
    probe: Arc<Probe>,
    memory: Arc<Memory>,
}

impl Analyzer {
    /// An analyzer out of its functions: `check` looks at the header and the settings, `run` does what is asked and
    /// must stop when its future is dropped.
    pub fn new<C, R>(
        check: impl Fn(Bytes, [u8; 32], AnalyzeRequest, Declared) -> C + Send + Sync + 'static,
        run: impl Fn(Attempt) -> R + Send + Sync + 'static,
        describe: impl Fn() -> Capabilities + Send + Sync + 'static,
    ) -> Self
    where
        C: Future<Output = Result<Checked, ApiError>> + Send + 'static,
        R: Future<Output = Result<Remarks, ApiError>> + Send + 'static,
    {
        Self {
            check: Arc::new(move |bytes, sha256, request, declared| {
                Box::pin(check(bytes, sha256, request, declared))
            }),
            run: Arc::new(move |attempt| Box::pin(run(attempt))),
            freeze: Arc::new(|_, _| Err(vec![no_pipelines()])),
            sit: Arc::new(|_| Box::pin(async { Err(IngestError::Fields(vec![no_pipelines()]).into()) })),
            describe: Arc::new(describe),
            probe: Arc::new(|| Box::pin(async { Ok(()) })),
            memory: Arc::new(|| (0, 0)),
        }
    }

    /// With pipelines: `freeze` resolves the models of one, `sit` does what is ordered and must stop when its future is dropped.
    #[must_use]
    pub fn with_pipelines<S>(
        mut self,
        freeze: impl Fn(&Pipeline, &AnalyzeRequest) -> Result<Course, Vec<FieldError>> + Send + Sync + 'static,
        sit: impl Fn(Sitting) -> S + Send + Sync + 'static,
    ) -> Self
    where
        S: Future<Output = Result<Remarks, ApiError>> + Send + 'static,
    {
        self.freeze = Arc::new(freeze);
        self.sit = Arc::new(move |sitting| Box::pin(sit(sitting)));
        self
    }

    /// With a real tiny inference, by which readiness is told.
    #[must_use]
    pub fn with_probe<P>(mut self, probe: impl Fn() -> P + Send + Sync + 'static) -> Self
    where
        P: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        self.probe = Arc::new(move || Box::pin(probe()));
        self
    }

    /// With memory for decoded pixels: bytes in use, and at most.
    #[must_use]
    pub fn with_memory(mut self, memory: impl Fn() -> (u64, u64) + Send + Sync + 'static) -> Self {
        self.memory = Arc::new(memory);
        self
    }

    /// Looks at the header and the settings, before anything is promised.
    ///
    /// # Errors
    /// Where the image or a setting is refused.
    pub async fn check(&self, submission: &Submission) -> Result<Checked, ApiError> {
        let checked = self.look(submission).await;
        checked.map_err(|error| if submission.by_field { error.by_field() } else { error })
    }

    async fn look(&self, submission: &Submission) -> Result<Checked, ApiError> {
        let Submission { bytes, sha256, request, declared, .. } = submission;
        let course = match &request.pipeline {
            Some(PipelineChoice::Inline(pipeline)) => Some(Box::new(self.freeze(pipeline, request)?)),
            _ => None,
        };
        let mut checked = (self.check)(bytes.clone(), *sha256, request.clone(), declared.clone()).await?;
        if let Some(course) = &course {
            let snapshot =
                |stage: &eyebolt_types::pipeline::Stage| (stage.way.feature, stage.way.model.clone());
            checked.snapshots = course.stages.iter().map(snapshot).collect();
        }
        checked.course = course;
        checked.warnings.extend(unused(request));
        Ok(checked)
    }

    /// Checks a pipeline and resolves its models; `request`: the one that it is of.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place below `/pipeline`.
    pub(crate) fn freeze(
        &self,
        pipeline: &Pipeline,
        request: &AnalyzeRequest,
    ) -> Result<Course, IngestError> {
        (self.freeze)(pipeline, request).map_err(|errors| {
            let below =
                |error: FieldError| FieldError { pointer: format!("/pipeline{}", error.pointer), ..error };
            let mut errors: Vec<_> = errors.into_iter().map(below).collect();
            // In the order in which they are read.
            errors.sort_by_key(|error| step_of(&error.pointer));
            IngestError::Fields(errors)
        })
    }

    /// Decodes the image of a job with a pipeline once, and does what is ordered. Dropping the future stops the work between
    /// orders.
    ///
    /// # Errors
    /// Where the image is refused, or the engine can't answer now.
    pub async fn sit(&self, sitting: Sitting) -> Result<Remarks, ApiError> {
        (self.sit)(sitting).await
    }

    /// Does what is asked; each step is told as it ends. Dropping the future stops the work between steps.
    ///
    /// # Errors
    /// Where the image is refused, or the engine can't answer now.
    pub async fn run(&self, attempt: Attempt) -> Result<Remarks, ApiError> {
        (self.run)(attempt).await
    }

    /// What there is.
    pub fn capabilities(&self) -> Capabilities {
        (self.describe)()
    }

    /// Memory for decoded pixels: bytes in use, and at most.
    pub fn memory(&self) -> (u64, u64) {
        (self.memory)()
    }

    /// Runs a real tiny inference.
    ///
    /// # Errors
    /// Where the engine can't answer requests now.
    pub async fn ready(&self) -> Result<(), ApiError> {
        (self.probe)().await
    }
}

/// The step that a place is in; what is in none comes first.
fn step_of(pointer: &str) -> Option<usize> {
    pointer.strip_prefix("/pipeline/steps/")?.split('/').next()?.parse().ok()
}

fn no_pipelines() -> FieldError {
    FieldError::new("", eyebolt_types::ErrorCode::InvalidPipeline, "can't be run by this server")
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Analyzer")
    }
}

/// Tells of settings that change nothing, since their feature is not asked: they may be what remains of another request, and a
/// batch says them for items that ask other features.
fn unused(request: &AnalyzeRequest) -> Option<Warning> {
    let names: Vec<_> = request.unused_parameters().into_iter().map(Feature::name).collect();
    let detail = format!("Parameters of features that were not asked change nothing: {}.", names.join(", "));
    (!names.is_empty()).then(|| Warning { code: "unused_parameters".to_owned(), detail })
}
