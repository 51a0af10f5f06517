use std::sync::LazyLock;

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use eyebolt_types::{
    ErrorCode, Scope,
    pipeline::{Crop, Fallback, ForEach, OnError, Pipeline, StepSpec},
};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::{
    App,
    accept::AcceptsJson,
    caller::Caller,
    json,
    openapi::{PipelineChangeErrors, PipelineCreateErrors, PipelineErrors, PipelineListErrors, ReadErrors},
    query::{InQuery, PageSize},
};
use crate::{
    ApiError,
    jobs::pipeline::{NamedPipeline, PipelinePage, Prediction},
};

/// Versions on a page where nothing is said.
const LIMIT: u32 = 20;

/// Pipelines that can be named.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct PipelineList {
    /// Always `list`.
    pub object: String,
    /// Those that are always there, then those of the project by name; each with its newest version first.
    pub data: Vec<PipelineView>,
    /// Whether there are more.
    pub has_more: bool,
    /// The `cursor` of the next page, where there is one.
    pub next_cursor: Option<String>,
}

/// A version of a pipeline.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct PipelineView {
    /// Always `pipeline`.
    pub object: String,
    /// Its name.
    pub name: String,
    /// Counts from 1. A version never changes.
    pub version: u32,
    /// Whether the name alone means this version.
    pub is_default: bool,
    /// Whether it is always there, in every project.
    pub preset: bool,
    /// SHA-256 of the pipeline as it is written, hex.
    pub digest: String,
    /// It.
    pub pipeline: Pipeline,
    /// When it was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
}

/// A pipeline to be written, or only to be checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineRequest {
    /// Its name: a small letter, then small letters, digits, `_` and `-`. Not needed with `validate_only`.
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,63}$")]
    name: Option<String>,
    /// It.
    pipeline: Pipeline,
    /// Check it and tell what it would cost, and write nothing.
    #[serde(default)]
    validate_only: bool,
}

/// What changes of a pipeline.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineChange {
    /// The version that the name alone means from now on; null: always the newest one.
    #[serde(deserialize_with = "said")]
    #[schema(minimum = 1)]
    default_version: Option<u32>,
}

/// A member that must be there, and may be null.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Option::deserialize(deserializer)
}

impl From<NamedPipeline> for PipelineView {
    fn from(named: NamedPipeline) -> Self {
        let NamedPipeline { name, version, is_default, preset, digest, pipeline, created_at } = named;
        let object = "pipeline".to_owned();
        Self { object, name, version, is_default, preset, digest, pipeline, created_at }
    }
}

type Named = Result<Path<String>, PathRejection>;

/// What a page of pipelines is made of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PipelinesQuery {
    /// Only versions of this one.
    name: Option<String>,
    /// Versions on this page.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<PageSize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which pipelines can be named?
///
/// Those of the key's project and mode, and those that are always there: every version, by name, the newest first.
#[utoipa::path(
    get, path = "/v1/pipelines", tag = "pipelines", operation_id = "listPipelines", params(PipelinesQuery),
    security(("api_key" = [])),
    responses((status = 200, description = "A page of versions.", body = PipelineList), PipelineListErrors)
)]
pub(super) async fn list_pipelines(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    query: InQuery<PipelinesQuery>,
) -> Result<Json<PipelineList>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let page = page(query?.0)?;
    let (found, has_more) = shared.jobs.pipelines(&caller, page).await?;
    let next_cursor = found.last().filter(|_| has_more).map(NamedPipeline::named);
    let data = found.into_iter().map(Into::into).collect();
    Ok(Json(PipelineList { object: "list".to_owned(), data, has_more, next_cursor }))
}

fn page(query: PipelinesQuery) -> Result<PipelinePage, ApiError> {
    let PipelinesQuery { name, limit, cursor } = query;
    let no_cursor = || ApiError::wrong_field("cursor", "is not the next_cursor of a page".to_owned());
    let after = |cursor: String| {
        let (name, version) = cursor.split_once('@')?;
        Some((name.to_owned(), version.parse().ok()?))
    };
    let after = cursor.map(|cursor| after(cursor).ok_or_else(no_cursor)).transpose()?;
    Ok(PipelinePage { name, after, limit: PageSize::or(limit, LIMIT) })
}

/// Write a pipeline down
///
/// As the next version of its name; a version never changes. The same pipeline as the newest version makes no other one, so
/// that this request can be sent again. With `validate_only` nothing is written, and the answer tells what it would cost.
#[utoipa::path(
    post, path = "/v1/pipelines", tag = "pipelines", operation_id = "createPipeline", security(("api_key" = [])),
    request_body = PipelineRequest,
    responses(
        (status = 200, description = "The newest version, which is the same; or with `validate_only` what it would cost.",
            body = PipelineOrPrediction),
        (status = 201, description = "The new version.", body = PipelineView),
        PipelineCreateErrors
    )
)]
pub(super) async fn create_pipeline(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Analyze)?;
    let PipelineRequest { name, pipeline, validate_only } = json::read(body).await?;
    if validate_only {
        return Ok(Json(shared.jobs.predict_pipeline(&pipeline)?).into_response());
    }
    let name = name.ok_or_else(|| ApiError::wrong_field("/name", "is missing".to_owned()))?;
    let (written, created) = shared.jobs.create_pipeline(&caller, (&name, &pipeline)).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(PipelineView::from(written))).into_response())
}

/// A pipeline, or with `validate_only` what it would cost.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is described alone")]
pub(super) enum PipelineOrPrediction {
    Pipeline(Box<PipelineView>),
    Prediction(Prediction),
}

/// What is this pipeline?
#[utoipa::path(
    get, path = "/v1/pipelines/{name}", tag = "pipelines", operation_id = "getPipeline",
    params(("name" = String, Path, description = "`name`, or `name@version`.")), security(("api_key" = [])),
    responses((status = 200, description = "The version that is meant.", body = PipelineView), PipelineErrors)
)]
pub(super) async fn get_pipeline(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    name: Named,
) -> Result<Json<PipelineView>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    Ok(Json(shared.jobs.pipeline(&caller, &named(name)?).await?.into()))
}

/// Say which version a name means
///
/// Jobs that were accepted keep theirs.
#[utoipa::path(
    patch, path = "/v1/pipelines/{name}", tag = "pipelines", operation_id = "updatePipeline",
    params(("name" = String, Path, description = "The name.")), security(("api_key" = [])),
    request_body = PipelineChange,
    responses((status = 200, description = "The version that the name means now.", body = PipelineView), PipelineChangeErrors)
)]
pub(super) async fn update_pipeline(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    (name, body): (Named, Body),
) -> Result<Json<PipelineView>, ApiError> {
    let (caller, name) = (caller.require(Scope::Analyze)?, named(name)?);
    let PipelineChange { default_version } = json::read(body).await?;
    Ok(Json(shared.jobs.set_default_pipeline(&caller, (&name, default_version)).await?.into()))
}

/// What may a pipeline be?
///
/// JSON Schema (2020-12) of a pipeline, for editors and generators. What a schema can't say (circles, what has a place) the
/// server tells by `validate_only`.
#[utoipa::path(
    get, path = "/v1/pipelines/schema.json", tag = "pipelines", operation_id = "getPipelineSchema",
    responses((status = 200, description = "JSON Schema.", body = Value), ReadErrors)
)]
pub(super) async fn get_schema(_: AcceptsJson) -> impl IntoResponse {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
    Json(&*SCHEMA)
}

fn schema() -> Value {
    let mut parts = vec![
        (Pipeline::name(), Pipeline::schema()),
        (StepSpec::name(), StepSpec::schema()),
        (ForEach::name(), ForEach::schema()),
        (Crop::name(), Crop::schema()),
        (OnError::name(), OnError::schema()),
        (Fallback::name(), Fallback::schema()),
    ];
    parts.push((<eyebolt_types::Feature as ToSchema>::name(), eyebolt_types::Feature::schema()));
    let parts: serde_json::Map<_, _> =
        parts.into_iter().map(|(name, part)| (name.into_owned(), json!(part))).collect();
    let text = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline of Eyebolt",
        "$ref": "#/$defs/Pipeline",
        "$defs": parts,
    });
    // The parts were written for the description of the API.
    let text = text.to_string().replace("#/components/schemas/", "#/$defs/");
    serde_json::from_str(&text).unwrap_or_default()
}

fn named(name: Named) -> Result<String, ApiError> {
    let missing = || ApiError::new(ErrorCode::PipelineNotFound, "There is no such pipeline.");
    name.map(|Path(name)| name).map_err(|_| missing())
}
