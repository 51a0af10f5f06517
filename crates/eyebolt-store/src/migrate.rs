//! Migrations: numbered files, the same names for both databases, each applied once.

use aws_lc_rs::digest::{SHA256, digest};

use crate::{StoreError, database::Schema};

struct Migration {
    version: i64,
    name: &'static str,
    script: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            script: include_str!(concat!("../migrations/", $name, ".sql")),
        }),*]
    };
}

const MIGRATIONS: &[Migration] = migrations![
    1 "0001_projects_and_keys", 2 "0002_jobs", 3 "0003_ledger", 4 "0004_content", 5 "0005_place",
    6 "0006_project_settings",
    7 "0007_lines", 8 "0008_limits", 9 "0009_clients", 10 "0010_retention",
    11 "0011_events", 12 "0012_batches", 13 "0013_pipelines", 14 "0014_item_keys",
    16 "0016_keys_and_hosts", 17 "0017_overdue",
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (version {int} PRIMARY KEY, name TEXT NOT NULL, \
                     checksum TEXT NOT NULL, applied_at {int} NOT NULL) {strict}";

const LIST: &str = "SELECT version, name, checksum FROM schema_migrations ORDER BY version";

const APPLIED: &str =
    "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";

/// Applies what is missing, inside the caller's transaction: after a crash all of it is there, or none.
pub(crate) fn migrate(schema: &mut dyn Schema, now: i64) -> Result<(), StoreError> {
    let script = in_dialect(schema, TABLE);
    schema.run_script(&script)?;
    let there = check(schema)?;
    for migration in &MIGRATIONS[there..] {
        let script = in_dialect(schema, migration.script);
        schema.run_script(&script)?;
        let row = [migration.version.into(), migration.name.into(), checksum(migration).into(), now.into()];
        schema.execute(APPLIED, &row)?;
    }
    Ok(())
}

/// How many migrations this program knows.
pub(crate) const fn count() -> usize {
    MIGRATIONS.len()
}

/// Refuses a schema in which a migration is missing. Changes nothing: the table that it may make goes with the error.
pub(crate) fn require_complete(schema: &mut dyn Schema) -> Result<(), StoreError> {
    let script = in_dialect(schema, TABLE);
    schema.run_script(&script)?;
    let (there, known) = (check(schema)?, MIGRATIONS.len());
    if there == known { Ok(()) } else { Err(StoreError::Incomplete { there, known }) }
}

/// How many migrations were applied; refuses a schema that this program doesn't know.
fn check(schema: &mut dyn Schema) -> Result<usize, StoreError> {
    let rows = schema.query(LIST, &[])?;
    for (index, row) in rows.iter().enumerate() {
        let (version, name) = (row.integer(0)?, row.text(1)?);
        let Some(known) = MIGRATIONS.get(index) else {
            return Err(StoreError::Newer { version, name, known: MIGRATIONS.len() as i64 });
        };
        if (known.version, known.name) != (version, name.as_str()) || row.text(2)? != checksum(known) {
            return Err(StoreError::Foreign { version, name });
        }
    }
    Ok(rows.len())
}

fn in_dialect(schema: &dyn Schema, script: &str) -> String {
    let dialect = schema.dialect();
    let script = script.replace("{int}", dialect.int).replace("{blob}", dialect.blob);
    script.replace("{strict}", dialect.strict)
}

fn checksum(migration: &Migration) -> String {
    use std::fmt::Write;
    let digest = digest(&SHA256, migration.script.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string does not fail");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one_in_files_of_that_number_and_every_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<_> = MIGRATIONS.iter().map(|migration| format!("{}.sql", migration.name)).collect();
        assert_eq!(files, listed);
        assert!(MIGRATIONS.is_sorted_by(|earlier, later| earlier.version < later.version));
        for migration in MIGRATIONS {
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)));
        }
    }
}
