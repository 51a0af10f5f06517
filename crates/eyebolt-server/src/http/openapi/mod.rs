//! The description of the API. What the attributes of the handlers can't say is put together here: the errors of each
//! operation, the simple fields and both forms of the body.

mod body;
mod errors;
mod fields;
mod headers;

use std::{collections::BTreeMap, sync::LazyLock};

use axum::response::IntoResponse;
use eyebolt_types::Problem;
use http::header;
use utoipa::{
    OpenApi,
    openapi::{
        HeaderBuilder, OpenApi as Document, RefOr, Response,
        path::{Operation, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

pub(super) use self::{
    errors::{
        AdminCreateErrors, AdminErrors, AdminKeyChangeErrors, AdminKeyErrors, AdminListErrors,
        AdminProjectErrors, AdminReadErrors, AdminRotateErrors, AliveErrors, AnalyzeErrors,
        BatchCancelErrors, BatchCreateErrors, BatchErrors, BatchEventErrors, BatchListErrors,
        BatchRetryErrors, CancelErrors, DeliveryErrors, DeliveryListErrors, EndpointActErrors,
        EndpointChangeErrors, EndpointCreateErrors, EndpointErrors, EndpointListErrors, EndpointReplayErrors,
        EventErrors, JobErrors, JobEventErrors, JobListErrors, KeyErrors, LimitErrors, LookUpErrors,
        MetricsErrors, ModelErrors, PageErrors, PipelineChangeErrors, PipelineCreateErrors, PipelineErrors,
        PipelineListErrors, ReadErrors, ReadyErrors, RetryErrors, RotateDefaultErrors, RotateErrors,
        StepErrors, StepRetryErrors, TaskRetryErrors, UsageErrors,
    },
    fields::SimpleFields,
    headers::{BatchSettingsInQuery, LastEventId, RetryHeaders},
};
use super::{accept::AcceptsJson, admin, batches, jobs, router, steps, webhooks};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Eyebolt",
        description = "Computer vision over HTTP: objects, faces, text, bar codes, labels, embeddings and quality of \
                       one image. Every answer carries `X-Request-Id`; every error is a problem (RFC 9457) whose \
                       `code` is a row of `/v1/errors`, and says whether the same request can succeed later.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "This server.")),
    tags(
        (name = "analysis", description = "What is in an image."),
        (name = "jobs", description = "Where work stands, what it cost, and what to do about it."),
        (name = "batches", description = "Many images under one name."),
        (name = "events", description = "What happens, as it happens."),
        (name = "webhooks", description = "What happens, sent to you: Standard Webhooks 1.0."),
        (name = "pipelines", description = "Several steps on one image, by name."),
        (name = "models", description = "What this server can do."),
        (name = "admin", description = "Projects and keys, for the operator."),
        (name = "errors", description = "What can go wrong, and what to do."),
        (name = "operations", description = "For supervisors, load balancers and tools."),
    ),
    // The router knows whole segments of a path alone, so these are not among its routes.
    paths(
        admin::update_key, admin::rotate_key, admin::revoke_key, jobs::cancel_job, jobs::retry_job,
        steps::retry_step, steps::retry_task, batches::cancel_batch, batches::retry_batch,
        webhooks::rotate_secret, webhooks::test_endpoint, webhooks::replay, webhooks::replay_delivery
    ),
    components(schemas(Problem)),
)]
struct Preamble;

/// The description before any route is in it.
pub(super) fn preamble() -> Document {
    Preamble::openapi()
}

/// The whole description, OpenAPI 3.1.
pub fn document() -> Document {
    let mut document = router::described().into_openapi();
    body::describe(&mut document);
    if let Some(components) = &mut document.components {
        components.add_security_scheme("api_key", bearer("An API key, `eb_live_…` or `eb_test_…`."));
        components.add_security_scheme("admin_token", bearer("The setting `access.admin_token`."));
    }
    for path in document.paths.paths.values_mut() {
        for operation in operations(path) {
            headers::describe_answers(operation);
            add_request_id(&mut operation.responses.responses);
        }
    }
    document
}

fn bearer(description: &str) -> SecurityScheme {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
    SecurityScheme::Http(scheme.build())
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete].into_iter().filter_map(Option::as_mut)
}

fn add_request_id(responses: &mut BTreeMap<String, RefOr<Response>>) {
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            let header = HeaderBuilder::new()
                .schema(Some(errors::text_schema("^req_[0-9a-f]{32}$")))
                .description(Some("Names this request, here and in the server's log."))
                .build();
            response.headers.insert("X-Request-Id".to_owned(), RefOr::T(header));
        }
    }
}

/// This description
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations", operation_id = "describe",
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value), ReadErrors)
)]
pub(super) async fn describe(_: AcceptsJson) -> impl IntoResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| serde_json::to_string(&document()).unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}
