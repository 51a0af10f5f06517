//! What a client may ask: the features, and the parameters of each.
//!
//! Every parameter has a default, every range is checked by [`AnalyzeRequest::check`], and a name that is not
//! listed here is refused.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Detail, ErrorCode, Feature, FieldError, Looked, pipeline::PipelineChoice};

/// One image, one or more questions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnalyzeRequest {
    /// What is asked: at least one, each once. Not with a pipeline.
    #[serde(default)]
    pub features: Vec<Feature>,
    /// Several steps instead of features, or the name of a pipeline: `name`, `name@version`.
    // Left out where there is none: fingerprints stay what they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineChoice>,
    /// How closely to look, for every feature that does not say otherwise.
    #[serde(default)]
    pub detail: Detail,
    /// What happens to an image that is too dark, blurred, empty …
    #[serde(default)]
    pub quality_gate: QualityGate,
    /// Run it although the image was seen before. Only a new idempotency key starts a new run.
    #[serde(default)]
    pub reprocess: bool,
    /// Whether the image may be looked at less closely than asked while the machine is busy. The job says so.
    // Left out where nothing is allowed: fingerprints stay what they were.
    #[serde(default, skip_serializing_if = "Degrade::is_never")]
    pub degrade: Degrade,
    /// Where the job's end is told, beside the project's webhook endpoints: an address as theirs. Messages are signed with the
    /// project's own secret (`POST /v1/webhook-secret:rotate`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2048)]
    pub webhook_url: Option<String>,
    /// Check everything and tell what it would cost, and do nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub validate_only: bool,
    /// Settings of single features. Not with a pipeline, whose steps have their own.
    #[serde(default)]
    pub parameters: Parameters,
}

/// What happens to an image whose quality is too low to be worth a model's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualityGate {
    /// Refuse it, with the measure that failed.
    #[default]
    Reject,
    /// Take it, with a warning.
    Warn,
    /// Do not measure.
    Off,
}

/// Whether a busy machine may look less closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Degrade {
    /// As asked, or not now.
    #[default]
    Never,
    /// Sooner, with smaller inputs.
    Allow,
}

impl Degrade {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
    fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Parameters by feature.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Of `objects`.
    pub objects: ObjectParameters,
    /// Of `faces`.
    pub faces: FaceParameters,
    /// Of `text`.
    pub text: TextParameters,
    /// Of `barcodes`.
    pub barcodes: BarcodeParameters,
    /// Of `labels`.
    pub labels: LabelParameters,
    /// Of `embedding`.
    pub embedding: EmbeddingParameters,
    /// Of `quality`.
    pub quality: QualityParameters,
}

/// Settings of `objects`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectParameters {
    /// `name` or `name@version`; default: the model of the alias `objects/default`.
    pub model: Option<String>,
    /// Findings below it are left out. Default: what the model's manifest says.
    #[schema(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f32>,
    /// At most so many, the surest first. Default 100.
    #[schema(minimum = 1, maximum = 1000)]
    pub max_results: Option<u32>,
    /// Only these labels. Default: all that the model knows.
    pub labels: Option<Vec<String>>,
    /// How closely to look.
    pub detail: Option<Detail>,
}

/// Settings of `faces`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FaceParameters {
    /// `name` or `name@version`; default: the model of the alias `faces/default`.
    pub model: Option<String>,
    /// Findings below it are left out. Default: what the model's manifest says.
    #[schema(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f32>,
    /// At most so many, the surest first. Default 100.
    #[schema(minimum = 1, maximum = 1000)]
    pub max_results: Option<u32>,
    /// How closely to look.
    pub detail: Option<Detail>,
    /// Length of the longer side that the model sees, pixels; overrides `detail`.
    #[schema(minimum = 64, maximum = 1920)]
    pub input_size: Option<u32>,
}

/// Settings of `text`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TextParameters {
    /// `name` or `name@version` of the recogniser; default: the model of the alias `text/default`.
    pub model: Option<String>,
    /// Lines below it are left out. Default 0.5.
    #[schema(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f32>,
    /// At most so many lines, in reading order. Default 1000.
    #[schema(minimum = 1, maximum = 5000)]
    pub max_results: Option<u32>,
    /// How closely to look.
    pub detail: Option<Detail>,
    /// Languages that the text may be in (BCP 47, such as `en`, `zh-Hans`); one that no model reads is refused.
    pub languages: Option<Vec<String>>,
    /// Whether pages that stand on their side or head are turned. Default true.
    pub auto_rotate: Option<bool>,
}

/// Settings of `barcodes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BarcodeParameters {
    /// Only these symbologies, such as `QRCode`, `EAN13`. Default: all.
    pub formats: Option<Vec<String>>,
    /// At most so many. Default 100.
    #[schema(minimum = 1, maximum = 255)]
    pub max_results: Option<u32>,
}

/// Settings of `labels`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelParameters {
    /// `name` or `name@version`; default: the model of the alias `labels/default`.
    pub model: Option<String>,
    /// Labels below it are left out. Default: what the model's manifest says.
    #[schema(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f32>,
    /// At most so many, the surest first. Default 5.
    #[schema(minimum = 1, maximum = 1000)]
    pub max_results: Option<u32>,
}

/// Settings of `embedding`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingParameters {
    /// `name` or `name@version`; default: the model of the alias `embedding/default`.
    pub model: Option<String>,
}

/// Settings of `quality`: none yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QualityParameters {}

impl AnalyzeRequest {
    /// Asks these features with every default.
    pub fn of(features: impl IntoIterator<Item = Feature>) -> Self {
        Self { features: features.into_iter().collect(), ..Self::default() }
    }

    /// The same request with the model of each feature named: a snapshot, where a name or an alias stood before.
    #[must_use]
    pub fn with_models(mut self, snapshots: &[(Feature, Option<String>)]) -> Self {
        let p = &mut self.parameters;
        for (feature, snapshot) in snapshots {
            match feature {
                Feature::Objects => p.objects.model.clone_from(snapshot),
                Feature::Faces => p.faces.model.clone_from(snapshot),
                Feature::Text => p.text.model.clone_from(snapshot),
                Feature::Labels => p.labels.model.clone_from(snapshot),
                Feature::Embedding => p.embedding.model.clone_from(snapshot),
                Feature::Barcodes | Feature::Quality => {}
            }
        }
        self
    }

    /// How closely a feature looks; `None` where it looks at every image alike.
    pub fn detail_of(&self, feature: Feature) -> Option<Detail> {
        let p = &self.parameters;
        let own = match feature {
            Feature::Objects => p.objects.detail,
            Feature::Faces => p.faces.input_size.map(Detail::of_side).or(p.faces.detail),
            Feature::Text => p.text.detail,
            Feature::Barcodes | Feature::Labels | Feature::Embedding | Feature::Quality => return None,
        };
        Some(own.unwrap_or(self.detail))
    }

    /// The same request with every feature at low detail, and what that changes. Nothing: it costs as little as it can.
    #[must_use]
    pub fn degraded(mut self) -> (Self, Vec<Looked>) {
        let closer =
            |feature: &Feature| Some((*feature, self.detail_of(*feature).filter(|own| *own != Detail::Low)?));
        let closer: Vec<_> = self.features.iter().filter_map(closer).collect();
        for (feature, _) in &closer {
            let p = &mut self.parameters;
            match feature {
                Feature::Objects => p.objects.detail = Some(Detail::Low),
                Feature::Text => p.text.detail = Some(Detail::Low),
                // A side overrides what is said of the detail.
                Feature::Faces => (p.faces.detail, p.faces.input_size) = (Some(Detail::Low), None),
                Feature::Barcodes | Feature::Labels | Feature::Embedding | Feature::Quality => {}
            }
        }
        let looked = |(feature, asked)| Looked { feature, asked, used: Detail::Low };
        (self, closer.into_iter().map(looked).collect())
    }

    /// Whether the feature is asked.
    pub fn asks(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Features that have parameters and are not asked; none beside a pipeline, which has none.
    pub fn unused_parameters(&self) -> Vec<Feature> {
        let (p, none) = (&self.parameters, Parameters::default());
        let said = |feature: &Feature| match feature {
            Feature::Objects => p.objects != none.objects,
            Feature::Faces => p.faces != none.faces,
            Feature::Text => p.text != none.text,
            Feature::Barcodes => p.barcodes != none.barcodes,
            Feature::Labels => p.labels != none.labels,
            Feature::Embedding => p.embedding != none.embedding,
            Feature::Quality => p.quality != none.quality,
        };
        Feature::ALL.into_iter().filter(|feature| said(feature) && !self.asks(*feature)).collect()
    }

    /// The places where a value is outside its range. Empty: the request is sound.
    pub fn check(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        if self.pipeline.is_some() {
            self.check_alone(&mut found);
        } else if self.features.is_empty() {
            found.push(FieldError::new(
                "/features",
                ErrorCode::InvalidParameter,
                "names no feature; 1 to 7 are possible",
            ));
        }
        for (index, feature) in self.features.iter().enumerate() {
            if self.features[..index].contains(feature) {
                let pointer = format!("/features/{index}");
                found.push(FieldError::new(
                    pointer,
                    ErrorCode::InvalidParameter,
                    format!("names {feature} twice"),
                ));
            }
        }
        let p = &self.parameters;
        let confidences = [
            ("objects", p.objects.min_confidence),
            ("faces", p.faces.min_confidence),
            ("text", p.text.min_confidence),
            ("labels", p.labels.min_confidence),
        ];
        for (feature, value) in confidences {
            check_range(&mut found, feature, "min_confidence", (value, 0.0..=1.0));
        }
        let counts = [
            ("objects", p.objects.max_results, 1000.0),
            ("faces", p.faces.max_results, 1000.0),
            ("text", p.text.max_results, 5000.0),
            ("barcodes", p.barcodes.max_results, 255.0),
            ("labels", p.labels.max_results, 1000.0),
        ];
        for (feature, value, most) in counts {
            check_range(&mut found, feature, "max_results", (value.map(|count| count as f32), 1.0..=most));
        }
        let size = p.faces.input_size.map(|size| size as f32);
        check_range(&mut found, "faces", "input_size", (size, 64.0..=1920.0));
        found
    }

    /// What can't be said beside a pipeline.
    fn check_alone(&self, found: &mut Vec<FieldError>) {
        let said = [
            ("/features", !self.features.is_empty(), "can't be asked beside a pipeline, which asks its own"),
            (
                "/parameters",
                self.parameters != Parameters::default(),
                "are said by the pipeline's steps: params",
            ),
            ("/degrade", self.degrade != Degrade::Never, "is not possible with a pipeline"),
        ];
        for (pointer, _, detail) in said.into_iter().filter(|(_, said, _)| *said) {
            found.push(FieldError::new(pointer, ErrorCode::InvalidParameter, detail));
        }
    }
}

fn check_range(
    found: &mut Vec<FieldError>,
    feature: &str,
    name: &str,
    (value, range): (Option<f32>, std::ops::RangeInclusive<f32>),
) {
    if let Some(value) = value.filter(|value| !range.contains(value)) {
        let (low, high) = (range.start(), range.end());
        let pointer = format!("/parameters/{feature}/{name}");
        found.push(FieldError::new(
            pointer,
            ErrorCode::InvalidParameter,
            format!("is {value}, outside {low} to {high}"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degraded_request_looks_at_low_detail_and_tells_what_that_changes() {
        let mut asked = AnalyzeRequest {
            detail: Detail::High,
            ..AnalyzeRequest::of([Feature::Objects, Feature::Faces, Feature::Text, Feature::Labels])
        };
        asked.parameters.objects.detail = Some(Detail::Low);
        asked.parameters.faces.input_size = Some(640);
        let (less, what) = asked.clone().degraded();
        let looked = |feature, asked| Looked { feature, asked, used: Detail::Low };
        assert_eq!(what, [looked(Feature::Faces, Detail::Standard), looked(Feature::Text, Detail::High)]);
        for feature in [Feature::Objects, Feature::Faces, Feature::Text] {
            assert_eq!(less.detail_of(feature), Some(Detail::Low));
        }
        assert_eq!(less.detail_of(Feature::Labels), None);
        assert_eq!(less.clone().degraded(), (less, Vec::new()), "there is no less than that");
    }

    #[test]
    fn what_is_not_said_of_degrading_leaves_requests_as_they_were() {
        let plain = AnalyzeRequest::of([Feature::Objects]);
        assert!(!serde_json::to_string(&plain).unwrap().contains("degrade"));
        let allowed = AnalyzeRequest { degrade: Degrade::Allow, ..plain };
        let read: AnalyzeRequest = serde_json::from_str(&serde_json::to_string(&allowed).unwrap()).unwrap();
        assert_eq!(read, allowed);
    }
}
