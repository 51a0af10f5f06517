use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Feature, ImageFormat, Problem, Results,
    id::{ImageId, JobId, StepId},
};

/// One accepted intent and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Always `job`.
    pub object: String,
    /// Where it stands.
    pub status: JobStatus,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When work began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Real or sandbox.
    pub mode: Mode,
    /// The version of this answer's shape.
    pub api_version: String,
    /// The image.
    pub input: Input,
    /// One for each feature.
    pub steps: Vec<Step>,
    /// Answers of the steps that succeeded.
    pub results: Results,
    /// What was taken all the same.
    pub warnings: Vec<Warning>,
    /// Whether the image was seen before.
    pub dedup: Dedup,
    /// Whether something was answered with less than what was asked.
    pub degraded: bool,
    /// What it costs.
    pub usage: Usage,
    /// Why it failed.
    pub error: Option<Problem>,
    /// Until when what failed can be run again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retryable_until: Option<Timestamp>,
    /// Where to go from here.
    pub links: Links,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum JobStatus {
    Pending,
    Processing,
    Succeeded,
    Failed,
    Canceled,
    Expired,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum StepStatus {
    Pending,
    Processing,
    Succeeded,
    Failed,
    Canceled,
}

/// Real or sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Mode {
    Live,
    Test,
}

/// The image of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Input {
    /// Its name.
    pub image_id: ImageId,
    /// Digest of the bytes, hex.
    pub sha256: String,
    /// Size of the file.
    pub bytes: u64,
    /// By content.
    pub format: ImageFormat,
    /// Of the upright image, pixels.
    pub width: u32,
    /// Of the upright image, pixels.
    pub height: u32,
    /// Width × height ÷ 1,000,000.
    pub megapixels: f32,
    /// Frames or pages; the first one is analysed.
    pub frames: u32,
}

/// One feature's part of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// What is asked.
    pub feature: Feature,
    /// Where it stands.
    pub status: StepStatus,
    /// Counts from 1.
    pub attempt: u32,
    /// The model snapshot, `name@version`.
    pub model: Option<String>,
    /// When work began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<Problem>,
}

/// Something to know about an answer that was given all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// A code of the error catalogue, or a word of its own.
    pub code: String,
    /// In a sentence.
    pub detail: String,
}

/// Whether the image was seen before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dedup {
    /// `none` until content de-duplication exists.
    pub status: String,
    /// The job that had it.
    pub of: Option<JobId>,
    /// `bytes`, `pixels` or `perceptual`.
    pub kind: Option<String>,
}

impl Dedup {
    /// Nothing was looked for.
    pub fn none() -> Self {
        Self { status: "none".to_owned(), of: None, kind: None }
    }
}

/// What a job costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// One for each feature answered.
    pub units: u64,
}

/// Where to go from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Links {
    /// What the models of this answer are.
    pub models: String,
    /// What every error code means.
    pub errors: String,
}
