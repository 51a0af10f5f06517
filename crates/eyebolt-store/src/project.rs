use eyebolt_types::{Change, DedupPolicy, LimitOverrides, id::ProjectId};
use jiff::Timestamp;

use crate::{Store, StoreError, cap, database::Row, times};

/// A customer of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name in ids.
    pub id: ProjectId,
    /// Its name among people: unique.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What happens to an image that it has sent before; none: as the server's settings say.
    pub dedup_policy: Option<DedupPolicy>,
    /// The plan that its limits come from; none: as the server's settings say.
    pub plan: Option<String>,
    /// What it has otherwise than its plan.
    pub limits: LimitOverrides,
}

/// What is to be changed of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectChange {
    /// [`Project::dedup_policy`].
    pub dedup_policy: Change<Option<DedupPolicy>>,
    /// [`Project::plan`].
    pub plan: Change<Option<String>>,
    /// [`Project::limits`], all of them.
    pub limits: Change<LimitOverrides>,
}

const INSERT: &str =
    "INSERT INTO projects (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
const BY_NAME: &str = "SELECT id, name, created_at, dedup_policy, plan, limits FROM projects WHERE name = $1";
const BY_ID: &str = "SELECT id, name, created_at, dedup_policy, plan, limits FROM projects WHERE id = $1";
const ALL: &str = "SELECT id, name, created_at, dedup_policy, plan, limits FROM projects ORDER BY name";
const CHANGE: &str = "UPDATE projects SET dedup_policy = $2, plan = $3, limits = $4 WHERE id = $1";

impl Store {
    /// Makes a project. `None` where the name is taken.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_project(&self, name: &str, now: Timestamp) -> Result<Option<Project>, StoreError> {
        let project = Project {
            id: ProjectId::new(),
            name: name.to_owned(),
            created_at: now,
            dedup_policy: None,
            plan: None,
            limits: LimitOverrides::default(),
        };
        self.database
            .write(move |transaction| {
                let row =
                    [project.id.to_string().into(), project.name.as_str().into(), times::micros(now).into()];
                Ok((transaction.execute(INSERT, &row)? == 1).then(|| project.clone()))
            })
            .await
    }

    /// The project of that name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn project(&self, name: &str) -> Result<Option<Project>, StoreError> {
        let name = name.to_owned();
        let found =
            self.database.read(move |transaction| transaction.query_one(BY_NAME, &[name.as_str().into()]));
        found.await?.as_ref().map(project).transpose()
    }

    /// The project of that id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn project_by_id(&self, id: ProjectId) -> Result<Option<Project>, StoreError> {
        let found =
            self.database.read(move |transaction| transaction.query_one(BY_ID, &[id.to_string().into()]));
        found.await?.as_ref().map(project).transpose()
    }

    /// Changes a project: as it is then, or `None` where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn change_project(
        &self,
        id: ProjectId,
        change: ProjectChange,
    ) -> Result<Option<Project>, StoreError> {
        self.database
            .write(move |transaction| {
                let Some(row) = transaction.query_one(BY_ID, &[id.to_string().into()])? else {
                    return Ok(None);
                };
                let mut changed = project(&row)?;
                changed.dedup_policy = change.dedup_policy.of(changed.dedup_policy);
                changed.plan = change.plan.clone().of(changed.plan);
                changed.limits = change.limits.clone().of(changed.limits);
                let row = [
                    id.to_string().into(),
                    changed.dedup_policy.map(DedupPolicy::name).into(),
                    changed.plan.clone().into(),
                    serde_json::to_string(&changed.limits).ok().into(),
                ];
                transaction.execute(CHANGE, &row)?;
                transaction.query_all(&[cap::doubt(id)])?;
                Ok(Some(changed))
            })
            .await
    }

    /// All projects, by name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        let rows = self.database.read(|transaction| transaction.query(ALL, &[])).await?;
        rows.iter().map(project).collect()
    }
}

/// What a project has otherwise than its plan.
pub(crate) fn limits(row: &Row, column: usize) -> Result<LimitOverrides, StoreError> {
    let Some(text) = row.optional_text(column)? else { return Ok(LimitOverrides::default()) };
    serde_json::from_str(&text).map_err(|error| unreadable(&text, &error))
}

/// Limits that nobody could have written.
pub(crate) fn unreadable(text: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt { what: format!("limits {text:?}: {error}") }
}

fn project(row: &Row) -> Result<Project, StoreError> {
    Ok(Project {
        id: row.parsed(0)?,
        name: row.text(1)?,
        created_at: times::timestamp(row.integer(2)?)?,
        dedup_policy: row.optional_parsed(3)?,
        plan: row.optional_text(4)?,
        limits: limits(row, 5)?,
    })
}
