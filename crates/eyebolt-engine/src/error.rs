use eyebolt_types::ImageFormat;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why an image is refused. Carries numbers and words of our own, never bytes of the file.
///
/// Serialisable, since it crosses from a decoder process into the server.
#[derive(Debug, Clone, PartialEq, Error, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the messages and field names say it")]
pub enum ImageError {
    #[error("the file is empty")]
    Empty,
    #[error("the file is {found}, which is not taken")]
    UnsupportedFormat { found: String },
    #[error("the {format} is broken: {what}")]
    Corrupt { format: ImageFormat, what: String },
    #[error("the file has {found} bytes, more than {limit}")]
    TooManyBytes { limit: u64, found: u64 },
    #[error("the image has {width} × {height} pixels, more than {limit}")]
    TooManyPixels { limit: u64, width: u64, height: u64 },
    #[error("the image has {width} × {height} pixels, a side longer than {limit}")]
    SideTooLong { limit: u32, width: u64, height: u64 },
    #[error("the image has {width} × {height} pixels, a side shorter than {limit}")]
    TooSmall { limit: u32, width: u64, height: u64 },
    #[error("the image has {width} × {height} pixels, sides that differ by more than {limit} : 1")]
    BadAspectRatio { limit: f32, width: u64, height: u64 },
    #[error("the image has {found} frames, more than {limit}")]
    TooManyFrames { limit: u64, found: u64 },
    #[error("the file expands to {found} {what}, more than {limit}")]
    DecompressionBomb { what: String, limit: u64, found: u64 },
    #[error("the file carries {found} bytes of metadata, more than {limit}")]
    TooManyMetadata { limit: u64, found: u64 },
    #[error("the {format} is also {also}")]
    Polyglot { format: ImageFormat, also: String },
    #[error("the file carries {what}")]
    ActiveContent { what: String },
    #[error("the file carries the signature {signature}")]
    Malware { signature: String },
    #[error("decoding took longer than {limit_seconds} s")]
    DecodeTimeout { limit_seconds: u32 },
    #[error("decoding needs {needed} bytes of memory, more than the whole budget of {budget}")]
    OverBudget { budget: u64, needed: u64 },
    #[error("the decoder stopped abnormally on this {format}")]
    DecoderDied { format: ImageFormat },
}

/// Why a model can't be loaded or run.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages and field names say it")]
pub enum BackendError {
    #[error("{backend}: the runtime library can't be loaded: {reason}")]
    Library { backend: &'static str, reason: String },
    #[error("{backend}: the model can't be loaded: {reason}")]
    Load { backend: &'static str, reason: String },
    #[error("{backend}: the model failed: {reason}")]
    Run { backend: &'static str, reason: String },
    #[error("the model's outputs don't fit its manifest: {reason}")]
    Outputs { reason: String },
}

/// Why a step has no answer.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages and field names say it")]
pub enum EngineError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("there is no model {name:?}")]
    UnknownModel { name: String },
    #[error("the model {name} answers {task}, not {wanted}")]
    ModelMismatch { name: String, task: eyebolt_types::Feature, wanted: eyebolt_types::Feature },
    #[error("no model reads {language:?}")]
    UnsupportedLanguage { language: String, model: String },
    #[error("{feature} is not available: {reason}")]
    FeatureUnavailable { feature: eyebolt_types::Feature, reason: String },
    #[error("the model {model} can't be used: {source}")]
    ModelUnavailable { model: String, source: BackendError },
    #[error("the model {model} failed: {source}")]
    ModelFailed { model: String, source: BackendError },
    #[error("the parameter {pointer} is wrong: {reason}")]
    InvalidParameter { pointer: String, reason: String },
    #[error("the image is not good enough")]
    LowQuality { verdicts: Vec<eyebolt_types::result::QualityVerdict> },
    #[error(transparent)]
    Backend(BackendError),
    #[error("no decoder process can be started: {reason}")]
    Decoders { reason: String },
    #[error("nobody waits for the answer any more")]
    Canceled,
    #[error("the work was lost to a panic")]
    Died,
    #[error("the engine is shutting down")]
    Stopped,
}
