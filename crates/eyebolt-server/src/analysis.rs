//! The door to the engine: one checked request in, one job out.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use eyebolt_types::{AnalyzeRequest, Feature, ImageFormat, ImageLimits, Job, ModelId};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ApiError, BodyMemory, Declared};

/// One request that passed the edge: the whole image is here, and every setting is inside its range.
#[derive(Debug)]
pub struct Submission {
    /// The file.
    pub bytes: Bytes,
    /// What is asked.
    pub request: AnalyzeRequest,
    /// What the client says the file is.
    pub declared: Declared,
    /// The share of the body budget that `bytes` takes; drop both together.
    pub memory: BodyMemory,
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

type Analyze = dyn Fn(Submission) -> BoxFuture<'static, Result<Job, ApiError>> + Send + Sync;
type Describe = dyn Fn() -> Capabilities + Send + Sync;
type Probe = dyn Fn() -> BoxFuture<'static, Result<(), ApiError>> + Send + Sync;

/// Runs analyses. Cheap to clone; every clone is the same engine.
#[derive(Clone)]
pub struct Analyzer {
    analyze: Arc<Analyze>,
    describe: Arc<Describe>,
    probe: Arc<Probe>,
}

impl Analyzer {
    /// An analyzer out of three functions: `analyze` runs one submission and must stop when its future is dropped,
    /// `describe` lists what there is, `probe` runs a real tiny inference.
    pub fn new<A, P>(
        analyze: impl Fn(Submission) -> A + Send + Sync + 'static,
        describe: impl Fn() -> Capabilities + Send + Sync + 'static,
        probe: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self
    where
        A: Future<Output = Result<Job, ApiError>> + Send + 'static,
        P: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        Self {
            analyze: Arc::new(move |submission| Box::pin(analyze(submission))),
            describe: Arc::new(describe),
            probe: Arc::new(move || Box::pin(probe())),
        }
    }

    /// Runs one submission to its end. Dropping the future cancels the work.
    ///
    /// # Errors
    /// Where the image is refused, a model fails or there is no capacity.
    pub async fn analyze(&self, submission: Submission) -> Result<Job, ApiError> {
        (self.analyze)(submission).await
    }

    /// What there is.
    pub fn capabilities(&self) -> Capabilities {
        (self.describe)()
    }

    /// Runs a real tiny inference.
    ///
    /// # Errors
    /// Where the engine can't answer requests now.
    pub async fn ready(&self) -> Result<(), ApiError> {
        (self.probe)().await
    }
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Analyzer")
    }
}
