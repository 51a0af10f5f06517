//! What a feature answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    BoundingBox, Feature, Point, Polygon,
    geometry::{point_schema, polygon_schema},
};

/// Answers by feature: exactly those that were asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Results {
    /// Of `objects`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Objects>,
    /// Of `faces`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faces: Option<Faces>,
    /// Of `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
    /// Of `barcodes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barcodes: Option<Barcodes>,
    /// Of `labels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Of `embedding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Embedding>,
    /// Of `quality`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

impl Results {
    /// The answer of one feature alone.
    #[must_use]
    pub fn only(&self, feature: Feature) -> Self {
        let mut only = Self::default();
        match feature {
            Feature::Objects => only.objects.clone_from(&self.objects),
            Feature::Faces => only.faces.clone_from(&self.faces),
            Feature::Text => only.text.clone_from(&self.text),
            Feature::Barcodes => only.barcodes.clone_from(&self.barcodes),
            Feature::Labels => only.labels.clone_from(&self.labels),
            Feature::Embedding => only.embedding.clone_from(&self.embedding),
            Feature::Quality => only.quality.clone_from(&self.quality),
        }
        only
    }

    /// Takes over every answer that `other` has.
    pub fn absorb(&mut self, other: Self) {
        let Self { objects, faces, text, barcodes, labels, embedding, quality } = other;
        self.objects = objects.or(self.objects.take());
        self.faces = faces.or(self.faces.take());
        self.text = text.or(self.text.take());
        self.barcodes = barcodes.or(self.barcodes.take());
        self.labels = labels.or(self.labels.take());
        self.embedding = embedding.or(self.embedding.take());
        self.quality = quality.or(self.quality.take());
    }
}

/// How far a confidence can be trusted. What the bands mean for a model stands in its manifest and in
/// `GET /v1/models`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfidenceBand {
    /// Often wrong: show it to a person.
    Low,
    /// Mostly right.
    Medium,
    /// Nearly always right.
    High,
}

/// Things found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Objects {
    /// The snapshot that answered, `name@version`.
    pub model: String,
    /// Where it is written what a confidence of this model means.
    pub confidence_guide: String,
    /// The surest first.
    pub items: Vec<Object>,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Object {
    /// What it is, in the model's words.
    pub label: String,
    /// 0–1.
    pub confidence: f32,
    /// What the confidence means.
    pub confidence_band: ConfidenceBand,
    /// Where it is.
    #[serde(rename = "box")]
    pub bounds: BoundingBox,
}

/// Faces found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Faces {
    /// The snapshot that answered, `name@version`.
    pub model: String,
    /// Where it is written what a confidence of this model means.
    pub confidence_guide: String,
    /// The surest first.
    pub items: Vec<Face>,
}

/// One face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Face {
    /// 0–1.
    pub confidence: f32,
    /// What the confidence means.
    pub confidence_band: ConfidenceBand,
    /// Where it is.
    #[serde(rename = "box")]
    pub bounds: BoundingBox,
    /// Its landmarks.
    pub landmarks: Landmarks,
}

/// Five points of a face. Left and right are the viewer's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Landmarks {
    /// Centre of the eye on the left of the image.
    #[schema(schema_with = point_schema)]
    pub left_eye: Point,
    /// Centre of the eye on the right of the image.
    #[schema(schema_with = point_schema)]
    pub right_eye: Point,
    /// Tip of the nose.
    #[schema(schema_with = point_schema)]
    pub nose: Point,
    /// Corner of the mouth on the left of the image.
    #[schema(schema_with = point_schema)]
    pub mouth_left: Point,
    /// Corner of the mouth on the right of the image.
    #[schema(schema_with = point_schema)]
    pub mouth_right: Point,
}

/// Text read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Text {
    /// The snapshot of the recogniser, `name@version`.
    pub model: String,
    /// Where it is written what a confidence of this model means.
    pub confidence_guide: String,
    /// All lines in reading order, one a line.
    pub text: String,
    /// How far the text stands turned clockwise from upright: 0, 90, 180 or 270 degrees.
    pub rotation: u16,
    /// In reading order.
    pub lines: Vec<TextLine>,
}

/// One line of text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextLine {
    /// What it says.
    pub text: String,
    /// 0–1: mean over its characters.
    pub confidence: f32,
    /// What the confidence means.
    pub confidence_band: ConfidenceBand,
    /// Its corners, clockwise from the top left of the reading direction.
    #[schema(schema_with = polygon_schema)]
    pub polygon: Polygon,
    /// The upright box around it.
    #[serde(rename = "box")]
    pub bounds: BoundingBox,
}

/// Codes read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Barcodes {
    /// The reader that answered, `name@version`.
    pub model: String,
    /// From top left to bottom right.
    pub items: Vec<Barcode>,
}

/// One code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Barcode {
    /// The symbology, such as `QRCode`, `EAN13`, `DataMatrix`.
    pub format: String,
    /// What it says; bytes that are no text are written as `\xNN`… see `bytes_base64` for the exact ones.
    pub text: String,
    /// The exact bytes, base64, where they are not simply the text in UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_base64: Option<String>,
    /// What kind of content: `text`, `binary`, `gs1`, `iso15434`, `mixed`.
    pub content: String,
    /// Its corners, clockwise from the code's own top left.
    #[schema(schema_with = polygon_schema)]
    pub polygon: Polygon,
    /// The upright box around it.
    #[serde(rename = "box")]
    pub bounds: BoundingBox,
    /// Codes carry check digits or error correction, so a code that is read is read right: always 1.
    pub confidence: f32,
    /// Always `high`.
    pub confidence_band: ConfidenceBand,
}

/// What the image shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Labels {
    /// The snapshot that answered, `name@version`.
    pub model: String,
    /// Where it is written what a confidence of this model means.
    pub confidence_guide: String,
    /// The surest first.
    pub items: Vec<Label>,
}

/// One label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Label {
    /// What it is, in the model's words.
    pub label: String,
    /// 0–1; over all labels of the model the sum is 1.
    pub confidence: f32,
    /// What the confidence means.
    pub confidence_band: ConfidenceBand,
}

/// A vector for similarity search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Embedding {
    /// The snapshot that answered, `name@version`. Vectors of two models can't be compared.
    pub model: String,
    /// How many numbers.
    pub dimensions: u32,
    /// Of length 1, so that the dot product of two is their cosine similarity.
    pub vector: Vec<f32>,
}

/// How good the image is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quality {
    /// Whether no verdict is `fail`.
    pub acceptable: bool,
    /// One for each measure.
    pub verdicts: Vec<QualityVerdict>,
    /// SHA-256 of the upright 8-bit RGB pixels, hex: equal for files that differ in bytes alone.
    pub pixel_digest: String,
    /// 64-bit perceptual hash, hex: near-duplicates differ in few bits.
    pub perceptual_hash: String,
}

/// One measure and what it means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QualityVerdict {
    /// `resolution`, `sharpness`, `brightness`, `contrast`, `noise`, `content` or `compression`.
    pub measure: String,
    /// The value found.
    pub value: f32,
    /// The limit that it was held against.
    pub limit: f32,
    /// What of.
    pub unit: String,
    /// Good enough?
    pub verdict: Verdict,
    /// The error code that the quality gate refuses it with, where it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Good enough?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Pass,
    /// It may cost accuracy.
    Warn,
    /// No.
    Fail,
}
