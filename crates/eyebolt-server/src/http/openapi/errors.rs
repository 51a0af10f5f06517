//! The errors of each operation, by code.

use std::collections::BTreeMap;

use eyebolt_types::{ErrorCode, ErrorCode as Code};
use serde_json::Value;
use utoipa::{
    IntoResponses,
    openapi::{
        Content, ContentBuilder, Header, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder, Schema,
        example::{Example, ExampleBuilder},
        schema::{ObjectBuilder, Type},
    },
};

use crate::http::pages;

macro_rules! error_sets {
    ($($(#[$doc:meta])* $name:ident = $($codes:expr),+;)*) => {$(
        $(#[$doc])*
        pub(in crate::http) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$(&$codes[..]),+].concat())
            }
        }
    )*};
}

error_sets! {
    /// Of every operation: the layers around it.
    AliveErrors = EDGE;
    ReadyErrors = EDGE, BUSY, STORE;
    ReadErrors = EDGE, JSON_ONLY;
    ModelErrors = EDGE, JSON_ONLY, [Code::UnknownModel];
    LookUpErrors = EDGE, JSON_ONLY, [Code::RouteNotFound];
    PageErrors = EDGE, [Code::RouteNotFound];
    AdminErrors = EDGE, JSON_ONLY, OPERATOR;
    AdminListErrors = EDGE, JSON_ONLY, OPERATOR, STORE, IN_QUERY;
    MetricsErrors = EDGE, OPERATOR, [Code::RouteNotFound];
    AdminCreateErrors = EDGE, JSON_ONLY, OPERATOR, DOCUMENT, [Code::ProjectExists];
    AdminProjectErrors = EDGE, JSON_ONLY, OPERATOR, DOCUMENT, [Code::ProjectNotFound];
    AdminReadErrors = EDGE, JSON_ONLY, OPERATOR, [Code::ProjectNotFound];
    AdminKeyErrors = EDGE, JSON_ONLY, OPERATOR, [Code::KeyNotFound];
    AdminKeyChangeErrors = EDGE, JSON_ONLY, OPERATOR, DOCUMENT, [Code::KeyNotFound];
    AdminRotateErrors = EDGE, JSON_ONLY, OPERATOR, DOCUMENT, [Code::KeyNotFound, Code::KeyOver];
    AnalyzeErrors = EDGE, JSON_ONLY, KEY, IDEMPOTENCY, STORE, BUSY, BODY, SETTINGS, IMAGE, MODEL, ENDS,
        [Code::WebhookUrlRefused, Code::WebhookLimit, Code::InvalidPipeline, Code::PipelineNotFound, Code::StepTimeout];
    JobErrors = EDGE, JSON_ONLY, KEY, STORE, IN_QUERY, [Code::JobNotFound, Code::StoredResponseCorrupt];
    JobListErrors = EDGE, JSON_ONLY, KEY, STORE, IN_QUERY;
    CancelErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::JobNotFound, Code::JobNotCancelable];
    RetryErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::JobNotFound, Code::JobNotRetryable, Code::JobRunning];
    BatchCreateErrors = EDGE, JSON_ONLY, KEY, IDEMPOTENCY, STORE, BUSY, BODY, SETTINGS, MODEL, [Code::DuplicateCustomId,
        Code::DuplicateIdempotencyKey, Code::ImageNotFound, Code::WebhookUrlRefused, Code::WebhookLimit];
    BatchListErrors = EDGE, JSON_ONLY, KEY, STORE, IN_QUERY;
    BatchErrors = EDGE, JSON_ONLY, KEY, STORE, IN_QUERY, [Code::BatchNotFound];
    BatchEventErrors = EDGE, JSON_ONLY, KEY, STORE,
        [Code::BatchNotFound, Code::InvalidParameter, Code::EventsExpired, Code::TooManyStreams];
    BatchCancelErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::BatchNotFound, Code::BatchNotCancelable];
    BatchRetryErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::BatchNotFound, Code::BatchNotRetryable];
    StepErrors = EDGE, JSON_ONLY, KEY, STORE,
        [Code::JobNotFound, Code::StepNotFound, Code::InvalidParameter, Code::StoredResponseCorrupt];
    StepRetryErrors = EDGE, JSON_ONLY, KEY, STORE, DOCUMENT, IDEMPOTENCY, BUSY, MODEL, ENDS,
        [Code::JobNotFound, Code::StepNotFound, Code::JobNotRetryable, Code::JobRunning, Code::UnknownModel, Code::StepTimeout];
    TaskRetryErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::JobNotFound, Code::StepNotFound, Code::JobNotRetryable, Code::JobRunning];
    PipelineListErrors = EDGE, JSON_ONLY, KEY, STORE, IN_QUERY;
    PipelineErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::PipelineNotFound];
    PipelineChangeErrors = EDGE, JSON_ONLY, KEY, STORE, DOCUMENT, [Code::PipelineNotFound, Code::PipelineReserved];
    PipelineCreateErrors = EDGE, JSON_ONLY, KEY, STORE, DOCUMENT, SETTINGS,
        [Code::InvalidPipeline, Code::FeatureUnavailable, Code::PipelineReserved];
    KeyErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::IdempotencyKeyInvalid];
    LimitErrors = EDGE, JSON_ONLY, KEY, STORE;
    UsageErrors = EDGE, JSON_ONLY, KEY, STORE, IN_QUERY;
    EventErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::InvalidParameter, Code::EventsExpired, Code::TooManyStreams];
    JobEventErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::InvalidParameter, Code::JobNotFound, Code::TooManyStreams];
    EndpointListErrors = EDGE, JSON_ONLY, KEY, STORE;
    EndpointErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::WebhookEndpointNotFound];
    EndpointCreateErrors = EDGE, JSON_ONLY, KEY, STORE, DOCUMENT,
        [Code::WebhookUrlRefused, Code::WebhookEndpointExists, Code::WebhookLimit];
    EndpointChangeErrors = EDGE, JSON_ONLY, KEY, STORE, DOCUMENT,
        [Code::WebhookUrlRefused, Code::WebhookEndpointExists, Code::WebhookEndpointNotFound];
    EndpointActErrors = EDGE, JSON_ONLY, KEY, STORE, [Code::WebhookEndpointNotFound, Code::WebhookEndpointOff];
    EndpointReplayErrors = EDGE, JSON_ONLY, KEY, STORE, DOCUMENT,
        [Code::WebhookEndpointNotFound, Code::WebhookEndpointOff];
    RotateErrors = EDGE, JSON_ONLY, KEY, STORE, DOCUMENT, [Code::WebhookEndpointNotFound, Code::WebhookLimit];
    RotateDefaultErrors = EDGE, JSON_ONLY, KEY, STORE, DOCUMENT, [Code::WebhookLimit];
    DeliveryListErrors = EDGE, JSON_ONLY, KEY, STORE, IN_QUERY, [Code::WebhookEndpointNotFound];
    DeliveryErrors = EDGE, JSON_ONLY, KEY, STORE,
        [Code::WebhookEndpointNotFound, Code::WebhookEndpointOff, Code::DeliveryNotFound];
}

/// What the layers around every handler refuse.
const EDGE: [ErrorCode; 5] =
    [Code::InvalidRequest, Code::HeadersTooLarge, Code::Internal, Code::ShuttingDown, Code::DeadlineExceeded];
const JSON_ONLY: [ErrorCode; 1] = [Code::NotAcceptable];
/// What stands before every operation that needs an API key.
const KEY: [ErrorCode; 8] = [
    Code::Unauthorized,
    Code::InvalidApiKey,
    Code::ExpiredApiKey,
    Code::RevokedApiKey,
    Code::InsufficientScope,
    Code::TooManyFailedAttempts,
    Code::QuotaExceeded,
    Code::QuotaExhausted,
];
/// What stands before every operation of the admin API.
const OPERATOR: [ErrorCode; 4] =
    [Code::AdminApiOff, Code::InvalidAdminToken, Code::TooManyFailedAttempts, Code::StorageUnavailable];
/// Of a small JSON body.
const DOCUMENT: [ErrorCode; 3] = [Code::InvalidJson, Code::InvalidParameter, Code::UnknownParameter];
/// Of settings in the query of a request that reads.
const IN_QUERY: [ErrorCode; 2] = [Code::InvalidParameter, Code::UnknownParameter];
const STORE: [ErrorCode; 2] = [Code::StorageUnavailable, Code::StorageFull];
const IDEMPOTENCY: [ErrorCode; 6] = [
    Code::IdempotencyKeyMissing,
    Code::IdempotencyKeyInvalid,
    Code::IdempotencyKeyInUse,
    Code::IdempotencyKeyReused,
    Code::IdempotencyKeyExpired,
    Code::StoredResponseCorrupt,
];
/// Ends of jobs that are not the image's.
const ENDS: [ErrorCode; 3] = [Code::JobCanceled, Code::JobExpired, Code::WorkerDied];
const BUSY: [ErrorCode; 3] = [Code::TemporaryReducedCapacity, Code::AbnormalUsage, Code::ModelUnavailable];
const BODY: [ErrorCode; 11] = [
    Code::InvalidJson,
    Code::InvalidMultipart,
    Code::InvalidBase64,
    Code::DigestMismatch,
    Code::MissingImage,
    Code::DuplicatePart,
    Code::UnknownPart,
    Code::UnsupportedMediaType,
    Code::PayloadTooLarge,
    Code::FileTooLarge,
    Code::RequestTimeout,
];
const SETTINGS: [ErrorCode; 6] = [
    Code::InvalidParameter,
    Code::UnknownParameter,
    Code::UnknownFeature,
    Code::UnknownModel,
    Code::ModelMismatch,
    Code::UnsupportedLanguage,
];
const IMAGE: [ErrorCode; 21] = [
    Code::EmptyFile,
    Code::UnsupportedFormat,
    Code::CorruptImage,
    Code::ImageTooLarge,
    Code::ImageTooSmall,
    Code::BadAspectRatio,
    Code::TooManyFrames,
    Code::DecompressionBomb,
    Code::TooManyMetadata,
    Code::Polyglot,
    Code::ActiveContent,
    Code::Malware,
    Code::ExtensionMismatch,
    Code::DecodeTimeout,
    Code::TooDark,
    Code::TooBright,
    Code::BlankImage,
    Code::LowContrast,
    Code::TooBlurry,
    Code::TooNoisy,
    Code::LowQuality,
];
const MODEL: [ErrorCode; 2] = [Code::FeatureUnavailable, Code::ModelFailed];

/// One response a status; it lists its codes in the header `X-Error-Code` and shows an example of each.
fn responses(codes: &[ErrorCode]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for &code in codes {
        let of_status = by_status.entry(code.row().status).or_default();
        if !of_status.contains(&code) {
            of_status.push(code);
        }
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), RefOr::T(response(&codes)))).collect()
}

fn response(codes: &[ErrorCode]) -> Response {
    let titles: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}.", code.row().title)).collect();
    let retryable = codes.iter().any(|code| code.row().retryable);
    let mut response = ResponseBuilder::new()
        .description(titles.join(" "))
        .content("application/problem+json", content(codes))
        .header("X-Error-Code", header(code_schema(codes), "The member `code` of the problem."))
        .header("X-Should-Retry", header(retry_schema(retryable), "The member `retryable` of the problem."));
    if codes.iter().any(|code| code.row().status == 401) {
        let challenge = header(text_schema("^Bearer"), "What to show (RFC 6750).");
        response = response.header("WWW-Authenticate", challenge);
    }
    if retryable {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
        response =
            response.header("Retry-After", header(seconds.into(), "Seconds to wait before the next try."));
    }
    response.build()
}

fn content(codes: &[ErrorCode]) -> Content {
    let examples = codes.iter().map(|code| (code.to_string(), RefOr::T(example(*code))));
    ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).examples_from_iter(examples).build()
}

fn example(code: ErrorCode) -> Example {
    let row = code.row();
    let value = pages::example(code).and_then(|example| serde_json::from_str(example).ok());
    ExampleBuilder::new().summary(row.title).value(value).build()
}

fn header(schema: Schema, description: &str) -> Header {
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

fn code_schema(codes: &[ErrorCode]) -> Schema {
    let codes = codes.iter().map(|code| code.as_str());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes)).into()
}

fn retry_schema(retryable: bool) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([Value::from(retryable.to_string())]))
        .into()
}

pub(super) fn text_schema(pattern: &str) -> Schema {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
}
