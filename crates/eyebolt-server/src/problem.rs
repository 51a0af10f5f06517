//! The only place where errors of the rooms become problems of the catalogue.
//!
//! What a client sent is never shown raw: names pass `shown`. What only the operator may see (paths, reasons of a
//! backend) goes to the log.

mod access;
mod capacity;
mod places;
mod quota;
mod runaway;
mod telling;

use std::{fmt, time::Duration};

use eyebolt_engine::{BackendError, EngineError, ImageError};
use eyebolt_store::StoreError;
use eyebolt_types::{
    ErrorCode, Feature, FieldError, Problem,
    result::{QualityVerdict, Verdict},
};
use serde_json::Value;

use crate::ingest::{IngestError, parts};

/// A problem on its way to the client. Boxed, so that results stay small.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    problem: Box<Problem>,
    close: bool,
    location: Option<String>,
    hold: Option<Duration>,
}

impl ApiError {
    /// A problem of this code.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// Ends the connection after the answer where the request has a body, since it will not be read to its end.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Names the address where the answer can be had: the header `Location`.
    #[must_use]
    pub fn at_location(mut self, address: String) -> Self {
        self.location = Some(address);
        self
    }

    /// Holds the answer back for so long.
    #[must_use]
    pub(crate) fn held_for(mut self, hold: Duration) -> Self {
        self.hold = Some(hold).filter(|hold| !hold.is_zero());
        self
    }

    /// For how long the answer is to be held back.
    pub(crate) fn hold(&self) -> Option<Duration> {
        self.hold
    }

    /// Where the answer can be had.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Whether the connection ends after the answer to a request with a body.
    pub fn closes(&self) -> bool {
        self.close
    }

    /// What the client is told.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// What the client is told, to be completed.
    pub fn problem_mut(&mut self) -> &mut Problem {
        &mut self.problem
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.problem.params.insert(name.to_owned(), value.into());
        self
    }

    /// Names the limit that was crossed, its value and the value found.
    fn limited(self, name: &str, limit: impl Into<Value>, found: impl Into<Value>) -> Self {
        self.with("limit_name", name).with("limit", limit).with("found", found)
    }

    /// A parameter, by name, has a value that can't be taken.
    pub(crate) fn wrong_field(name: &str, detail: String) -> Self {
        IngestError::Fields(vec![FieldError::new(name, ErrorCode::InvalidParameter, detail)]).into()
    }

    fn at(mut self, errors: Vec<FieldError>) -> Self {
        self.problem.errors = errors;
        self
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), close: false, location: None, hold: None }
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        *error.problem
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem.code, self.problem.detail)
    }
}

impl std::error::Error for ApiError {}

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> Self {
        use ErrorCode as Code;
        let refused = |code| Self::new(code, sentence(&error));
        match &error {
            ImageError::Empty => refused(Code::EmptyFile),
            ImageError::UnsupportedFormat { found } => {
                refused(Code::UnsupportedFormat).with("found", found.as_str())
            }
            ImageError::Corrupt { format, .. } | ImageError::DecoderDied { format } => {
                refused(Code::CorruptImage).with("format", format.name())
            }
            ImageError::TooManyBytes { limit, found } => {
                refused(Code::FileTooLarge).limited("max_file_bytes", *limit, *found)
            }
            ImageError::TooManyPixels { limit, width, height } => refused(Code::ImageTooLarge)
                .limited("max_pixels", *limit, width.saturating_mul(*height))
                .sides(*width, *height),
            ImageError::SideTooLong { limit, width, height } => refused(Code::ImageTooLarge)
                .limited("max_side", *limit, *width.max(height))
                .sides(*width, *height),
            ImageError::TooSmall { limit, width, height } => refused(Code::ImageTooSmall)
                .limited("min_side", *limit, *width.min(height))
                .sides(*width, *height),
            ImageError::BadAspectRatio { limit, width, height } => refused(Code::BadAspectRatio)
                .limited("max_aspect_ratio", *limit, aspect_ratio(*width, *height))
                .sides(*width, *height),
            ImageError::TooManyFrames { limit, found } => {
                refused(Code::TooManyFrames).limited("max_frames", *limit, *found)
            }
            ImageError::DecompressionBomb { what, limit, found } => {
                refused(Code::DecompressionBomb).limited(what, *limit, *found)
            }
            ImageError::TooManyMetadata { limit, found } => {
                refused(Code::TooManyMetadata).limited("max_metadata_bytes", *limit, *found)
            }
            ImageError::Polyglot { format, also } => {
                refused(Code::Polyglot).with("format", format.name()).with("also", also.as_str())
            }
            ImageError::ActiveContent { what } => refused(Code::ActiveContent).with("found", what.as_str()),
            ImageError::Malware { signature } => refused(Code::Malware).with("signature", signature.as_str()),
            ImageError::DecodeTimeout { limit_seconds } => refused(Code::DecodeTimeout)
                .with("limit_name", "max_decode_seconds")
                .with("limit", *limit_seconds),
            ImageError::OverBudget { budget, needed } => {
                refused(Code::ImageTooLarge).limited("decode_memory_bytes", *budget, *needed)
            }
        }
    }
}

impl ApiError {
    fn sides(self, width: u64, height: u64) -> Self {
        self.with("width", width).with("height", height)
    }
}

fn aspect_ratio(width: u64, height: u64) -> f64 {
    width.max(height) as f64 / width.min(height).max(1) as f64
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        Self::from(&error)
    }
}

impl From<&EngineError> for ApiError {
    fn from(error: &EngineError) -> Self {
        use ErrorCode as Code;
        match error {
            EngineError::Image(error) => error.clone().into(),
            EngineError::UnknownModel { name } => {
                let name = shown(name);
                Self::new(Code::UnknownModel, format!("There is no model {name}.")).with("name", name)
            }
            EngineError::ModelMismatch { name, task, wanted } => {
                let name = shown(name);
                let detail = format!("The model {name} answers {task}, not {wanted}.");
                Self::new(Code::ModelMismatch, detail)
                    .with("name", name)
                    .with("task", task.name())
                    .with("wanted", wanted.name())
            }
            EngineError::UnsupportedLanguage { language, model } => {
                let language = shown(language);
                Self::new(Code::UnsupportedLanguage, format!("The model {model} does not read {language}."))
                    .with("language", language)
                    .with("model", model.as_str())
            }
            EngineError::FeatureUnavailable { feature, reason } => {
                tracing::warn!(%feature, reason, "a feature was asked that is not there");
                Self::new(Code::FeatureUnavailable, format!("This server does not answer {feature}."))
                    .with("feature", feature.name())
            }
            EngineError::ModelUnavailable { model, source } => {
                of_backend(Code::ModelUnavailable, model, source, "can't be used now")
            }
            EngineError::ModelFailed { model, source } => {
                of_backend(Code::ModelFailed, model, source, "failed")
            }
            EngineError::InvalidParameter { pointer, reason } => IngestError::Fields(vec![FieldError::new(
                pointer.clone(),
                Code::InvalidParameter,
                reason.clone(),
            )])
            .into(),
            EngineError::LowQuality { verdicts } => low_quality(verdicts),
            EngineError::Canceled
            | EngineError::Died
            | EngineError::Backend(_)
            | EngineError::Decoders { .. } => {
                tracing::error!(%error, "the engine failed");
                Self::new(Code::Internal, "The engine failed before the answer was ready.")
            }
            EngineError::Stopped => {
                Self::new(Code::ShuttingDown, "The server stopped before the answer was ready.")
            }
        }
    }
}

/// Every verdict that failed; the first one gives the code.
fn low_quality(verdicts: &[QualityVerdict]) -> ApiError {
    let failed: Vec<_> = verdicts.iter().filter(|one| one.verdict == Verdict::Fail).collect();
    let code = |one: &QualityVerdict| {
        let named = ErrorCode::ALL.iter().find(|code| Some(code.as_str()) == one.code.as_deref());
        named.copied().unwrap_or(ErrorCode::LowQuality)
    };
    let said = |one: &QualityVerdict| {
        let (value, limit) = (figure(one.value.into()), figure(one.limit.into()));
        format!("{} is {value} {}, the limit is {limit}", one.measure, one.unit)
    };
    let Some(first) = failed.first() else {
        return ApiError::new(ErrorCode::LowQuality, "The image is not good enough.");
    };
    ApiError::new(code(first), format!("The image is not good enough: {}.", said(first)))
        .limited(&first.measure, first.limit, first.value)
        .at(failed.iter().map(|one| FieldError::new(one.measure.clone(), code(one), said(one))).collect())
}

/// Three digits that say something: limits differ by orders of magnitude.
fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

fn of_backend(code: ErrorCode, model: &str, source: &BackendError, what: &str) -> ApiError {
    tracing::error!(model, error = %source, "a model {what}");
    ApiError::new(code, format!("The model {model} {what}.")).with("model", model)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store refused");
        match error {
            StoreError::Full => Self::new(ErrorCode::StorageFull, "The server's disk is full."),
            StoreError::Corrupt { .. } | StoreError::Database { .. } => {
                Self::new(ErrorCode::Internal, "The server's storage gave an answer that makes no sense.")
            }
            _ => Self::new(ErrorCode::StorageUnavailable, "The database can't be reached."),
        }
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        let refused = |code| Self::new(code, sentence(&error));
        match &error {
            IngestError::UnsupportedMediaType { what, known } => {
                refused(ErrorCode::UnsupportedMediaType).with("part", *what).with("known", known.to_vec())
            }
            IngestError::Encoded => {
                refused(ErrorCode::UnsupportedMediaType).with("header", "Content-Encoding")
            }
            IngestError::NoBoundary | IngestError::Multipart { .. } => refused(ErrorCode::InvalidMultipart),
            IngestError::Json { place, line, column, .. } => {
                let field =
                    FieldError::new(place, ErrorCode::InvalidJson, format!("line {line}, column {column}"));
                refused(ErrorCode::InvalidJson).with("line", *line).with("column", *column).at(vec![field])
            }
            IngestError::Fields(fields) => of_fields(fields),
            IngestError::MissingImage => {
                refused(ErrorCode::MissingImage).with("known", vec!["image", "image_base64"])
            }
            IngestError::Twice { name } => refused(ErrorCode::DuplicatePart).with("name", name.as_str()),
            IngestError::TwoSources { first, second } => {
                refused(ErrorCode::DuplicatePart).with("name", *second).with("also", *first)
            }
            IngestError::UnknownPart { name } => {
                refused(ErrorCode::UnknownPart).with("name", name.as_str()).with("known", parts())
            }
            IngestError::FileTooLarge { limit, found } => {
                refused(ErrorCode::FileTooLarge).limited("max_file_bytes", *limit, *found)
            }
            IngestError::TooLarge { what, limit, found } => {
                refused(ErrorCode::PayloadTooLarge).limited(what, *limit, *found)
            }
            IngestError::Base64 { position } => {
                let field = FieldError::new(
                    "/image_base64",
                    ErrorCode::InvalidBase64,
                    format!("position {position}"),
                );
                refused(ErrorCode::InvalidBase64).with("position", *position).at(vec![field])
            }
            IngestError::Idle { limit, received } => refused(ErrorCode::RequestTimeout)
                .with("limit_name", "body_idle_timeout")
                .with("limit", limit.as_secs_f64())
                .with("received", *received),
            IngestError::Slow { limit, received } => refused(ErrorCode::RequestTimeout)
                .with("limit_name", "body_timeout")
                .with("limit", limit.as_secs_f64())
                .with("received", *received),
            IngestError::Query | IngestError::Broken => refused(ErrorCode::InvalidRequest),
            IngestError::DigestMismatch { declared, found } => refused(ErrorCode::DigestMismatch)
                .with("declared", declared.as_str())
                .with("found", found.as_str()),
            IngestError::NoMemory => {
                let mut busy = refused(ErrorCode::TemporaryReducedCapacity);
                busy.problem.retry_after = Some(2);
                capacity::REDUCED.clone_into(&mut busy.problem.kind);
                busy.problem.violated_policies = vec![capacity::CAPACITY.to_owned()];
                busy.with("scope", "server")
            }
        }
    }
}

/// The code of the first place stands for all; each place keeps its own.
fn of_fields(fields: &[FieldError]) -> ApiError {
    let Some(first) = fields.first() else {
        return ApiError::new(ErrorCode::InvalidParameter, "A setting is wrong.");
    };
    let place = if first.pointer.is_empty() { "The request" } else { &first.pointer };
    let others = match fields.len() {
        1 => String::new(),
        2 => " One more place is wrong.".to_owned(),
        many => format!(" {} more places are wrong.", many - 1),
    };
    let error = ApiError::new(first.code, format!("{place}: {}.{others}", first.detail)).at(fields.to_vec());
    if first.code == ErrorCode::UnknownFeature || first.pointer.ends_with("features") {
        return error.with("known", Feature::ALL.map(Feature::name).to_vec());
    }
    error
}

/// Our own message as a sentence.
fn sentence(message: &impl fmt::Display) -> String {
    let text = message.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(letters).chain(['.']).collect()
}

/// A client's word that is safe in answers, headers and logs: letters, digits and `_-./@:` of ASCII, at most 64; every
/// other character becomes `?`.
pub(crate) fn shown(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./@:".contains(c);
    text.chars().take(64).map(|c| if safe(c) { c } else { '?' }).collect()
}
