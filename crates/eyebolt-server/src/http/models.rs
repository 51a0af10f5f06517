use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use eyebolt_engine::EngineError;

use super::{
    App,
    accept::AcceptsJson,
    openapi::{ModelErrors, ReadErrors},
};
use crate::{
    ApiError,
    analysis::{Capabilities, ModelInfo},
};

/// Which models, features and formats are there?
#[utoipa::path(
    get, path = "/v1/models", tag = "models", operation_id = "listModels",
    responses((status = 200, description = "Everything that this server can do.", body = Capabilities), ReadErrors)
)]
pub(super) async fn list_models(_: AcceptsJson, State(App(shared)): State<App>) -> Json<Capabilities> {
    Json(shared.analyzer.capabilities())
}

/// What is this model?
///
/// By snapshot (`name@version`), bare name or alias; the `/` of an alias is written `%2F`.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "models", operation_id = "getModel",
    params(("id" = String, Path, description = "Snapshot, bare name or alias.", example = "yolox-nano@1")),
    responses((status = 200, description = "The model.", body = ModelInfo), ModelErrors)
)]
pub(super) async fn get_model(
    _: AcceptsJson,
    State(App(shared)): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelInfo>, ApiError> {
    let name = id.map(|Path(id)| id).unwrap_or_default();
    let found = shared.analyzer.capabilities().data.into_iter().find(|model| model.answers_to(&name));
    found.map(Json).ok_or_else(|| EngineError::UnknownModel { name }.into())
}
