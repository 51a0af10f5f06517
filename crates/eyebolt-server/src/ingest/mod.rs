//! From a request's headers and body to a [`Submission`]: the whole image in memory, every setting checked.
//!
//! The body is read completely before the engine is asked, so a slow client holds its own connection and its share of
//! the body budget, and nothing else.

mod batch;
mod body;
mod declared;
mod digest;
mod error;
mod fields;
mod json;
mod mistakes;
mod multipart;
mod request;
mod texts;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, header};

pub(crate) use self::{
    batch::{BatchBody, BatchHead, BatchItem, BatchLimits, ItemImage, ItemPlace, no_image},
    digest::DeclaredDigest,
    error::IngestError,
    fields::{FIELDS, Kind, name_of},
    json::Document,
    mistakes::of_small_json,
    texts::of_texts,
};
pub use self::{body::BodyMemory, declared::Declared};
use self::{
    body::{BodyBudget, BodyLimits, BodyReader, Intake},
    fields::Fields,
};
use eyebolt_types::AnalyzeRequest;

use crate::{ApiError, HttpSettings, analysis::Submission, config};

/// Files larger than this are hashed away from the threads that serve sockets.
const LARGE_FILE: usize = 1 << 20;

/// The parts of a multipart body, beside dotted parameters such as `objects.min_confidence`.
pub(crate) fn parts() -> Vec<&'static str> {
    let fields = FIELDS.iter().map(|(name, _)| *name).filter(|name| !name.contains('.'));
    ["image", "request"].into_iter().chain(fields).collect()
}

/// Reads requests under the limits of the server.
#[derive(Debug)]
pub(crate) struct Ingest {
    settings: Arc<HttpSettings>,
    budget: BodyBudget,
    max_file_bytes: u64,
}

/// What a request brings: headers, settings in the query, and the body.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) headers: HeaderMap,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Body,
    /// What was declared of the body.
    pub(crate) digest: Option<DeclaredDigest>,
}

/// How the image comes.
enum Form {
    Multipart { boundary: String },
    Json,
}

impl Ingest {
    pub(crate) fn new(settings: Arc<HttpSettings>, max_file_bytes: u64) -> Self {
        let budget = BodyBudget::new(settings.body_budget_bytes, settings.body_budget_timeout);
        Self { settings, budget, max_file_bytes }
    }

    /// Memory for bodies: bytes in use, and at most.
    pub(crate) fn body_memory(&self) -> (u64, u64) {
        self.budget.standing()
    }

    /// Reads one request to its end, or refuses it as early as possible. A refusal that leaves a part of the body
    /// unread closes the connection.
    pub(crate) async fn submission(&self, incoming: Incoming) -> Result<Submission, ApiError> {
        let intake = Intake::new(self.budget.clone(), &incoming.body);
        let read = self.read(incoming, &intake).await;
        read.map_err(|error| {
            let too_large = matches!(error, IngestError::TooLarge { what: "max_body_bytes", .. });
            let mut error = ApiError::from(error);
            if too_large {
                name_file_limit(&mut error, self.max_file_bytes);
            }
            if intake.is_over() { error } else { error.closing() }
        })
    }

    async fn read(&self, incoming: Incoming, intake: &Arc<Intake>) -> Result<Submission, IngestError> {
        let form = form_of(&incoming.headers)?;
        let query = Fields::of_query(incoming.query)?;
        let max_bytes = match form {
            Form::Multipart { .. } => self.max_file_bytes.saturating_add(config::BODY_OVERHEAD_BYTES),
            Form::Json => config::max_body_bytes(self.max_file_bytes),
        };
        let limits = BodyLimits {
            max_bytes,
            idle: self.settings.body_idle_timeout,
            total: self.settings.body_timeout,
        };
        let announced = announced_bytes(&incoming.headers);
        let body = BodyReader::new(incoming.body, limits, intake.clone()).compared(incoming.digest);
        body.refuse_announced(announced)?;
        let received = match form {
            Form::Multipart { boundary } => {
                multipart::read(body, boundary, multipart::Limits { file: self.max_file_bytes, announced })
                    .await?
            }
            Form::Json => json::read(body, self.max_file_bytes).await?,
        };
        let by_field = !matches!(received.settings, request::Settings::Document(..));
        let request = request::settle(received.settings, query)?;
        let memory = Some(intake.memory());
        let (bytes, declared) = (received.image, received.declared);
        Ok(Submission { sha256: digest(bytes.clone()).await, bytes, request, declared, by_field, memory })
    }
}

/// Of a body that is too large the image is nearly all: its own limit is the one to keep to.
fn name_file_limit(error: &mut ApiError, limit: u64) {
    let problem = error.problem_mut();
    problem.detail = format!("{} An image may have {limit} (max_file_bytes).", problem.detail);
    problem.params.insert("max_file_bytes".to_owned(), limit.into());
}

/// SHA-256 of the file; a large one is hashed away from the threads that serve sockets.
pub(crate) async fn digest(bytes: bytes::Bytes) -> [u8; 32] {
    let hash = |bytes: &[u8]| -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    };
    if bytes.len() <= LARGE_FILE {
        return hash(&bytes);
    }
    let hashed = tokio::task::spawn_blocking({
        let bytes = bytes.clone();
        move || hash(&bytes)
    });
    // The task can't panic; where it was cut off, the process ends.
    hashed.await.unwrap_or_else(|_| hash(&bytes))
}

fn form_of(headers: &HeaderMap) -> Result<Form, IngestError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(IngestError::Encoded);
    }
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        let boundary = multer::parse_boundary(content_type).map_err(|_| IngestError::NoBoundary)?;
        return Ok(Form::Multipart { boundary });
    }
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(Form::Json);
    }
    Err(IngestError::UnsupportedMediaType {
        what: "body",
        known: &["multipart/form-data", "application/json"],
    })
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What a body brought, before its settings are settled.
struct Received {
    image: bytes::Bytes,
    declared: Declared,
    settings: request::Settings,
}

/// The request that simple fields make, such as `("features", "objects,text")`: what the command line takes too.
///
/// # Errors
/// Where a field is unknown, named twice, or has a value outside its range.
pub(crate) fn request_of(fields: Vec<(String, String)>) -> Result<AnalyzeRequest, ApiError> {
    Ok(Fields::of_query(fields)?.into_request()?)
}

/// The same as members of a JSON document.
///
/// # Errors
/// Where a field is unknown or named twice.
pub(crate) fn members_of(
    fields: Vec<(String, String)>,
) -> Result<serde_json::Map<String, serde_json::Value>, ApiError> {
    Ok(Fields::of_query(fields)?.into_members())
}
