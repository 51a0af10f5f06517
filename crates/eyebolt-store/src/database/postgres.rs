use std::collections::HashMap;

use postgres::{
    Client, Config, NoTls, Statement,
    error::SqlState,
    types::{ToSql, Type},
};

use super::{Connection, Dialect, Queue, Row, Schema, Transaction, Value, writer::Undo};
use crate::StoreError;

const DIALECT: Dialect = Dialect { int: "BIGINT", blob: "BYTEA", strict: "" };

/// How often a group is tried that another transaction got in the way of.
const ATTEMPTS: usize = 5;

/// One connection to a server; made anew where it broke.
pub(super) struct Postgres {
    config: Config,
    client: Client,
    prepared: HashMap<&'static str, Statement>,
}

impl Postgres {
    pub(super) fn connect(url: &str) -> Result<Self, StoreError> {
        let config: Config = url.parse().map_err(unavailable)?;
        let client = connect(&config)?;
        Ok(Self { config, client, prepared: HashMap::new() })
    }

    fn ensure_connected(&mut self) -> Result<(), StoreError> {
        if self.client.is_closed() {
            self.client = connect(&self.config)?;
            self.prepared.clear();
        }
        Ok(())
    }

    fn try_group(&mut self, queue: &mut Queue) -> Result<(), StoreError> {
        self.ensure_connected()?;
        let mut begun = self.client.transaction().map_err(StoreError::from)?;
        for one in queue.moves() {
            let mut savepoint = begun.transaction()?;
            let mut open = Open { transaction: &mut savepoint, prepared: &mut self.prepared };
            match one.run(&mut open) {
                Ok(()) => savepoint.commit()?,
                Err(Undo::Alone) => savepoint.rollback()?,
                Err(Undo::All(error)) => return Err(error),
            }
        }
        // Whether a commit whose answer never came took place, nobody here can tell; callers ask again by their key.
        begun.commit().map_err(StoreError::from)
    }
}

fn connect(config: &Config) -> Result<Client, StoreError> {
    let mut config = config.clone();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(std::time::Duration::from_secs(5));
    }
    config.application_name("eyebolt");
    config.connect(NoTls).map_err(unavailable)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn unavailable(error: postgres::Error) -> StoreError {
    StoreError::Unavailable { reason: told(&error) }
}

impl Connection for Postgres {
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Schema) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ensure_connected()?;
        let mut begun = self.client.transaction()?;
        let mut open = Open { transaction: &mut begun, prepared: &mut self.prepared };
        // One process at a time migrates; the lock ends with the transaction.
        open.run_script("SELECT pg_advisory_xact_lock(7310868735)")?;
        let done = work(&mut open)?;
        begun.commit()?;
        Ok(done)
    }

    fn commit_group(&mut self, queue: &mut Queue) -> Result<(), StoreError> {
        let mut attempt = 1;
        loop {
            match self.try_group(queue) {
                Err(StoreError::Conflict) if attempt < ATTEMPTS => attempt += 1,
                Err(StoreError::Conflict) => {
                    return Err(StoreError::Unavailable {
                        reason: "transactions kept conflicting".to_owned(),
                    });
                }
                done => return done,
            }
        }
    }
}

struct Open<'a, 'b> {
    transaction: &'a mut postgres::Transaction<'b>,
    prepared: &'a mut HashMap<&'static str, Statement>,
}

impl Open<'_, '_> {
    fn prepare(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.transaction.prepare(sql)?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Transaction for Open<'_, '_> {
    fn execute(&mut self, sql: &'static str, parameters: &[Value]) -> Result<u64, StoreError> {
        let statement = self.prepare(sql)?;
        Ok(self.transaction.execute(&statement, &borrowed(parameters))?)
    }

    fn query(&mut self, sql: &'static str, parameters: &[Value]) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepare(sql)?;
        let rows = self.transaction.query(&statement, &borrowed(parameters))?;
        rows.iter().map(row).collect()
    }
}

impl Schema for Open<'_, '_> {
    fn run_script(&mut self, script: &str) -> Result<(), StoreError> {
        Ok(self.transaction.batch_execute(script)?)
    }

    fn dialect(&self) -> Dialect {
        DIALECT
    }
}

fn borrowed(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn row(row: &postgres::Row) -> Result<Row, StoreError> {
    let value = |index: usize, kind: &Type| -> Result<Value, StoreError> {
        Ok(match *kind {
            Type::INT8 => row.try_get::<_, Option<i64>>(index)?.into(),
            Type::TEXT | Type::VARCHAR => row.try_get::<_, Option<String>>(index)?.into(),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index)?.into(),
            _ => return Err(StoreError::Corrupt { what: format!("a column of type {kind}") }),
        })
    };
    let columns = row.columns().iter().enumerate();
    Ok(Row(columns.map(|(index, column)| value(index, column.type_())).collect::<Result<_, _>>()?))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(postgres::types::IsNull::Yes),
            // The server takes `$1 - 60` for 32 bits: such a statement is wrong, and would be told only by chance.
            Self::Integer(_) if *kind != Type::INT8 => {
                Err(format!("a parameter is {kind}, not BIGINT").into())
            }
            Self::Integer(value) => value.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Blob(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    postgres::types::to_sql_checked!();
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> Self {
        let reason = told(&error);
        let Some(state) = error.code() else { return Self::Unavailable { reason } };
        match *state {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Conflict,
            SqlState::DISK_FULL => Self::Full,
            // 57: the server stops or ended this connection; 08: the connection broke; 53: out of something.
            _ if ["57", "08", "53"].iter().any(|class| state.code().starts_with(class)) => {
                Self::Unavailable { reason }
            }
            _ => Self::Database { reason },
        }
    }
}

/// The server's own words: the error alone says "db error".
fn told(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |server| server.message().to_owned())
}
