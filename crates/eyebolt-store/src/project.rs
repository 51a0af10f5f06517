use eyebolt_types::{DedupPolicy, id::ProjectId};
use jiff::Timestamp;

use crate::{Store, StoreError, database::Row, times};

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
}

const INSERT: &str =
    "INSERT INTO projects (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
const BY_NAME: &str = "SELECT id, name, created_at, dedup_policy FROM projects WHERE name = $1";
const BY_ID: &str = "SELECT id, name, created_at, dedup_policy FROM projects WHERE id = $1";
const ALL: &str = "SELECT id, name, created_at, dedup_policy FROM projects ORDER BY name";
const SET_DEDUP: &str =
    "UPDATE projects SET dedup_policy = $1 WHERE id = $2 RETURNING id, name, created_at, dedup_policy";

impl Store {
    /// Makes a project. `None` where the name is taken.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_project(&self, name: &str, now: Timestamp) -> Result<Option<Project>, StoreError> {
        let project = Project { id: ProjectId::new(), name: name.to_owned(), created_at: now, dedup_policy: None };
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

    /// Says what happens to images that a project has sent before; `None`: as the server's settings say. The project as it is
    /// then, or `None` where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn set_dedup_policy(
        &self,
        id: ProjectId,
        policy: Option<DedupPolicy>,
    ) -> Result<Option<Project>, StoreError> {
        let changed = self.database.write(move |transaction| {
            let row = [policy.map(DedupPolicy::name).into(), id.to_string().into()];
            transaction.query_one(SET_DEDUP, &row)
        });
        changed.await?.as_ref().map(project).transpose()
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

fn project(row: &Row) -> Result<Project, StoreError> {
    Ok(Project {
        id: row.parsed(0)?,
        name: row.text(1)?,
        created_at: times::timestamp(row.integer(2)?)?,
        dedup_policy: row.optional_parsed(3)?,
    })
}
