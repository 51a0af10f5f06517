use eyebolt_types::ErrorCode;

macro_rules! pages {
    ($($name:ident $code:literal;)*) => {
        /// The page of a code, Markdown: the file of the code's name under `docs/errors/`.
        pub(super) const fn page(code: ErrorCode) -> &'static str {
            match code {
                $(ErrorCode::$name => {
                    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors/", $code, ".md"))
                })*
            }
        }
    };
}

// A code without its page does not compile.
pages! {
    EmptyFile "empty_file";
    UnsupportedFormat "unsupported_format";
    CorruptImage "corrupt_image";
    FileTooLarge "file_too_large";
    ImageTooLarge "image_too_large";
    ImageTooSmall "image_too_small";
    BadAspectRatio "bad_aspect_ratio";
    TooManyFrames "too_many_frames";
    DecompressionBomb "decompression_bomb";
    TooManyMetadata "too_many_metadata";
    Polyglot "polyglot";
    ActiveContent "active_content";
    Malware "malware";
    ExtensionMismatch "extension_mismatch";
    DecodeTimeout "decode_timeout";
    TooDark "too_dark";
    TooBright "too_bright";
    BlankImage "blank_image";
    LowContrast "low_contrast";
    TooBlurry "too_blurry";
    TooNoisy "too_noisy";
    LowQuality "low_quality";
    InvalidRequest "invalid_request";
    InvalidJson "invalid_json";
    InvalidMultipart "invalid_multipart";
    InvalidBase64 "invalid_base64";
    InvalidParameter "invalid_parameter";
    UnknownParameter "unknown_parameter";
    UnknownFeature "unknown_feature";
    InvalidPipeline "invalid_pipeline";
    StepNotFound "step_not_found";
    PipelineNotFound "pipeline_not_found";
    PipelineReserved "pipeline_reserved";
    StepTimeout "step_timeout";
    UnknownModel "unknown_model";
    ModelMismatch "model_mismatch";
    UnsupportedLanguage "unsupported_language";
    DigestMismatch "digest_mismatch";
    MissingImage "missing_image";
    DuplicatePart "duplicate_part";
    UnknownPart "unknown_part";
    UnsupportedMediaType "unsupported_media_type";
    PayloadTooLarge "payload_too_large";
    HeadersTooLarge "headers_too_large";
    RequestTimeout "request_timeout";
    RouteNotFound "route_not_found";
    MethodNotAllowed "method_not_allowed";
    NotAcceptable "not_acceptable";
    Unauthorized "unauthorized";
    InvalidApiKey "invalid_api_key";
    ExpiredApiKey "expired_api_key";
    RevokedApiKey "revoked_api_key";
    InsufficientScope "insufficient_scope";
    TooManyFailedAttempts "too_many_failed_attempts";
    InvalidAdminToken "invalid_admin_token";
    AdminApiOff "admin_api_off";
    ProjectExists "project_exists";
    ProjectNotFound "project_not_found";
    KeyNotFound "key_not_found";
    KeyOver "key_over";
    QuotaExceeded "quota_exceeded";
    QuotaExhausted "quota_exhausted";
    AbnormalUsage "abnormal_usage";
    IdempotencyKeyMissing "idempotency_key_missing";
    IdempotencyKeyInvalid "idempotency_key_invalid";
    IdempotencyKeyInUse "idempotency_key_in_use";
    IdempotencyKeyReused "idempotency_key_reused";
    IdempotencyKeyExpired "idempotency_key_expired";
    JobNotFound "job_not_found";
    JobNotCancelable "job_not_cancelable";
    JobNotRetryable "job_not_retryable";
    JobRunning "job_running";
    JobCanceled "job_canceled";
    JobExpired "job_expired";
    WorkerDied "worker_died";
    StorageUnavailable "storage_unavailable";
    StorageFull "storage_full";
    StoredResponseCorrupt "stored_response_corrupt";
    TemporaryReducedCapacity "temporary_reduced_capacity";
    ShuttingDown "shutting_down";
    DeadlineExceeded "deadline_exceeded";
    ModelUnavailable "model_unavailable";
    FeatureUnavailable "feature_unavailable";
    ModelFailed "model_failed";
    BatchNotFound "batch_not_found";
    BatchNotCancelable "batch_not_cancelable";
    BatchNotRetryable "batch_not_retryable";
    DuplicateCustomId "duplicate_custom_id";
    DuplicateIdempotencyKey "duplicate_idempotency_key";
    ImageNotFound "image_not_found";
    TooManyStreams "too_many_streams";
    EventsExpired "events_expired";
    WebhookEndpointNotFound "webhook_endpoint_not_found";
    WebhookEndpointExists "webhook_endpoint_exists";
    WebhookEndpointOff "webhook_endpoint_off";
    WebhookLimit "webhook_limit";
    WebhookUrlRefused "webhook_url_refused";
    DeliveryNotFound "delivery_not_found";
    Internal "internal";
}

/// The example on a page: the problem as a client sees it.
pub(super) fn example(code: ErrorCode) -> Option<&'static str> {
    let (_, after) = page(code).split_once("```json\n")?;
    Some(after.split_once("\n```")?.0)
}
