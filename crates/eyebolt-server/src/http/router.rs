//! Every route. They are registered through `routes!` alone, so none is missing from the description.

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use eyebolt_types::ErrorCode;
use http::{Method, StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App, admin, analyze, batch_results, batches, capacity, clients, debug, errors, events, health, jobs,
    keys, layers, limits, metrics, models, openapi, usage, webhooks,
};
use crate::ApiError;

/// Routes with their description.
pub(super) fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::preamble())
        .routes(routes!(analyze::analyze))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::get_job))
        .routes(routes!(jobs::list_steps))
        // `:cancel` and `:retry`; described in `openapi`.
        .route("/v1/jobs/{id}", post(jobs::act))
        .routes(routes!(batches::list_batches, batches::create_batch))
        .routes(routes!(batches::get_batch))
        // `:cancel` and `:retry`; described in `openapi`.
        .route("/v1/batches/{id}", post(batches::act_on_batch))
        .routes(routes!(batches::list_items))
        .routes(routes!(batch_results::stream_results))
        .routes(routes!(batch_results::stream_errors))
        .routes(routes!(batches::stream_batch_events))
        .routes(routes!(events::stream_job_events))
        .routes(routes!(events::stream_events))
        .routes(routes!(webhooks::list_endpoints, webhooks::create_endpoint))
        .routes(routes!(webhooks::get_endpoint, webhooks::update_endpoint, webhooks::delete_endpoint))
        // `:rotate-secret`, `:test` and `:replay`; described in `openapi`.
        .route("/v1/webhook-endpoints/{id}", post(webhooks::act_on_endpoint))
        .routes(routes!(webhooks::list_deliveries))
        // `:replay`; described in `openapi`.
        .route("/v1/webhook-endpoints/{id}/deliveries/{event}", post(webhooks::replay_delivery))
        .routes(routes!(webhooks::rotate_default_secret))
        .routes(routes!(keys::get_key))
        .routes(routes!(usage::get_usage))
        .routes(routes!(limits::get_limits))
        .routes(routes!(models::list_models))
        .routes(routes!(models::get_model))
        .routes(routes!(admin::list_projects, admin::create_project))
        .routes(routes!(admin::get_project, admin::update_project))
        .routes(routes!(admin::list_keys, admin::create_key))
        // `:rotate` and `:revoke`; described in `openapi`.
        .route("/admin/v1/keys/{id}", post(admin::act_on_key).patch(admin::update_key))
        .routes(routes!(capacity::get_capacity))
        .routes(routes!(clients::list_clients))
        .routes(routes!(metrics::read_metrics))
        .routes(routes!(debug::capacity_page))
        // What the page is made of.
        .route("/debug/capacity.js", get(debug::capacity_script))
        .route("/debug/capacity.css", get(debug::capacity_style))
        .routes(routes!(errors::list_errors))
        .routes(routes!(errors::get_error))
        .routes(routes!(errors::explain_error))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(openapi::describe))
}

/// Routes, answers for what is no route, and all layers around them.
pub(super) fn routes(app: &App) -> Router {
    let (routes, _) = described().split_for_parts();
    let routes = routes.fallback(not_found).method_not_allowed_fallback(not_allowed).with_state(app.clone());
    layers::around(routes, app)
}

async fn not_found() -> ApiError {
    // Whatever came with the request is not read.
    ApiError::new(
        ErrorCode::RouteNotFound,
        "There is nothing at this address; /openapi.json lists what there is.",
    )
    .closing()
}

/// The router adds the header `Allow`.
async fn not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    ApiError::new(
        ErrorCode::MethodNotAllowed,
        "The address is right, the method is not: see the header Allow.",
    )
    .closing()
    .into_response()
}
