use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Dedup, Detail, ErrorCode, Feature, ImageFormat, Problem,
    id::{ImageId, JobId, StepId},
    pipeline::{JobResults, PipelineRef, TaskCounts},
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
    /// The pipeline that it runs, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineRef>,
    /// One for each feature, or for each step of the pipeline.
    pub steps: Vec<Step>,
    /// Answers of the steps that succeeded: by feature, or by the names of the pipeline's steps.
    pub results: JobResults,
    /// What was taken all the same.
    pub warnings: Vec<Warning>,
    /// Whether the image was seen before.
    pub dedup: Dedup,
    /// How the image was looked at less closely than asked, and why; null: it was not.
    pub degraded: Option<Degraded>,
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

/// Less than what was asked, where the request allowed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Degraded {
    /// The features that looked less closely.
    pub what: Vec<Looked>,
    /// The error that it was instead of, or the longer wait.
    pub why: ErrorCode,
}

/// How closely one feature looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Looked {
    /// Which.
    pub feature: Feature,
    /// As the request says.
    pub asked: Detail,
    /// As it was done.
    pub used: Detail,
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

impl JobStatus {
    /// All of them, in the order in which a job can have them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Succeeded, Self::Failed, Self::Canceled, Self::Expired];

    /// The name in answers and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }

    /// Whether it is the job's last.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Processing)
    }

    /// Whether a job may go from this state to the next. A job whose worker died waits again; a failed one may be
    /// retried, and so may one that succeeded without parts that its pipeline may skip; every other end is final.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => matches!(next, Self::Processing | Self::Canceled | Self::Expired),
            Self::Processing => next != Self::Processing,
            Self::Failed | Self::Succeeded => next == Self::Pending,
            Self::Canceled | Self::Expired => false,
        }
    }
}

impl FromStr for JobStatus {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or(UnknownName)
    }
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
    Skipped,
}

impl StepStatus {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Succeeded, Self::Failed, Self::Canceled, Self::Skipped];

    /// The name in answers and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
        }
    }
}

impl FromStr for StepStatus {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or(UnknownName)
    }
}

/// Real or sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Mode {
    Live,
    Test,
}

impl Mode {
    /// The name in answers, keys and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

impl FromStr for Mode {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::Live, Self::Test].into_iter().find(|mode| mode.name() == name).ok_or(UnknownName)
    }
}

/// The text names nothing of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownName;

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
    /// Its name in the pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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
    /// What its work is known by, once it is in hand: 32 bytes, hex. Of a pipeline's steps alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How its parts stand, where it is done for each of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskCounts>,
}

/// Something to know about an answer that was given all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// A code of the error catalogue, or a word of its own.
    pub code: String,
    /// In a sentence.
    pub detail: String,
}

/// What a job costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// One for each feature answered; of a pipeline: one for each step that succeeded, or for each of its parts.
    pub units: u64,
}

/// Where to go from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Links {
    /// The job.
    #[serde(rename = "self")]
    pub job: String,
    /// Its steps.
    pub steps: String,
    /// What the models of this answer are.
    pub models: String,
    /// What every error code means.
    pub errors: String,
}

impl Links {
    /// Of a job.
    pub fn of(job: JobId) -> Self {
        Self {
            job: format!("/v1/jobs/{job}"),
            steps: format!("/v1/jobs/{job}/steps"),
            models: "/v1/models".to_owned(),
            errors: "/v1/errors".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair of states, so that a new state or move has to be written down here.
    #[test]
    fn the_allowed_moves_are_these_and_no_others() {
        use JobStatus::{Canceled, Expired, Failed, Pending, Processing, Succeeded};
        let allowed = [
            (Pending, Processing),
            (Pending, Canceled),
            (Pending, Expired),
            (Processing, Pending),
            (Processing, Succeeded),
            (Processing, Failed),
            (Processing, Canceled),
            (Processing, Expired),
            (Failed, Pending),
            (Succeeded, Pending),
        ];
        for from in JobStatus::ALL {
            for to in JobStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn names_are_those_of_answers_and_read_back() {
        for status in JobStatus::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("{:?}", status.name()));
            assert_eq!(status.name().parse(), Ok(status));
        }
        for status in StepStatus::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("{:?}", status.name()));
            assert_eq!(status.name().parse(), Ok(status));
        }
        for mode in [Mode::Live, Mode::Test] {
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("{:?}", mode.name()));
            assert_eq!(mode.name().parse(), Ok(mode));
        }
    }
}
