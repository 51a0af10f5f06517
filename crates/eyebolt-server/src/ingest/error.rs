use std::time::Duration;

use eyebolt_types::FieldError;
use thiserror::Error;

/// Why a request can't be read. Client words in here have passed `shown`.
#[derive(Debug, Error)]
pub(crate) enum IngestError {
    #[error("the {what} has a media type that is not taken")]
    UnsupportedMediaType { what: &'static str, known: &'static [&'static str] },
    #[error("the body is compressed; send it as it is, without Content-Encoding")]
    Encoded,
    #[error("the Content-Type names no boundary")]
    NoBoundary,
    #[error("the multipart body is broken: {reason}")]
    Multipart { reason: &'static str },
    #[error("the query is not a list of name=value")]
    Query,
    #[error("the JSON is broken at line {line}, column {column}: {reason}")]
    Json { place: String, line: usize, column: usize, reason: &'static str },
    #[error("settings are wrong")]
    Fields(Vec<FieldError>),
    #[error("the request carries no image")]
    MissingImage,
    #[error("the part or setting {name} came twice")]
    Twice { name: String },
    #[error("settings came in {first} and in {second}; send them in one of both")]
    TwoSources { first: &'static str, second: &'static str },
    #[error("there is no part {name}")]
    UnknownPart { name: String },
    #[error("the image has at least {found} bytes, more than {limit}")]
    FileTooLarge { limit: u64, found: u64 },
    #[error("the request has at least {found} bytes, more than {limit} ({what})")]
    TooLarge { what: &'static str, limit: u64, found: u64 },
    #[error("the member image_base64 is not base64 at position {position}")]
    Base64 { position: usize },
    #[error("nothing came for {limit:?} after {received} bytes of the body")]
    Idle { limit: Duration, received: u64 },
    #[error("the body was not complete after {limit:?}: {received} bytes had come")]
    Slow { limit: Duration, received: u64 },
    #[error("the body has the SHA-256 {found}, and was declared to have {declared}")]
    DigestMismatch { declared: String, found: String },
    #[error("the body ended before it was complete")]
    Broken,
    #[error("no memory was free for the body")]
    NoMemory,
}

impl From<multer::Error> for IngestError {
    fn from(error: multer::Error) -> Self {
        let reason = match error {
            multer::Error::StreamReadFailed(source) => {
                return source.downcast().map_or(Self::Broken, |error| *error);
            }
            multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. } => {
                "it ends before the last boundary"
            }
            multer::Error::IncompleteHeaders
            | multer::Error::ReadHeaderFailed(_)
            | multer::Error::DecodeHeaderName { .. }
            | multer::Error::DecodeHeaderValue { .. } => "the headers of a part",
            multer::Error::DecodeContentType(_) => "the Content-Type of a part",
            _ => "its framing",
        };
        Self::Multipart { reason }
    }
}
