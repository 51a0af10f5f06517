use std::{collections::HashMap, path::Path, time::Duration};

use rusqlite::{
    Connection as Handle, ErrorCode, OpenFlags, ToSql, TransactionBehavior,
    config::DbConfig,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    Connection, Dialect, Kept, Queue, Row, Schema, Transaction, Value,
    checkpoints::Checkpoints,
    merged::Insert,
    writer::{Undo, run_together},
};
use crate::StoreError;

const DIALECT: Dialect = Dialect { int: "INTEGER", blob: "BLOB", strict: "STRICT" };

/// How long another connection is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// One connection to a file.
pub(super) struct Sqlite {
    handle: Handle,
    /// Statements in this database's words.
    forms: HashMap<&'static str, Form>,
    /// None of a reader's.
    checkpoints: Option<Checkpoints>,
}

impl Sqlite {
    /// Each statement sees what is committed when it begins, as on a server: so without a transaction.
    fn read_group(&mut self, queue: &mut Queue) -> Result<(), StoreError> {
        for one in queue.moves() {
            let mut open = Open { handle: &self.handle, forms: &mut self.forms };
            if let Err(Undo::All(error)) = one.run(&mut open) {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Opens the file for writing: a write-ahead log that is synced at each commit.
pub(super) fn open(path: &Path) -> Result<Sqlite, StoreError> {
    let handle = Handle::open(path)?;
    handle.pragma_update(None, "journal_mode", "WAL")?;
    handle.pragma_update(None, "synchronous", "FULL")?;
    let mut opened = prepared(handle)?;
    opened.checkpoints = Some(Checkpoints::beside(&mut opened.handle, path)?);
    Ok(opened)
}

/// Opens the file for reading beside the writer.
pub(super) fn reader(path: &Path) -> Result<Sqlite, StoreError> {
    let handle =
        Handle::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepared(handle)
}

fn prepared(handle: Handle) -> Result<Sqlite, StoreError> {
    handle.busy_timeout(BUSY)?;
    handle.pragma_update(None, "foreign_keys", "ON")?;
    // KiB, negative by SQLite's custom. Its own 2 MiB lose the upper pages of large indexes; and a commit that moved pages of
    // an index looks at every page that is kept, so that with 32 MiB it took a seventh of the writer's time.
    handle.pragma_update(None, "cache_size", -8 * 1024)?;
    // Otherwise a statement whose parameter may decide on a partial index is compiled anew for each value.
    handle.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    handle.set_prepared_statement_cache_capacity(256);
    Ok(Sqlite { handle, forms: HashMap::new(), checkpoints: None })
}

impl Connection for Sqlite {
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Schema) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let begun = self.handle.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut open = Open { handle: &begun, forms: &mut self.forms };
        let done = work(&mut open)?;
        begun.commit().map_err(at_commit)?;
        Ok(done)
    }

    fn commit_group(&mut self, queue: &mut Queue, kept: Kept) -> Result<bool, StoreError> {
        if self.handle.is_readonly(rusqlite::MAIN_DB)? {
            return self.read_group(queue).map(|()| true);
        }
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.between_groups(&self.handle);
        }
        let mut begun = self.handle.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = match kept {
            Kept::Together => run_together(&mut Open { handle: &begun, forms: &mut self.forms }, queue),
            Kept::Apart => run_apart(&mut begun, &mut self.forms, queue),
        };
        match done {
            Ok(()) => begun.commit().map(|()| true).map_err(at_commit),
            // A transaction that is dropped is rolled back.
            Err(Undo::Alone) => Ok(false),
            Err(Undo::All(error)) => Err(error),
        }
    }
}

fn run_apart(
    begun: &mut rusqlite::Transaction<'_>,
    forms: &mut HashMap<&'static str, Form>,
    queue: &mut Queue,
) -> Result<(), Undo> {
    for one in queue.moves() {
        let savepoint = begun.savepoint().map_err(|error| Undo::All(error.into()))?;
        let done = one.run(&mut Open { handle: &savepoint, forms });
        match done {
            Ok(()) => savepoint.commit().map_err(|error| Undo::All(error.into()))?,
            // A savepoint that is dropped is rolled back.
            Err(Undo::Alone) => {}
            Err(all) => return Err(all),
        }
    }
    Ok(())
}

/// A transaction under way on this connection.
struct Open<'a> {
    handle: &'a Handle,
    forms: &'a mut HashMap<&'static str, Form>,
}

impl Transaction for Open<'_> {
    fn execute(&mut self, sql: &'static str, parameters: &[Value]) -> Result<u64, StoreError> {
        let form = self.forms.entry(sql).or_insert_with(|| Form::of(sql));
        let mut statement = self.handle.prepare_cached(&form.sql)?;
        Ok(statement.execute(rusqlite::params_from_iter(parameters))? as u64)
    }

    fn query(&mut self, sql: &'static str, parameters: &[Value]) -> Result<Vec<Row>, StoreError> {
        let form = self.forms.entry(sql).or_insert_with(|| Form::of(sql));
        let mut statement = self.handle.prepare_cached(&form.sql)?;
        if let Some(inserted) = &form.inserted {
            let there = statement.execute(rusqlite::params_from_iter(parameters))? > 0;
            let row = || Row(inserted.iter().map(|place| parameters[*place].clone()).collect());
            return Ok(there.then(row).into_iter().collect());
        }
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| value(row.get_ref(column)?));
            found.push(Row(values.collect::<Result<_, StoreError>>()?));
        }
        Ok(found)
    }
}

/// A statement in SQLite's words.
struct Form {
    sql: String,
    /// The parameters that are the row which an `INSERT` gives back. SQLite would put it into a table of its own first, and
    /// keep a copy of each page that it changes: it is only asked whether the row was inserted.
    inserted: Option<Vec<usize>>,
}

impl Form {
    fn of(sql: &str) -> Self {
        let inserted = Insert::of(sql).and_then(Insert::row);
        let sql = match (&inserted, sql.split_once(" RETURNING ")) {
            (Some(_), Some((sql, _))) => sql,
            _ => sql,
        };
        Self { sql: rewrite(sql), inserted }
    }
}

/// SQLite's `$1` is a name, and its single writer needs no row locks.
fn rewrite(sql: &str) -> String {
    let locks = [" FOR UPDATE SKIP LOCKED", " FOR NO KEY UPDATE", " FOR UPDATE", " FOR KEY SHARE"];
    locks.iter().fold(sql.replace('$', "?"), |sql, lock| sql.replace(lock, ""))
}

impl Schema for Open<'_> {
    fn run_script(&mut self, script: &str) -> Result<(), StoreError> {
        Ok(self.handle.execute_batch(script)?)
    }

    fn dialect(&self) -> Dialect {
        DIALECT
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(value: ValueRef<'_>) -> Result<Value, StoreError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Real(value) => return Err(StoreError::Corrupt { what: format!("a number {value}") }),
    })
}

/// A commit that fails for want of room or of a turn left nothing behind; any other may have left anything.
fn at_commit(error: rusqlite::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::Database { reason } => StoreError::Failed { reason },
        known => known,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen,
            ) => Self::Unavailable { reason },
            Some(ErrorCode::SystemIoFailure) => Self::Failed { reason },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { what: reason },
            _ => Self::Database { reason },
        }
    }
}

/// How SQLite runs these statements on a new database, a line for each table that it reads.
#[cfg(test)]
pub(crate) fn plans(statements: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("eyebolt.db");
    let mut file = open(&path).expect("a new file");
    file.transaction(|schema| crate::migrate::migrate(schema, 0)).expect("a schema");
    let plan = |sql: &&str| {
        let explained = format!("EXPLAIN QUERY PLAN {}", rewrite(sql));
        let mut statement = file.handle.prepare(&explained).expect("a statement of this schema");
        let mut rows = statement.raw_query();
        let mut lines = Vec::new();
        while let Some(row) = rows.next().expect("a plan") {
            lines.push(row.get::<_, String>(3).expect("its text"));
        }
        lines
    };
    statements.iter().flat_map(plan).collect()
}
