use eyebolt_types::id::ProjectId;
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
}

const INSERT: &str =
    "INSERT INTO projects (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
const BY_NAME: &str = "SELECT id, name, created_at FROM projects WHERE name = $1";
const BY_ID: &str = "SELECT id, name, created_at FROM projects WHERE id = $1";
const ALL: &str = "SELECT id, name, created_at FROM projects ORDER BY name";

impl Store {
    /// Makes a project. `None` where the name is taken.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_project(&self, name: &str, now: Timestamp) -> Result<Option<Project>, StoreError> {
        let project = Project { id: ProjectId::new(), name: name.to_owned(), created_at: now };
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
    Ok(Project { id: row.parsed(0)?, name: row.text(1)?, created_at: times::timestamp(row.integer(2)?)? })
}
