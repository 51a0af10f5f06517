//! Pipelines that have a name: versions that never change, and the one that a name alone means.

use eyebolt_types::{Mode, id::ProjectId};
use jiff::Timestamp;

use crate::{
    Store, StoreError,
    database::{Row, Statement, Transaction, Value},
    times,
};

/// A version of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPipeline {
    /// Its name.
    pub name: String,
    /// Counts from 1.
    pub version: u32,
    /// SHA-256 of it, hex.
    pub digest: String,
    /// It, as JSON.
    pub pipeline: String,
    /// Whether its name alone means this version.
    pub is_default: bool,
    /// When it was written.
    pub created_at: Timestamp,
}

/// Which versions of a project's pipelines are wanted.
#[derive(Debug, Clone)]
pub struct PipelineFilter {
    /// Whose, in which mode.
    pub whose: (ProjectId, Mode),
    /// Only of this one.
    pub name: Option<String>,
    /// Only those behind this name and version: the last of the page before.
    pub after: Option<(String, u32)>,
    /// At most so many.
    pub limit: u32,
}

/// Columns that [`stored`] reads.
macro_rules! columns {
    () => {
        "SELECT p.name, p.version, p.digest, p.pipeline, p.created_at, CAST(CASE WHEN p.version = COALESCE(d.version, \
         (SELECT MAX(n.version) FROM pipelines n WHERE n.project_id = p.project_id AND n.mode = p.mode AND n.name = p.name)) \
         THEN 1 ELSE 0 END AS BIGINT) FROM pipelines p LEFT JOIN pipeline_defaults d \
         ON d.project_id = p.project_id AND d.mode = p.mode AND d.name = p.name \
         WHERE p.project_id = $1 AND p.mode = $2"
    };
}

const PAGE: &str = concat!(
    columns!(),
    " AND p.name >= $3 AND (p.name > $3 OR p.version < $4) ORDER BY p.name, p.version DESC LIMIT $5"
);
const PAGE_OF: &str =
    concat!(columns!(), " AND p.name = $3 AND p.version < $4 ORDER BY p.version DESC LIMIT $5");
const NEWEST: &str = concat!(columns!(), " AND p.name = $3 ORDER BY p.version DESC LIMIT 1");
const VERSION: &str = concat!(columns!(), " AND p.name = $3 AND p.version = $4");
const MEANT: &str = concat!(
    columns!(),
    " AND p.name = $3 AND p.version = COALESCE(d.version, (SELECT MAX(n.version) FROM pipelines n \
     WHERE n.project_id = p.project_id AND n.mode = p.mode AND n.name = p.name))"
);
const NEW: &str = "INSERT INTO pipelines (project_id, mode, name, version, digest, pipeline, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
const FORGET_DEFAULT: &str =
    "DELETE FROM pipeline_defaults WHERE project_id = $1 AND mode = $2 AND name = $3";
const SET_DEFAULT: &str =
    "INSERT INTO pipeline_defaults (project_id, mode, name, version) VALUES ($1, $2, $3, $4)";

impl Store {
    /// Writes the next version of a pipeline, unless the newest one is the same already; and whether it did.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_pipeline(
        &self,
        (project, mode): (ProjectId, Mode),
        (name, digest, pipeline): (String, String, String),
        now: Timestamp,
    ) -> Result<(StoredPipeline, bool), StoreError> {
        self.database
            // Of two at once the second one sees the first.
            .write_locking(Some(project), move |transaction| {
                let newest = one(transaction, (NEWEST, key((project, mode), &name)))?;
                let version = newest.as_ref().map_or(1, |newest| newest.version + 1);
                if let Some(newest) = newest.filter(|newest| newest.digest == digest) {
                    return Ok((newest, false));
                }
                let mut row = key((project, mode), &name);
                row.extend([i64::from(version).into(), digest.as_str().into(), pipeline.as_str().into()]);
                row.push(times::micros(now).into());
                transaction.execute(NEW, &row)?;
                let written = one(transaction, (NEWEST, key((project, mode), &name)))?;
                Ok((written.ok_or(StoreError::Conflict)?, true))
            })
            .await
    }

    /// Versions of a project's pipelines, by name, each with its newest version first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn pipelines(&self, filter: PipelineFilter) -> Result<Vec<StoredPipeline>, StoreError> {
        let PipelineFilter { whose, name, after, limit } = filter;
        let (sql, name, before) = match (name, after) {
            (None, None) => (PAGE, String::new(), 0),
            (None, Some((name, version))) => (PAGE, name, version.into()),
            // A version counts where it is one of this name.
            (Some(name), after) => {
                let of_it = after.filter(|(after, _)| *after == name);
                (PAGE_OF, name, of_it.map_or(i64::MAX, |(_, version)| version.into()))
            }
        };
        let mut parameters = key(whose, &name);
        parameters.extend([before.into(), i64::from(limit).into()]);
        let rows = self.database.read(move |transaction| transaction.query(sql, &parameters)).await?;
        rows.iter().map(stored).collect()
    }

    /// A version of a pipeline; `None`: the one that the name alone means.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn pipeline(
        &self,
        whose: (ProjectId, Mode),
        (name, version): (String, Option<u32>),
    ) -> Result<Option<StoredPipeline>, StoreError> {
        self.database.read(move |transaction| one(transaction, meant(whose, (&name, version)))).await
    }

    /// Says which version a name alone means; `None`: the newest one. Whether there is such a version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn set_default_pipeline(
        &self,
        whose: (ProjectId, Mode),
        (name, version): (String, Option<u32>),
    ) -> Result<bool, StoreError> {
        self.database
            .write_locking(Some(whose.0), move |transaction| {
                if one(transaction, meant(whose, (&name, version)))?.is_none() {
                    return Ok(false);
                }
                transaction.execute(FORGET_DEFAULT, &key(whose, &name))?;
                if let Some(version) = version {
                    let mut row = key(whose, &name);
                    row.push(i64::from(version).into());
                    transaction.execute(SET_DEFAULT, &row)?;
                }
                Ok(true)
            })
            .await
    }
}

fn key((project, mode): (ProjectId, Mode), name: &str) -> Vec<Value> {
    vec![project.to_string().into(), mode.name().into(), name.into()]
}

fn meant(whose: (ProjectId, Mode), (name, version): (&str, Option<u32>)) -> Statement {
    let mut parameters = key(whose, name);
    let Some(version) = version else { return (MEANT, parameters) };
    parameters.push(i64::from(version).into());
    (VERSION, parameters)
}

fn one(
    transaction: &mut dyn Transaction,
    (sql, parameters): Statement,
) -> Result<Option<StoredPipeline>, StoreError> {
    transaction.query_one(sql, &parameters)?.as_ref().map(stored).transpose()
}

fn stored(row: &Row) -> Result<StoredPipeline, StoreError> {
    Ok(StoredPipeline {
        name: row.text(0)?,
        version: row.integer(1)? as u32,
        digest: row.text(2)?,
        pipeline: row.text(3)?,
        created_at: times::timestamp(row.integer(4)?)?,
        is_default: row.integer(5)? != 0,
    })
}
