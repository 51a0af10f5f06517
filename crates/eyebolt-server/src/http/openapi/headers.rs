//! The headers that make a request safe to send again, and say how long its caller waits.

use utoipa::{
    IntoParams,
    openapi::{
        Required,
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
