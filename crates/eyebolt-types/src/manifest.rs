//! The manifest of a model: `model.toml` beside the ONNX file. `eyebolt setup` writes one for each model that it
//! brings; operators write their own for models they bring.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Feature;

/// An immutable snapshot: `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId {
    /// Lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The same alphabet.
    pub version: String,
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl FromStr for ModelId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = text.split_once('@').ok_or_else(|| format!("{text:?} is not name@version"))?;
        let sound = |part: &str| {
            !part.is_empty()
                && part.len() <= 64
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
        };
        if sound(name) && sound(version) {
            Ok(Self { name: name.to_owned(), version: version.to_owned() })
        } else {
            Err(format!("{text:?}: name and version take 1 to 64 of a-z 0-9 - _ ."))
        }
    }
}

/// What a model is, what it takes and how its outputs are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// Lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The same alphabet; a new version for every change of file or settings.
    pub version: String,
    /// The feature that it answers. Models that only serve another one (`text`: detection, line orientation) say
    /// so by their decoder.
    pub task: Feature,
    /// One sentence for `GET /v1/models`.
    pub description: String,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// The ONNX file, beside the manifest.
    pub file: String,
    /// Digest of that file, hex; checked when it is loaded.
    pub sha256: String,
    /// How pixels become the input tensor.
    pub input: InputSpec,
    /// How output tensors become findings.
    pub decoder: Decoder,
    /// File of class names beside the manifest, one a line, line 1 for class 0; an empty line drops the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_file: Option<String>,
    /// Findings below it are left out unless the request says otherwise.
    #[serde(default = "default_min_confidence")]
    pub min_confidence: f32,
    /// From which confidence on findings count as `medium` and `high`.
    #[serde(default)]
    pub bands: Bands,
    /// Languages that a text model reads (BCP 47).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Languages that users may expect and that it can't read (BCP 47).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsupported_languages: Vec<String>,
    /// Whether this model answers where a request names none. One for each task and role.
    #[serde(default)]
    pub default: bool,
}

fn default_min_confidence() -> f32 {
    0.4
}

impl ModelManifest {
    /// Its snapshot name.
    pub fn id(&self) -> ModelId {
        ModelId { name: self.name.clone(), version: self.version.clone() }
    }
}

/// Where the bands of a confidence begin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bands {
    /// From here on `medium`.
    pub medium: f32,
    /// From here on `high`.
    pub high: f32,
}

impl Default for Bands {
    fn default() -> Self {
        Self { medium: 0.5, high: 0.8 }
    }
}

/// How pixels become the input tensor (`NCHW`, 32-bit floats): resize, then `(value − mean) × scale` by channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Width the model sees, pixels; 0: free (decided by the feature).
    pub width: u32,
    /// Height the model sees, pixels; 0: free.
    pub height: u32,
    /// How the image is fitted.
    pub fit: Fit,
    /// Order of the channels.
    #[serde(default)]
    pub channels: Channels,
    /// Taken off each channel (in the order of `channels`), on the scale 0–255.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Multiplied after that.
    #[serde(default = "ones")]
    pub scale: [f32; 3],
    /// Fills what the image does not cover, 0–255.
    #[serde(default)]
    pub pad: u8,
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// How the image is fitted into the input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Both sides by their own factor.
    Stretch,
    /// One factor, image in the top left corner, the rest filled with `pad`.
    LetterboxTopLeft,
    /// One factor, image in the middle, the rest filled with `pad`.
    LetterboxCentre,
    /// The middle square of 224/256 of the shorter side.
    CentreCrop,
    /// Free size: one factor, both sides rounded up to a multiple of 32 and filled with `pad`.
    Multiple32,
}

/// Order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Channels {
    #[default]
    Rgb,
    Bgr,
}

/// How output tensors become findings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decoder {
    /// Objects: `loc` \[1, n, 4\] (ty, tx, th, tw) and `scores` \[1, n, classes\], class 0 background.
    Ssd {
        /// File of n × 4 little-endian 32-bit floats (ymin, xmin, ymax, xmax; 0–1), beside the manifest.
        anchors_file: String,
        /// Overlap above which the weaker of two findings of one class is dropped.
        iou: f32,
    },
    /// Objects: \[1, n, 5 + classes\] over strides 8, 16 and 32 (arXiv 2107.08430).
    Yolox {
        /// Overlap above which the weaker of two findings of one class is dropped.
        iou: f32,
    },
    /// Faces: heatmap, log size, offset and landmarks at stride 4 (arXiv 1911.03599).
    Centerface {
        /// Overlap above which the weaker of two faces is dropped.
        iou: f32,
    },
    /// Labels: logits \[1, classes\]; and, where `embedding_output` is set, a vector for `embedding`.
    Classifier {
        /// Index of the output with the logits.
        logits_output: usize,
        /// Index of the output with the pooled vector.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        embedding_output: Option<usize>,
    },
    /// Text detection: one probability map at input size (DB, arXiv 1911.08947).
    DbText {
        /// A pixel is text from here on.
        threshold: f32,
        /// A region counts from this mean probability on.
        box_threshold: f32,
        /// A region grows by area × this ÷ perimeter.
        unclip_ratio: f32,
    },
    /// Whether a line stands on its head: P(0°), P(180°).
    LineOrientation {},
    /// Text recognition: CTC, class 0 blank, then the lines of the character file, then a space.
    CtcText {
        /// One character a line, beside the manifest.
        characters_file: String,
    },
}
