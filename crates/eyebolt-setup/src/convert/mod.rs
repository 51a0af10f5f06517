//! From the files of the packages to the files that the server loads.
//!
//! Every conversion is a pure function of its bytes and gives the same bytes on every machine (plain IEEE 754
//! operations in a fixed order), so that results can be held to pinned digests.

mod centerface;
mod characters;
mod conv_layer;
mod efficientnet;
mod labels;
mod pickle;
mod pth;
mod ssd;
mod tfjs;

pub(crate) use centerface::dynamic_shapes;
pub(crate) use characters::character_lines;
pub(crate) use efficientnet::efficientnet_lite0;
pub(crate) use labels::label_lines;
pub(crate) use ssd::{ssd_anchors, ssd_graph};

/// Why a file can't be converted: a sentence part that names the place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConvertError(pub(crate) String);

impl ConvertError {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<prost::DecodeError> for ConvertError {
    fn from(error: prost::DecodeError) -> Self {
        Self(format!("not an ONNX file: {error}"))
    }
}

impl From<serde_json::Error> for ConvertError {
    fn from(error: serde_json::Error) -> Self {
        Self(format!("not the expected JSON: {error}"))
    }
}
