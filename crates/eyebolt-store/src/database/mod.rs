//! Two databases behind one trait: what a domain move does is written once and runs on both.
//!
//! Statements keep to the SQL that both have. `$n` stands for the n-th parameter; times are microseconds given by the
//! caller, ids are text, truth values are 0 and 1, and no statement looks into JSON.

mod checkpoints;
mod encryption;
mod merged;
mod postgres;
mod rounds;
mod signals;
mod sqlite;
mod writer;

use std::sync::Arc;

use eyebolt_types::id::ProjectId;
use tokio::sync::watch;

pub(crate) use self::rounds::{Pace, Round, Rounds, drive};
#[cfg(test)]
pub(crate) use self::sqlite::plans;
use self::{
    postgres::{Postgres, Role},
    rounds::Look,
    signals::Signals,
    writer::{Queue, Writers},
};
use crate::StoreError;

/// To a server: so many that write, and so many that read.
const CONNECTIONS: usize = 3;

/// One parameter or column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The values of one row, by position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row(Vec<Value>);

impl Row {
    pub(crate) fn text(&self, column: usize) -> Result<String, StoreError> {
        self.optional_text(column)?.ok_or_else(|| self.unexpected(column))
    }

    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<String>, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(Value::Null) => Ok(None),
            _ => Err(self.unexpected(column)),
        }
    }

    pub(crate) fn integer(&self, column: usize) -> Result<i64, StoreError> {
        self.optional_integer(column)?.ok_or_else(|| self.unexpected(column))
    }

    pub(crate) fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Value::Integer(value)) => Ok(Some(*value)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.unexpected(column)),
        }
    }

    /// A text in the words of a type.
    pub(crate) fn parsed<T: std::str::FromStr>(&self, column: usize) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|_| self.unexpected(column))
    }

    /// The same, where there may be none.
    pub(crate) fn optional_parsed<T: std::str::FromStr>(
        &self,
        column: usize,
    ) -> Result<Option<T>, StoreError> {
        let text = self.optional_text(column)?;
        text.map(|text| text.parse().map_err(|_| self.unexpected(column))).transpose()
    }

    pub(crate) fn optional_blob(&self, column: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.get(column) {
            Some(Value::Null) => Ok(None),
            _ => self.blob(column).map(Some),
        }
    }

    pub(crate) fn blob(&self, column: usize) -> Result<Vec<u8>, StoreError> {
        match self.0.get(column) {
            Some(Value::Blob(bytes)) => Ok(bytes.clone()),
            _ => Err(self.unexpected(column)),
        }
    }

    fn unexpected(&self, column: usize) -> StoreError {
        StoreError::Corrupt { what: format!("column {column} holds {:?}", self.0.get(column)) }
    }
}

/// A statement and its parameters.
pub(crate) type Statement = (&'static str, Vec<Value>);

/// One transaction under way. An error undoes what the move did, and nothing else.
pub(crate) trait Transaction {
    /// Runs a statement; how many rows it changed.
    fn execute(&mut self, sql: &'static str, parameters: &[Value]) -> Result<u64, StoreError>;

    /// Runs a statement and reads its rows.
    fn query(&mut self, sql: &'static str, parameters: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// Runs statements in their order, none of which needs another's answer, and reads the rows of each. One round
    /// trip where the database is a server.
    fn query_all(&mut self, statements: &[Statement]) -> Result<Vec<Vec<Row>>, StoreError> {
        statements.iter().map(|(sql, parameters)| self.query(sql, parameters)).collect()
    }

    /// Runs a statement and reads its only row, where there is one.
    fn query_one(&mut self, sql: &'static str, parameters: &[Value]) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, parameters)?.into_iter().next())
    }
}

/// Statements of a migration, which no other code may run.
pub(crate) trait Schema: Transaction {
    /// Runs several statements.
    fn run_script(&mut self, script: &str) -> Result<(), StoreError>;

    /// The words of this database for the placeholders of a migration.
    fn dialect(&self) -> Dialect;
}

/// How a migration's placeholders read in one database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// `{int}`: 64 bits.
    pub(crate) int: &'static str,
    /// `{blob}`: bytes.
    pub(crate) blob: &'static str,
    /// `{strict}`: at the end of a table.
    pub(crate) strict: &'static str,
}

/// Where the rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file, made where it is missing. Its folder must exist and be this process's own.
    Sqlite(std::path::PathBuf),
    /// A PostgreSQL server, by URL.
    Postgres(String),
}

/// An open database: threads that write and threads that read.
#[derive(Clone)]
pub(crate) struct Database {
    writers: Arc<Writers>,
    readers: Arc<Writers>,
    pub(crate) signals: Signals,
    failed: watch::Receiver<Option<String>>,
}

impl Database {
    /// Opens, lets `prepare` see to the schema and starts the threads.
    pub(crate) fn open(
        location: &Location,
        prepare: impl FnOnce(&mut dyn Schema) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let (fail, failed) = watch::channel(None);
        let (writers, readers, signals) = match location {
            Location::Sqlite(path) => {
                let mut file = sqlite::open(path)?;
                file.transaction(prepare)?;
                let readers = (0..2).map(|_| sqlite::reader(path)).collect::<Result<_, _>>()?;
                let readers = Writers::start::<sqlite::Sqlite>(readers, &fail);
                (Writers::start(vec![file], &fail), readers, Signals::none())
            }
            Location::Postgres(url) => {
                let connect = |role| (0..CONNECTIONS).map(move |_| Postgres::connect(url, role)).collect();
                Postgres::connect(url, Role::Writer)?.transaction(prepare)?;
                let writers: Result<Vec<_>, StoreError> = connect(Role::Writer);
                let readers: Result<Vec<_>, StoreError> = connect(Role::Reader);
                let (writers, readers) = (Writers::start(writers?, &fail), Writers::start(readers?, &fail));
                (writers, readers, Postgres::signals(url)?)
            }
        };
        Ok(Self { writers: Arc::new(writers), readers: Arc::new(readers), signals, failed })
    }

    /// Runs a move in a transaction, and answers after its commit. The move may run more than once, where the database
    /// asks for it; it runs to its end although nobody waits any more.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writers.run(None, work).await
    }

    /// The same of a move that locks the row of a project, where it has one, before anything else: of all that run together such
    /// rows are locked first, and in one order.
    pub(crate) async fn write_locking<T: Send + 'static>(
        &self,
        project: Option<ProjectId>,
        work: impl Fn(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writers.run(project, work).await
    }

    /// The same of a move that is made of rounds.
    pub(crate) async fn write_rounds<R: Rounds>(&self, rounds: R) -> Result<R::Done, StoreError> {
        self.writers.run_rounds(rounds).await
    }

    /// Runs statements that only read.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(None, work).await
    }

    /// Runs statements that only read and need no answer of each other. Those of all callers share a round trip to a server.
    pub(crate) async fn look(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, StoreError> {
        self.readers.run_rounds(Look(statements)).await
    }

    /// Ends with the reason when the database can't be trusted any more: a commit or an fsync failed.
    pub(crate) async fn failure(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }
}

/// One connection, and how to hold a transaction on it.
pub(in crate::database) trait Connection: Send + 'static {
    /// Runs `work` in a transaction of its own.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Schema) -> Result<T, StoreError>,
    ) -> Result<T, StoreError>;

    /// Runs every waiting move of `queue` in one transaction and commits once. `false`: a move of a group that was kept
    /// together failed, and everything was undone.
    fn commit_group(&mut self, queue: &mut Queue, kept: Kept) -> Result<bool, StoreError>;
}

/// How the moves of a group stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::database) enum Kept {
    /// One that fails undoes all.
    Together,
    /// Each has a savepoint of its own, and one that fails undoes itself.
    Apart,
}
