use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What can be asked of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Things and their places.
    Objects,
    /// Faces with five landmarks.
    Faces,
    /// Lines of text in reading order.
    Text,
    /// Bar codes and matrix codes with their contents.
    Barcodes,
    /// What the image shows as a whole.
    Labels,
    /// A vector for similarity search.
    Embedding,
    /// Resolution, sharpness, exposure, contrast and noise.
    Quality,
}

impl Feature {
    /// All features, in the order in which answers list them.
    pub const ALL: [Self; 7] = [
        Self::Objects,
        Self::Faces,
        Self::Text,
        Self::Barcodes,
        Self::Labels,
        Self::Embedding,
        Self::Quality,
    ];

    /// The name used in requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Faces => "faces",
            Self::Text => "text",
            Self::Barcodes => "barcodes",
            Self::Labels => "labels",
            Self::Embedding => "embedding",
            Self::Quality => "quality",
        }
    }

    /// The feature of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

impl std::str::FromStr for Feature {
    type Err = crate::job::UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::named(name).ok_or(crate::job::UnknownName)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How closely to look: a larger input finds smaller things and costs more time. `docs/performance.md` has the price.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// Small input: quick, misses small things.
    Low,
    /// The default.
    #[default]
    Standard,
    /// Large input: slow, finds small things.
    High,
}

impl Detail {
    /// The least detail at which the longer side that a model sees has so many pixels.
    pub fn of_side(side: u32) -> Self {
        match side {
            0..=320 => Self::Low,
            321..=640 => Self::Standard,
            641.. => Self::High,
        }
    }
}
