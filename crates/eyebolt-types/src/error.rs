//! The error catalogue: one row a code. From it come the problem bodies, `GET /v1/errors`, the pages under
//! `docs/errors/` and the OpenAPI description; a test holds them together.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The program that called: the request is wrong.
    Client,
    /// Whoever supplied the image: the request is right, the image is not.
    Image,
    /// The operator or Eyebolt itself.
    Server,
}

/// What the catalogue knows of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Row {
    /// The machine's name; never changes its meaning.
    pub code: ErrorCode,
    /// The HTTP status.
    pub status: u16,
    /// Who has to act.
    pub fault: Fault,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// The same for each problem of this code.
    pub title: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! catalogue {
    // A code is a `tt`: a `literal` would come to the derived schema wrapped up, which takes the variant's name instead.
    ($($name:ident $code:tt $status:literal $fault:ident $retry:ident $title:literal $remedy:literal;)*) => {
        /// The machine's name for what went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        pub enum ErrorCode {
            $(#[doc = $title] #[serde(rename = $code)] $name,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What the catalogue knows of it.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        code: self,
                        status: $status,
                        fault: Fault::$fault,
                        retryable: catalogue!(@$retry),
                        title: $title,
                        remedy: $remedy,
                    },)*
                }
            }

            /// The code as text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
    (@retry) => { true };
    (@never) => { false };
}

catalogue! {
    // The image.
    EmptyFile "empty_file" 422 Image never "The image has no bytes"
        "Send the file's bytes; an upload that was cut off at the start looks like this.";
    UnsupportedFormat "unsupported_format" 415 Image never "Not an image format that is taken"
        "Convert to JPEG, PNG, WebP, GIF, TIFF, BMP, PNM, QOI or ICO; GET /v1/models lists the formats of this server.";
    CorruptImage "corrupt_image" 422 Image never "The image is broken"
        "Send the original again; a truncated upload or a damaged file can't be decoded.";
    FileTooLarge "file_too_large" 413 Image never "The file is larger than the limit"
        "Scale or compress the image below max_file_bytes.";
    ImageTooLarge "image_too_large" 422 Image never "The image has too many pixels"
        "Scale it below max_pixels and max_side.";
    ImageTooSmall "image_too_small" 422 Image never "The image is too small to see anything in it"
        "Send an image whose shorter side is at least min_side pixels.";
    BadAspectRatio "bad_aspect_ratio" 422 Image never "The image is too long and thin"
        "Cut it into pieces whose sides differ at most by max_aspect_ratio.";
    TooManyFrames "too_many_frames" 422 Image never "The animation has too many frames"
        "Send fewer frames or pages than max_frames.";
    DecompressionBomb "decompression_bomb" 422 Image never "The file expands far beyond its size"
        "Encode the image again with ordinary settings.";
    TooManyMetadata "too_many_metadata" 422 Image never "The image carries too much metadata"
        "Strip EXIF, XMP, ICC and text below max_metadata_bytes.";
    Polyglot "polyglot" 422 Image never "The file is also a valid file of another, active kind"
        "Encode the image again, so that nothing but pixels is left.";
    ActiveContent "active_content" 422 Image never "The file carries script or markup that a browser would run"
        "Encode the image again without metadata.";
    Malware "malware" 422 Image never "The file carries a malware signature"
        "Check where the file comes from; encode the image again if you trust it.";
    ExtensionMismatch "extension_mismatch" 422 Image never "Content and name disagree"
        "Name the file after its content, or let the server take mismatches with a warning.";
    DecodeTimeout "decode_timeout" 422 Image never "Decoding took too long"
        "Scale the image down or encode it again.";
    TooDark "too_dark" 422 Image never "The image is too dark"
        "Take it again with more light, or send quality_gate=warn.";
    TooBright "too_bright" 422 Image never "The image is overexposed"
        "Take it again with less light, or send quality_gate=warn.";
    BlankImage "blank_image" 422 Image never "The image shows nothing"
        "Check the camera or the export, or send quality_gate=warn.";
    LowContrast "low_contrast" 422 Image never "The image has hardly any contrast"
        "Take it again, or send quality_gate=warn.";
    TooBlurry "too_blurry" 422 Image never "The image is too blurred"
        "Hold the camera still and focus, or send quality_gate=warn.";
    TooNoisy "too_noisy" 422 Image never "The image is mostly noise"
        "Take it again with more light, or send quality_gate=warn.";
    LowQuality "low_quality" 422 Image never "The image is compressed or pixelated beyond use"
        "Send the original instead of a thumbnail, or send quality_gate=warn.";

    // The request.
    InvalidRequest "invalid_request" 400 Client never "The request is not HTTP as this server understands it"
        "Check the request line, headers and encoding.";
    InvalidJson "invalid_json" 400 Client never "The JSON can't be read"
        "errors[].pointer names the place; the description is at /openapi.json.";
    InvalidMultipart "invalid_multipart" 400 Client never "The multipart body can't be read"
        "Let an HTTP library build the body, and send its Content-Type with the boundary.";
    InvalidBase64 "invalid_base64" 400 Client never "The base64 of the image can't be read"
        "Use the standard alphabet of RFC 4648 with padding, without line breaks.";
    InvalidParameter "invalid_parameter" 400 Client never "A parameter has a value outside its range"
        "errors[] names each parameter, its range and the value found.";
    UnknownParameter "unknown_parameter" 400 Client never "A parameter has a name that is not known"
        "errors[] names it; check the spelling against /openapi.json.";
    UnknownFeature "unknown_feature" 400 Client never "A feature has a name that is not known"
        "params.known lists the features.";
    InvalidPipeline "invalid_pipeline" 400 Client never "The pipeline can't be run"
        "errors[] names each place; docs/pipelines.md says what a step may have, and validate_only tells without doing.";
    UnknownModel "unknown_model" 404 Client never "There is no model of this name"
        "GET /v1/models lists the models and their aliases.";
    ModelMismatch "model_mismatch" 422 Client never "The model does another task"
        "Name a model whose task is the feature; GET /v1/models lists them.";
    UnsupportedLanguage "unsupported_language" 422 Client never "No model reads this language"
        "GET /v1/models lists the languages of each text model.";
    DigestMismatch "digest_mismatch" 400 Client never "The body is not the one that was declared"
        "Compute Repr-Digest over the bytes that are sent, boundary included; or a proxy changed them.";
    MissingImage "missing_image" 400 Client never "The request carries no image"
        "Send a part named image, or image_base64 in JSON.";
    DuplicatePart "duplicate_part" 400 Client never "A part was sent twice"
        "Send one image a request, and each setting once.";
    UnknownPart "unknown_part" 400 Client never "A part has a name that is not known"
        "params.known lists the parts.";
    UnsupportedMediaType "unsupported_media_type" 415 Client never "The body has a media type that is not taken"
        "Send multipart/form-data or application/json.";
    PayloadTooLarge "payload_too_large" 413 Client never "The request body is larger than the limit"
        "Send a smaller body; params.limit says how small.";
    HeadersTooLarge "headers_too_large" 431 Client never "The request headers are larger than the limit"
        "Send fewer or shorter headers.";
    RequestTimeout "request_timeout" 408 Client retry "The request came too slowly"
        "Send it again over a better line, or scale the image down first.";
    RouteNotFound "route_not_found" 404 Client never "There is nothing at this address"
        "Check the path against /openapi.json.";
    MethodNotAllowed "method_not_allowed" 405 Client never "The address does not take this method"
        "The Allow header lists the methods.";
    NotAcceptable "not_acceptable" 406 Client never "No answer in a media type that the request accepts"
        "Accept application/json.";

    // Who asks.
    Unauthorized "unauthorized" 401 Client never "The request carries no API key"
        "Send the header Authorization: Bearer and the key.";
    InvalidApiKey "invalid_api_key" 401 Client never "The API key is not known"
        "Compare the key with the one that was given out; eyebolt key create makes a new one.";
    ExpiredApiKey "expired_api_key" 401 Client never "The API key's time is over"
        "Ask the operator for a new key; eyebolt key rotate makes one ahead of time.";
    RevokedApiKey "revoked_api_key" 401 Client never "The API key was revoked"
        "Ask the operator for a new key, and why this one was revoked.";
    InsufficientScope "insufficient_scope" 403 Client never "The API key may not do this"
        "Use a key with the scope that params.needed names.";
    TooManyFailedAttempts "too_many_failed_attempts" 429 Client retry "Too many requests with a wrong key came from this address"
        "Wait retry_after seconds, and send the right key then.";
    InvalidAdminToken "invalid_admin_token" 401 Client never "The admin token is missing or wrong"
        "Send the header Authorization: Bearer and the setting access.admin_token of this server.";
    AdminApiOff "admin_api_off" 404 Client never "The admin API is off"
        "Set access.admin_token, or use eyebolt project and eyebolt key on the server.";
    ProjectExists "project_exists" 409 Client never "There is a project of this name already"
        "Choose another name, or use the project that is there.";
    ProjectNotFound "project_not_found" 404 Client never "There is no such project"
        "GET /admin/v1/projects lists the projects.";
    KeyNotFound "key_not_found" 404 Client never "There is no such API key"
        "GET /admin/v1/projects/{id}/keys lists the keys of a project.";
    KeyOver "key_over" 409 Client never "The API key has ended already"
        "Make a new key; one that has ended can't be rotated.";

    // What was agreed.
    QuotaExceeded "quota_exceeded" 429 Client retry "A limit of the project is used up for the moment"
        "Wait retry_after seconds, and send fewer requests at once; GET /v1/limits shows every limit and what is left of it.";
    QuotaExhausted "quota_exhausted" 429 Client never "A limit of the project is used up for a long time"
        "Stop sending; params.resets_at says when there is room again. Ask the operator for a larger limit if you need it sooner.";

    AbnormalUsage "abnormal_usage" 429 Client retry "The client does not heed what it was answered"
        "Stop the loop, and wait retry_after seconds; a minute of good behaviour and nothing is held against the client.";

    // Retrying.
    IdempotencyKeyMissing "idempotency_key_missing" 400 Client never "The request needs an idempotency key"
        "Send the header Idempotency-Key with a new random value for each new request, and the same value for each retry.";
    IdempotencyKeyInvalid "idempotency_key_invalid" 400 Client never "The idempotency key is malformed"
        "Send 1 to 255 visible ASCII characters, once; a random UUID is a good key.";
    IdempotencyKeyInUse "idempotency_key_in_use" 409 Client retry "The first request with this key is still running"
        "Send the same request again after retry_after seconds, or follow the job in the header Location.";
    IdempotencyKeyReused "idempotency_key_reused" 422 Client never "The idempotency key was used for another request"
        "Send a new key with a new request; the key of a request never changes its meaning.";
    IdempotencyKeyExpired "idempotency_key_expired" 410 Client never "The answer to this key is no longer kept"
        "Look the job up by its id, or send a new key to run the request anew.";

    // Jobs.
    JobNotFound "job_not_found" 404 Client never "There is no such job"
        "Check the id; a job is visible to the keys of its project and mode alone.";
    JobNotCancelable "job_not_cancelable" 422 Client never "The job has ended already"
        "Nothing needs to be done: an ended job never changes.";
    JobNotRetryable "job_not_retryable" 422 Client never "The job can't be run again"
        "Send the request with a new idempotency key; only a job that failed for a passing reason can be retried, until its retryable_until.";
    JobRunning "job_running" 409 Client retry "The job has not ended"
        "Ask again once it has ended: GET /v1/jobs/{id}?wait=30 waits for that.";
    StepNotFound "step_not_found" 404 Client never "The job has no such step or part"
        "GET /v1/jobs/{id}/steps lists the steps of a job with their parts.";
    PipelineNotFound "pipeline_not_found" 404 Client never "There is no such pipeline"
        "GET /v1/pipelines lists the pipelines of the key's project and mode, and those that are always there.";
    PipelineReserved "pipeline_reserved" 409 Client never "The name belongs to a pipeline that is always there"
        "Choose another name; GET /v1/pipelines lists those that are taken.";
    JobCanceled "job_canceled" 410 Client never "The job was canceled"
        "Send the request with a new idempotency key to run it anew.";
    JobExpired "job_expired" 410 Client never "The job was not finished before its deadline"
        "Send the request with a new idempotency key; if it happens again, ask the operator about the load.";
    WorkerDied "worker_died" 422 Image never "The image ended the worker three times"
        "Encode the image again; report it with the job's id, since no image should be able to do this.";

    // Batches.
    BatchNotFound "batch_not_found" 404 Client never "There is no such batch"
        "Check the id; a batch is visible to the keys of its project and mode alone.";
    BatchNotCancelable "batch_not_cancelable" 422 Client never "The batch has ended already"
        "Nothing needs to be done: every item of it has ended.";
    BatchNotRetryable "batch_not_retryable" 422 Client never "No item of the batch can be run again"
        "Only items that failed for a passing reason can be run again; the errors of the batch say until when.";
    DuplicateCustomId "duplicate_custom_id" 422 Client never "Two items of the batch have the same name"
        "Give each item a name of its own; params.first and params.second say where both are.";
    DuplicateIdempotencyKey "duplicate_idempotency_key" 422 Client never "Two items of the batch have the same idempotency key"
        "Give each item a key of its own, or none; params.first and params.second say where both are.";
    ImageNotFound "image_not_found" 404 Client never "There is no such image"
        "Send the image itself; one is kept for a time after the last job that it was sent with, and is visible to its project and mode alone.";

    // Being told.
    TooManyStreams "too_many_streams" 429 Client retry "Too many streams of events are open"
        "Close streams that nobody reads, and open one for the project instead of one for each job.";
    EventsExpired "events_expired" 410 Client never "Events after this one are no longer kept"
        "Read what the jobs became by GET /v1/jobs, and open the stream without Last-Event-ID.";
    WebhookEndpointNotFound "webhook_endpoint_not_found" 404 Client never "There is no such webhook endpoint"
        "GET /v1/webhook-endpoints lists the endpoints of the key's project and mode.";
    WebhookEndpointExists "webhook_endpoint_exists" 409 Client never "There is a webhook endpoint of this address already"
        "Use the endpoint that params.webhook_endpoint names; if its secret was lost, rotate it.";
    WebhookEndpointOff "webhook_endpoint_off" 409 Client never "The webhook endpoint is switched off"
        "Switch it on by PATCH with enabled: true, then try again.";
    WebhookLimit "webhook_limit" 409 Client never "The project has as many of these as it may"
        "Remove an endpoint that is no longer needed, or wait until an old secret has ended.";
    WebhookUrlRefused "webhook_url_refused" 422 Client never "Messages can't be sent to this address"
        "Name an https address of a host on the internet; the operator can allow others (outbound.allow).";
    DeliveryNotFound "delivery_not_found" 404 Client never "There is no such delivery"
        "GET /v1/webhook-endpoints/{id}/deliveries lists what was and is to be delivered.";

    // The server.
    StorageUnavailable "storage_unavailable" 503 Server retry "The database can't be reached"
        "Send the same request again after retry_after seconds; nothing was done, or the key will tell.";
    StorageFull "storage_full" 503 Server retry "The server's disk is full"
        "Nothing was done: send the same request again once the operator has made room.";
    StoredResponseCorrupt "stored_response_corrupt" 500 Server retry "A stored answer can't be read any more"
        "Nothing was run again; report it with the request id, and send a new key to run the request anew.";
    TemporaryReducedCapacity "temporary_reduced_capacity" 503 Server retry "The server is busy"
        "Send the same request again after retry_after seconds.";
    ShuttingDown "shutting_down" 503 Server retry "The server is about to stop"
        "Send the same request again after retry_after seconds.";
    DeadlineExceeded "deadline_exceeded" 504 Server retry "The answer was not ready in time"
        "Ask fewer features or a lower detail, or send the same request again.";
    StepTimeout "step_timeout" 504 Server retry "A step of the pipeline took longer than it may"
        "Give the step a longer timeout, a lower detail or smaller parts; then run again what failed.";
    ModelUnavailable "model_unavailable" 503 Server retry "The model can't be used now"
        "It may still be loading; if it stays so, run eyebolt doctor on the server.";
    FeatureUnavailable "feature_unavailable" 501 Server never "This server was built or set up without the feature"
        "GET /v1/models lists what there is; run eyebolt setup on the server.";
    ModelFailed "model_failed" 500 Server retry "The model failed on this image"
        "Send the same request again; if it fails again, report it with the request id.";
    Internal "internal" 500 Server retry "Something went wrong inside the server"
        "Send the same request again; if it fails again, report it with the request id.";
}

impl ErrorCode {
    /// Where the code is explained, relative to the server: the member `type` of a problem.
    pub fn doc_path(self) -> String {
        format!("/docs/errors/{}", self.as_str())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_to_the_status_map() {
        for code in ErrorCode::ALL {
            let row = code.row();
            assert_eq!(row.fault == Fault::Server, row.status >= 500, "{code}: whose fault");
            // Of conflicts, those pass by themselves where something still runs.
            let passes = matches!(row.status, 408 | 429 | 500 | 502..=504);
            // One that lasts for hours is a sign to stop.
            let passes = passes && *code != ErrorCode::QuotaExhausted;
            if passes || matches!(code, ErrorCode::IdempotencyKeyInUse | ErrorCode::JobRunning) {
                assert!(row.retryable, "{code}: {} can be retried", row.status);
            } else {
                assert!(!row.retryable, "{code}: {} is final", row.status);
            }
            assert!(row.remedy.ends_with('.') && !row.title.ends_with('.'), "{code}: punctuation");
        }
    }

    #[test]
    fn codes_are_snake_case_and_unique() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert!(names.iter().all(|name| {
            name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
        }));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }
}
