use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Feature;

/// Steps of a pipeline at most.
pub const MAX_STEPS: usize = 16;
/// Regions of one step at most.
pub const MAX_ITEMS: u32 = 100;
/// Units that a pipeline may cost at most: a unit for each step, and for each region of a step with `for_each`.
pub const MAX_UNITS: u64 = 200;
/// Attempts at a step or a region at most.
pub const MAX_ATTEMPTS: u32 = 10;
/// Seconds that one attempt may take at most.
pub const MAX_TIMEOUT: f32 = 600.0;

/// What is done with one image, in steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// What it is for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub description: Option<String>,
    /// Steps, in any order that is easy to read; `needs` and `for_each` say which comes first.
    #[schema(min_items = 1, max_items = 16)]
    pub steps: Vec<StepSpec>,
}

/// One step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// Its name in this pipeline: a small letter, then small letters, digits, `_` and `-`.
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,39}$")]
    pub id: String,
    /// What is asked. May be left out where `model` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<Feature>,
    /// `name` or `name@version` of the model that answers; default: the feature's default model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Settings of the feature: those of `parameters` in a request without a pipeline, but for `model`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub params: Map<String, Value>,
    /// Steps that must have succeeded before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Do it once for each thing that an earlier step found, on its part of the image; default: once, on all of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// How the parts are cut out; only with `for_each`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// What happens where it fails for good.
    #[serde(default, skip_serializing_if = "OnError::is_fail")]
    pub on_error: OnError,
    /// What is tried instead, once; only with `on_error: fallback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Attempts at most where it fails for a passing reason. Default: the server's `jobs.max_attempts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10)]
    pub max_attempts: Option<u32>,
    /// Seconds that one attempt at it, or at one region, may take. Default: as long as the job may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.001, maximum = 600)]
    pub timeout: Option<f32>,
}

/// Which things of an earlier step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForEach {
    /// The step that finds them: one that finds places (`objects`, `faces`, `text`, `barcodes`) on the whole image.
    pub step: String,
    /// Only things of these labels; of `objects` alone. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Only things as sure as this. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f32>,
    /// Only things whose shorter side has so many pixels. Default 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 8, maximum = 10000)]
    pub min_size: Option<u32>,
    /// At most so many, in the order of the earlier step. Default 20. Their price is reserved when the job is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub max_items: Option<u32>,
}

/// How a part of the image is cut out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Crop {
    /// What is added on each side, as a share of the part's own width or height.
    #[schema(minimum = 0, maximum = 1)]
    pub padding: f32,
    /// Whether lines of text and codes are straightened by their corners, and faces set upright by their eyes.
    pub perspective: bool,
}

impl Default for Crop {
    fn default() -> Self {
        Self { padding: 0.0, perspective: true }
    }
}

/// What happens where a step, or one region of it, fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The job fails; what others found is kept.
    #[default]
    Fail,
    /// The job goes on without it, with a warning; so do the steps that need it.
    Skip,
    /// The `fallback` is tried; where that fails as well, the job fails.
    Fallback,
}

impl OnError {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
    fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

/// Another way to do a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// What is asked. Default: as the step, unless `model` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<Feature>,
    /// The model that answers; default: the feature's default model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Settings of the feature; those of the step do not count.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub params: Map<String, Value>,
}

/// A pipeline in a request: itself, or the name of one.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PipelineChoice {
    /// `name`, or `name@version`.
    Named(String),
    /// All of it.
    Inline(Box<Pipeline>),
}

/// By hand, so that a mistake inside a pipeline is told with its place.
impl<'de> Deserialize<'de> for PipelineChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = PipelineChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a pipeline or an object")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(PipelineChoice::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let pipeline = Pipeline::deserialize(MapAccessDeserializer::new(map))?;
                Ok(PipelineChoice::Inline(Box::new(pipeline)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
