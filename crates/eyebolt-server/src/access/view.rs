//! Projects and keys as operators see them, in the admin API and on the command line.

use eyebolt_store::{KeyInfo, Project};
use eyebolt_types::{
    DedupPolicy, LimitOverrides, Limits, Mode, Scope,
    id::{KeyId, ProjectId},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Issued;

/// A project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Project)]
pub struct ProjectView {
    /// Its name in ids.
    pub id: ProjectId,
    /// Always `project`.
    pub object: String,
    /// Its name among people: unique.
    pub name: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// What happens to images that it has sent before; `null`: what the setting `dedup.policy` says.
    pub dedup_policy: Option<DedupPolicy>,
    /// The plan that its limits come from; `null`: what the setting `quotas.plan` says.
    pub plan: Option<String>,
    /// What it has otherwise than its plan: another limit, or `null` for none.
    pub limits: LimitOverrides,
}

impl From<Project> for ProjectView {
    fn from(project: Project) -> Self {
        let Project { id, name, created_at, dedup_policy, plan, limits } = project;
        Self { id, object: "project".to_owned(), name, created_at, dedup_policy, plan, limits }
    }
}

/// All projects.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectList {
    /// Always `list`.
    pub object: String,
    /// By name.
    pub data: Vec<ProjectView>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct KeyView {
    /// Its name in ids.
    pub id: KeyId,
    /// Always `api_key`.
    pub object: String,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// What people call it.
    pub name: String,
    /// The last four digits of its secret.
    pub hint: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When it was last shown, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// What it may use, beside the limits of its project.
    #[serde(default)]
    pub limits: Limits,
}

impl From<KeyInfo> for KeyView {
    fn from(key: KeyInfo) -> Self {
        Self {
            id: key.id,
            object: "api_key".to_owned(),
            project: key.project,
            mode: key.mode,
            name: key.name,
            hint: key.hint,
            scopes: key.scopes,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
            limits: key.limits,
        }
    }
}

/// All keys of a project.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ApiKeyList)]
pub struct KeyList {
    /// Always `list`.
    pub object: String,
    /// Oldest first, ended ones too.
    pub data: Vec<KeyView>,
}

/// A key that was made. No `Debug`: it holds the secret.
#[derive(Serialize, ToSchema)]
#[schema(as = NewApiKey)]
pub struct IssuedView {
    /// What is known of it.
    #[serde(flatten)]
    pub key: KeyView,
    /// What clients show. It is told here and never again.
    pub secret: String,
}

impl From<Issued> for IssuedView {
    fn from(issued: Issued) -> Self {
        Self { secret: issued.secret.reveal().to_owned(), key: issued.key.into() }
    }
}

/// A project that was made, with its first key.
#[derive(Serialize, ToSchema)]
#[schema(as = NewProject)]
pub struct CreatedProject {
    /// The project.
    pub project: ProjectView,
    /// Its first key: all scopes, no end.
    pub key: IssuedView,
}
