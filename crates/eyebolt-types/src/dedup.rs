//! What is told of images that were seen before.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{UnknownName, id::JobId};

/// What happens to an image that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DedupPolicy {
    /// Nothing is looked up or remembered.
    Off,
    /// It is analysed and charged like any other, and the answer names the earlier job.
    Flag,
    /// The same file, asked the same, is answered from the earlier job, free of charge; anything else is flagged.
    Reuse,
}

impl DedupPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Flag, Self::Reuse];

    /// The name in settings and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Flag => "flag",
            Self::Reuse => "reuse",
        }
    }
}

impl FromStr for DedupPolicy {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|policy| policy.name() == name).ok_or(UnknownName)
    }
}

/// Whether the image was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dedup {
    /// What came of looking.
    pub status: DedupStatus,
    /// The oldest job that had it.
    pub of: Option<JobId>,
    /// In what the two are alike.
    pub kind: Option<DuplicateKind>,
}

impl Dedup {
    /// Nothing was looked for.
    pub fn none() -> Self {
        Self { status: DedupStatus::None, of: None, kind: None }
    }
}

/// What came of looking for an image among those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DedupStatus {
    /// Nothing was looked for.
    None,
    /// It was not seen before.
    Unique,
    /// It was seen before, and was analysed all the same.
    Duplicate,
    /// It was seen before, and the answer is that of the job that had it.
    Reused,
    /// The request asked for the image to be analysed whatever was seen before.
    Bypassed,
}

impl DedupStatus {
    const ALL: [Self; 5] = [Self::None, Self::Unique, Self::Duplicate, Self::Reused, Self::Bypassed];

    /// The name in answers and headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unique => "unique",
            Self::Duplicate => "duplicate",
            Self::Reused => "reused",
            Self::Bypassed => "bypassed",
        }
    }
}

impl FromStr for DedupStatus {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or(UnknownName)
    }
}

/// In what two images are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateKind {
    /// They are the same file.
    Bytes,
    /// They have the same pixels; encoding or metadata differ.
    Pixels,
    /// A person takes them for the same picture.
    Perceptual,
}

impl DuplicateKind {
    const ALL: [Self; 3] = [Self::Bytes, Self::Pixels, Self::Perceptual];

    /// The name in answers and headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Pixels => "pixels",
            Self::Perceptual => "perceptual",
        }
    }
}

impl FromStr for DuplicateKind {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_answers_and_read_back() {
        for status in DedupStatus::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("{:?}", status.name()));
            assert_eq!(status.name().parse(), Ok(status));
        }
        for policy in DedupPolicy::ALL {
            assert_eq!(serde_json::to_string(&policy).unwrap(), format!("{:?}", policy.name()));
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        for kind in DuplicateKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.name()));
            assert_eq!(kind.name().parse(), Ok(kind));
        }
    }
}
