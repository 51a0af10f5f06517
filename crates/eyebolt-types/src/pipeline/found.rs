use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Ref, RefOr, Schema, schema::AnyOfBuilder},
};

use super::Region;
use crate::{Feature, Problem, Results, StepStatus};

/// What a job found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly every job has the large one")]
pub enum JobResults {
    /// By the steps of its pipeline.
    Steps(BTreeMap<String, StepFound>),
    /// By feature: exactly those that were asked.
    Features(Results),
}

/// Any of the two and not one of them, as would be derived: a job that has found nothing yet is both.
impl PartialSchema for JobResults {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .description(Some("What a job found: by the steps of its pipeline, or by feature, exactly those that were asked."))
            .item(BTreeMap::<String, StepFound>::schema())
            .item(Ref::from_schema_name(Results::name()))
            .into()
    }
}

impl ToSchema for JobResults {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Results::name().into(), Results::schema()));
        Results::schemas(schemas);
        schemas.push((StepFound::name().into(), StepFound::schema()));
        StepFound::schemas(schemas);
    }
}

impl JobResults {
    /// The answer of one feature alone; of a pipeline: nothing.
    #[must_use]
    pub fn only(&self, feature: Feature) -> Results {
        self.features().map_or_else(Results::default, |found| found.only(feature))
    }

    /// The answers by feature; `None`: they are by step.
    pub fn features(&self) -> Option<&Results> {
        match self {
            Self::Features(found) => Some(found),
            Self::Steps(_) => None,
        }
    }
}

/// The pipeline of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PipelineRef {
    /// `name@version` of one that was named; null: it came with the request.
    pub name: Option<String>,
    /// SHA-256 of the pipeline as it was written, hex.
    pub digest: String,
}

/// What one step of a pipeline found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepFound {
    /// Where it stands.
    pub status: StepStatus,
    /// What was asked.
    pub feature: Feature,
    /// What it found on the whole image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Results>,
    /// What it found on each part, where it has a `for_each`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<TaskFound>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// What a step found on one part of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskFound {
    /// Its place among the parts of the step, from 0: its name in addresses.
    pub index: u32,
    /// The part.
    pub region: Region,
    /// Where it stands.
    pub status: StepStatus,
    /// Counts from 1.
    pub attempt: u32,
    /// What its work is known by: 32 bytes, hex.
    pub key: String,
    /// The snapshot that answers.
    pub model: Option<String>,
    /// When work began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// What it found; every place is one of the whole image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Results>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// How the parts of a step stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct TaskCounts {
    /// All of them.
    pub total: u32,
    /// Those that succeeded.
    pub succeeded: u32,
    /// Those that failed for good.
    pub failed: u32,
    /// Those that failed and may be missing.
    pub skipped: u32,
}
