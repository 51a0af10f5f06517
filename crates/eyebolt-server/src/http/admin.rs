//! The admin API: projects and keys, for whoever has the admin token.

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use eyebolt_store::ProjectChange;
use eyebolt_types::{
    Change, DedupPolicy, ErrorCode, LimitOverrides, Limits, Mode, Scope,
    id::{KeyId, ProjectId},
};
use http::StatusCode;
use jiff::SignedDuration;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App,
    caller::Operator,
    json,
    openapi::{
        AdminCreateErrors, AdminErrors, AdminKeyChangeErrors, AdminKeyErrors, AdminProjectErrors,
        AdminReadErrors, AdminRotateErrors,
    },
};
use crate::{
    ApiError,
    access::{
        CreatedProject, IssuedView, KeyError, KeyList, KeyOrder, KeyView, ProjectList, ProjectView, period,
    },
};

/// How long an old key works on where nothing else is said.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

type Named = Result<Path<String>, PathRejection>;

/// A project to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectRequest {
    /// 1 to 64 characters, unique.
    name: String,
    /// Of its first key; `live` where it is left out.
    mode: Option<Mode>,
}

/// What is to be changed of a project; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectChangeRequest {
    /// What happens to images that it has sent before; `null`: what the setting `dedup.policy` says.
    #[serde(default)]
    #[schema(value_type = Option<DedupPolicy>)]
    dedup_policy: Change<Option<DedupPolicy>>,
    /// The plan that its limits come from; `null`: what the setting `quotas.plan` says.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    plan: Change<Option<String>>,
    /// What it has otherwise than its plan: another limit, or `null` for none. All of them: what is left out is the plan's.
    #[serde(default)]
    #[schema(value_type = Option<LimitOverrides>)]
    limits: Change<LimitOverrides>,
}

/// A key to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyRequest {
    /// What people call it, 1 to 64 characters; `key` where it is left out.
    name: Option<String>,
    /// `live` where it is left out.
    mode: Option<Mode>,
    /// All where it is left out.
    scopes: Option<Vec<Scope>>,
    /// How long it lasts, such as `90d` or `12h`; without end where it is left out.
    expires_in: Option<String>,
    /// What it may use, beside the limits of its project; nothing where it is left out.
    limits: Option<Limits>,
}

/// What is to be changed of a key; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyChangeRequest {
    /// What it may use, beside the limits of its project. All of them: what is left out has no limit.
    limits: Option<Limits>,
}

/// How a key is rotated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RotateRequest {
    /// How long the old key works on, such as `24h`, which it is where it is left out.
    overlap: Option<String>,
}

/// Which projects are there?
#[utoipa::path(
    get, path = "/admin/v1/projects", tag = "admin", operation_id = "listProjects", security(("admin_token" = [])),
    responses((status = 200, description = "All projects.", body = ProjectList), AdminErrors)
)]
pub(super) async fn list_projects(
    _: Operator,
    State(App(shared)): State<App>,
) -> Result<Json<ProjectList>, ApiError> {
    let data = shared.access.keys().projects().await?.into_iter().map(Into::into).collect();
    Ok(Json(ProjectList { object: "list".to_owned(), data }))
}

/// Make a project
///
/// It comes with a first key. The key's secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/admin/v1/projects", tag = "admin", operation_id = "createProject",
    security(("admin_token" = [])), request_body = ProjectRequest,
    responses((status = 201, description = "The project and its first key.", body = CreatedProject), AdminCreateErrors)
)]
pub(super) async fn create_project(
    _: Operator,
    State(App(shared)): State<App>,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted: ProjectRequest = json::read(body).await?;
    let mode = wanted.mode.unwrap_or(Mode::Live);
    let (project, key) = shared.access.keys().create_project(&wanted.name, mode).await?;
    Ok(json::secret(StatusCode::CREATED, CreatedProject { project: project.into(), key: key.into() }))
}

/// What is this project?
#[utoipa::path(
    get, path = "/admin/v1/projects/{id}", tag = "admin", operation_id = "getProject",
    security(("admin_token" = [])), params(("id" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "The project.", body = ProjectView), AdminReadErrors)
)]
pub(super) async fn get_project(
    _: Operator,
    State(App(shared)): State<App>,
    id: Named,
) -> Result<Json<ProjectView>, ApiError> {
    Ok(Json(shared.access.keys().project_by_id(project_named(id)?).await?.into()))
}

/// Change a project
///
/// Servers notice within a second.
#[utoipa::path(
    patch, path = "/admin/v1/projects/{id}", tag = "admin", operation_id = "updateProject",
    security(("admin_token" = [])), params(("id" = ProjectId, Path, description = "The project.")),
    request_body = ProjectChangeRequest,
    responses((status = 200, description = "The project, changed.", body = ProjectView), AdminProjectErrors)
)]
pub(super) async fn update_project(
    _: Operator,
    State(App(shared)): State<App>,
    id: Named,
    body: Body,
) -> Result<Json<ProjectView>, ApiError> {
    let (wanted, keys): (ProjectChangeRequest, _) = (json::read(body).await?, shared.access.keys());
    let project = keys.project_by_id(project_named(id)?).await?;
    if let Change::To(Some(plan)) = &wanted.plan {
        shared.quotas.settings().check_plan(plan).map_err(|detail| ApiError::wrong_field("/plan", detail))?;
    }
    let ProjectChangeRequest { dedup_policy, plan, limits } = wanted;
    let change = ProjectChange { dedup_policy, plan, limits };
    Ok(Json(keys.change_project(project.id, change).await?.into()))
}

/// Which keys does this project have?
#[utoipa::path(
    get, path = "/admin/v1/projects/{id}/keys", tag = "admin", operation_id = "listKeys",
    security(("admin_token" = [])), params(("id" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "All keys of the project.", body = KeyList), AdminProjectErrors)
)]
pub(super) async fn list_keys(
    _: Operator,
    State(App(shared)): State<App>,
    id: Named,
) -> Result<Json<KeyList>, ApiError> {
    let keys = shared.access.keys();
    let project = keys.project_by_id(project_named(id)?).await?;
    let data = keys.list(project.id).await?.into_iter().map(Into::into).collect();
    Ok(Json(KeyList { object: "list".to_owned(), data }))
}

/// Make a key
///
/// Its secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/admin/v1/projects/{id}/keys", tag = "admin", operation_id = "createKey",
    security(("admin_token" = [])), params(("id" = ProjectId, Path, description = "The project.")),
    request_body = KeyRequest,
    responses((status = 201, description = "The key with its secret.", body = IssuedView), AdminProjectErrors)
)]
pub(super) async fn create_key(
    _: Operator,
    State(App(shared)): State<App>,
    id: Named,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted: KeyRequest = json::read(body).await?;
    let keys = shared.access.keys();
    let project = keys.project_by_id(project_named(id)?).await?;
    let mode = wanted.mode.unwrap_or(Mode::Live);
    let mut order = KeyOrder::new(mode, wanted.name.as_deref().unwrap_or("key"));
    order.lasts = wanted.expires_in.map(|text| period("expires_in", &text)).transpose()?;
    order.scopes = wanted.scopes.unwrap_or(order.scopes);
    order.limits = wanted.limits.unwrap_or_default();
    Ok(json::secret(StatusCode::CREATED, IssuedView::from(keys.create(project.id, order).await?)))
}

/// Change this key
///
/// Servers notice within a second.
#[utoipa::path(
    patch, path = "/admin/v1/keys/{id}", tag = "admin", operation_id = "updateKey",
    security(("admin_token" = [])), params(("id" = KeyId, Path, description = "The key.")),
    request_body = KeyChangeRequest,
    responses((status = 200, description = "The key, changed.", body = KeyView), AdminKeyChangeErrors)
)]
pub(super) async fn update_key(
    _: Operator,
    State(App(shared)): State<App>,
    id: Named,
    body: Body,
) -> Result<Json<KeyView>, ApiError> {
    let (wanted, keys): (KeyChangeRequest, _) = (json::read(body).await?, shared.access.keys());
    // What is no id names no key.
    let id = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or(KeyError::NoKey)?;
    let key = match wanted.limits {
        Some(limits) => keys.limit(id, limits).await?,
        None => keys.key(id).await?,
    };
    Ok(Json(key.into()))
}

/// Make a key in this one's place
///
/// The old key works on for the overlap, so that clients change over without a gap. The new one has the same scopes and
/// lasts as long as the old one was made for, and the same limits. Its secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/admin/v1/keys/{id}:rotate", tag = "admin", operation_id = "rotateKey",
    security(("admin_token" = [])), params(("id" = KeyId, Path, description = "The old key.")),
    request_body = RotateRequest,
    responses((status = 201, description = "The new key with its secret.", body = IssuedView), AdminRotateErrors)
)]
pub(super) async fn rotate_key(app: App, id: KeyId, body: Body) -> Result<Response, ApiError> {
    let wanted: RotateRequest = json::read(body).await?;
    let overlap = wanted.overlap.map_or(Ok(OVERLAP), |text| period("overlap", &text))?;
    let issued = app.0.access.keys().rotate(id, overlap).await?;
    Ok(json::secret(StatusCode::CREATED, IssuedView::from(issued)))
}

/// End this key
///
/// Servers notice within a second. A key that was revoked before stays so.
#[utoipa::path(
    post, path = "/admin/v1/keys/{id}:revoke", tag = "admin", operation_id = "revokeKey",
    security(("admin_token" = [])), params(("id" = KeyId, Path, description = "The key.")),
    responses((status = 200, description = "The key, revoked.", body = KeyView), AdminKeyErrors)
)]
pub(super) async fn revoke_key(app: App, id: KeyId) -> Result<Response, ApiError> {
    Ok(Json(KeyView::from(app.0.access.keys().revoke(id).await?)).into_response())
}

/// `POST /admin/v1/keys/{id}:rotate` and `:revoke`: the router knows whole segments alone.
pub(super) async fn act_on_key(
    _: Operator,
    State(app): State<App>,
    action: Named,
    body: Body,
) -> Result<Response, ApiError> {
    let action = action.map(|Path(action)| action).unwrap_or_default();
    let key = |id: &str| id.parse().map_err(|_| ApiError::from(KeyError::NoKey).closing());
    match action.split_once(':') {
        Some((id, "rotate")) => rotate_key(app, key(id)?, body).await,
        Some((id, "revoke")) => revoke_key(app, key(id)?).await,
        _ => {
            let detail = "A key can be sent `:rotate` and `:revoke`, as in POST /admin/v1/keys/{id}:revoke.";
            Err(ApiError::new(ErrorCode::RouteNotFound, detail).closing())
        }
    }
}

fn project_named(id: Named) -> Result<ProjectId, ApiError> {
    // What is no id names no project.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(|| KeyError::NoProject.into())
}
