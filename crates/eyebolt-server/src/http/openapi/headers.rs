//! The headers that make a request safe to send again, say how long its caller waits, and what the answer is.

use utoipa::{
    IntoParams,
    openapi::{
        RefOr, Required,
        header::HeaderBuilder,
        path::Operation,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
    },
};

/// `Idempotency-Key`, `Repr-Digest` and `Prefer`.
pub(in crate::http) struct RetryHeaders;

impl IntoParams for RetryHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
        let prefer = ObjectBuilder::new().schema_type(Type::String);
        vec![
            header("Idempotency-Key", key)
                .description(Some(
                    "A new random value for each new request, and the same value for each retry: 1 to 255 visible \
                     ASCII characters, bare or quoted. Needed, unless the operator says otherwise.",
                ))
                .example(Some("8e03978e-40d5-43e8-bc93-6894a57f9324".into()))
                .build(),
            header("Repr-Digest", ObjectBuilder::new().schema_type(Type::String))
                .description(Some(
                    "SHA-256 of the whole body (RFC 9530). What comes is compared with it. A retry with the same body, \
                     query and key is then answered before its body is read.",
                ))
                .example(Some("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:".into()))
                .build(),
            header("Prefer", prefer)
                .description(Some(
                    "`wait=SECONDS`: how long to wait for the end. `respond-async`: answer at once with `202`. (RFC 7240)",
                ))
                .example(Some("wait=30".into()))
                .build(),
        ]
    }
}

/// Headers of a success: of which status, name, what it is.
const OF_SUCCESS: [(&str, &str, &str); 6] = [
    ("200", "Location", "The job: `/v1/jobs/{id}`."),
    (
        "200",
        "Idempotent-Replayed",
        "`true`: the answer is the one that this key got before, and nothing ran.",
    ),
    ("200", "Original-Request-Id", "With `Idempotent-Replayed`: the request that got the answer first."),
    (
        "200",
        "Dedup-Status",
        "`none`, `duplicate` or `reused`; where the image was seen before, `of` names the job that had it, and `kind` \
         says how alike they are (RFC 9651).",
    ),
    ("202", "Location", "What was accepted: where it is followed."),
    ("202", "Retry-After", "Seconds after which it is worth a look."),
];

/// Tells what an answer to a request with an `Idempotency-Key` says beside its body.
pub(super) fn describe_answers(operation: &mut Operation) {
    let mut parameters = operation.parameters.iter().flatten();
    let is_key =
        |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(own) if own.name == "Idempotency-Key");
    if !parameters.any(is_key) {
        return;
    }
    for (status, name, description) in OF_SUCCESS {
        if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
            let schema = ObjectBuilder::new().schema_type(Type::String).build();
            let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build();
            response.headers.insert(name.to_owned(), RefOr::T(header));
        }
    }
}

/// What is said of a whole batch, in the query. The settings of images may stand there too, as for `POST /v1/analyze`.
pub(in crate::http) struct BatchSettingsInQuery;

impl IntoParams for BatchSettingsInQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let of = |kind| ObjectBuilder::new().schema_type(kind);
        let query = |name: &str, schema: ObjectBuilder, said: &str| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .schema(Some(schema.build()))
                .description(Some(said))
                .build()
        };
        vec![
            query(
                "priority",
                of(Type::Integer),
                "Which of the project's batches goes first: the greater, -100 to 100.",
            ),
            query("max_failure_rate", of(Type::Number), "The part of the items that may fail, 0 to 1."),
            query("expires_in", of(Type::Integer), "Seconds that the items have, 60 to 604800."),
            query("webhook_url", of(Type::String), "Where the batch's end is told."),
            query(
                "features",
                of(Type::String),
                "What is asked of each image: words between commas. Every other simple field of `POST /v1/analyze` can be said as well.",
            ),
        ]
    }
}

/// `Last-Event-ID`.
pub(in crate::http) struct LastEventId;

impl IntoParams for LastEventId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]*$"));
        let said = "The id of the last event that was received: the stream goes on behind it.";
        vec![header("Last-Event-ID", id).description(Some(said)).example(Some("42".into())).build()]
    }
}

fn header(name: &str, schema: ObjectBuilder) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .schema(Some(schema.build()))
}
