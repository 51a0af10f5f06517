use std::{collections::HashMap, error::Error, time::Duration};

use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{
    Client, Config, NoTls, Statement,
    error::SqlState,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Connection, Dialect, Kept, Queue, Row, Schema, Transaction, Value, encryption,
    merged::{Insert, column, together},
    signals::Signals,
    writer::{Undo, run_together},
};
use crate::StoreError;

const DIALECT: Dialect = Dialect { int: "BIGINT", blob: "BYTEA", strict: "" };

/// How often a group is tried that another transaction got in the way of.
const ATTEMPTS: usize = 5;

/// Where the URL has none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements sent before the first answer is read: up to so many, `join_all` begins its futures in their order.
const PIPELINE: usize = 30;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Moves, in transactions.
    Writer,
    /// Statements that read. Each sees what is committed when it begins, in a transaction or not: so without one.
    Reader,
}

/// One connection to a server; made anew where it broke.
pub(super) struct Postgres {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    role: Role,
    runtime: Runtime,
    session: Session,
}

struct Session {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
    /// Of each statement that was asked for together with others: the same for many rows, where there is such a thing.
    inserts: HashMap<&'static str, Option<Many>>,
}

/// A statement that inserts any number of rows.
struct Many {
    insert: Insert,
    statement: Statement,
}

impl Session {
    fn many(&self, sql: &'static str) -> Option<&Many> {
        self.inserts.get(sql)?.as_ref()
    }

    /// What is sent for statements that go together. They were learnt before.
    fn asked<'a>(
        &'a self,
        statements: &'a [super::Statement],
        places: &[usize],
    ) -> Result<Asked<'a>, StoreError> {
        let together: Vec<_> = places.iter().map(|place| &statements[*place]).collect();
        let sql = together[0].0;
        let alone = self.prepared.get(sql).ok_or(StoreError::Conflict)?;
        let many = self.many(sql).filter(|_| together.len() > 1);
        let statement = many.map_or(alone, |many| &many.statement);
        let columns =
            many.map(|many| (0..many.insert.parameters()).map(|place| column(&together, place)).collect());
        Ok(Asked { statement, together, columns, insert: many.map(|many| &many.insert) })
    }
}

/// A statement that is sent, for one or more of those that were asked for.
struct Asked<'a> {
    statement: &'a Statement,
    together: Vec<&'a super::Statement>,
    /// The parameters of all rows, column by column.
    columns: Option<Vec<Vec<&'a Value>>>,
    insert: Option<&'a Insert>,
}

impl Asked<'_> {
    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        match &self.columns {
            None => borrowed(&self.together[0].1),
            Some(columns) => columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect(),
        }
    }

    /// The rows of each.
    fn share_out(&self, rows: Vec<Row>) -> Result<Vec<Vec<Row>>, StoreError> {
        match self.insert {
            None => Ok(vec![rows]),
            Some(insert) => insert.share_out(rows, &self.together),
        }
    }
}

impl Postgres {
    pub(super) fn connect(url: &str, role: Role) -> Result<Self, StoreError> {
        let ((config, tls), runtime) = (configured(url)?, runtime()?);
        let session = runtime.block_on(connect(&config, tls.clone()))?;
        Ok(Self { config, tls, role, runtime, session })
    }

    /// What the servers on this database tell each other.
    pub(super) fn signals(url: &str) -> Result<Signals, StoreError> {
        let (config, tls) = configured(url)?;
        Signals::start(config, tls)
    }

    fn open(&mut self) -> Open<'_> {
        Open { runtime: &self.runtime, session: &mut self.session }
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.session = self.runtime.block_on(connect(&self.config, self.tls.clone()))?;
        Ok(())
    }

    /// Begins a transaction, on a new connection where the old one broke while it rested.
    fn begin(&mut self) -> Result<(), StoreError> {
        let begun = self.open().run_script("BEGIN");
        if begun.is_ok() || !self.session.client.is_closed() {
            return begun;
        }
        self.reconnect()?;
        self.open().run_script("BEGIN")
    }

    /// Runs `work` inside the transaction that is begun; `None` undoes it.
    fn within<T>(
        &mut self,
        work: impl FnOnce(&mut Open<'_>) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match work(&mut self.open()) {
            // Whether a commit whose answer never came took place, nobody here can tell; callers ask again by their key.
            Ok(Some(done)) => self.open().run_script("COMMIT").map(|()| Some(done)),
            Ok(None) => self.open().run_script("ROLLBACK").map(|()| None),
            Err(error) => {
                // Where this fails as well the connection is gone, and its transaction with it.
                let _ = self.open().run_script("ROLLBACK");
                Err(error)
            }
        }
    }

    fn read_group(&mut self, queue: &mut Queue) -> Result<(), StoreError> {
        if run_together(&mut self.open(), queue).is_ok() {
            return Ok(());
        }
        // Whose fault it was they tell one by one.
        for one in queue.moves() {
            let mut done = one.run(&mut self.open());
            if matches!(done, Err(Undo::All(_))) && self.session.client.is_closed() {
                self.reconnect()?;
                done = one.run(&mut self.open());
            }
            if let Err(Undo::All(error)) = done {
                return Err(error);
            }
        }
        Ok(())
    }
}

fn configured(url: &str) -> Result<(Config, Option<MakeRustlsConnect>), StoreError> {
    let (mut config, tls) = encryption::parse(url)?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    config.application_name("eyebolt");
    Ok((config, tls))
}

/// Of one thread alone: a statement is awaited where it was asked for.
pub(super) fn runtime() -> Result<Runtime, StoreError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| StoreError::Unavailable { reason: error.to_string() })
}

async fn connect(config: &Config, tls: Option<MakeRustlsConnect>) -> Result<Session, StoreError> {
    // How a connection ends, the client's next statement tells.
    let client = if let Some(tls) = tls {
        let (client, connection) = config.connect(tls).await.map_err(unavailable)?;
        tokio::spawn(async move { drop(connection.await) });
        client
    } else {
        let (client, connection) = config.connect(NoTls).await.map_err(unavailable)?;
        tokio::spawn(async move { drop(connection.await) });
        client
    };
    Ok(Session { client, prepared: HashMap::new(), inserts: HashMap::new() })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn unavailable(error: tokio_postgres::Error) -> StoreError {
    StoreError::Unavailable { reason: told(&error) }
}

impl Connection for Postgres {
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Schema) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.begin()?;
        let done = self.within(|open| {
            // One process at a time migrates; the lock ends with the transaction.
            open.run_script("SELECT pg_advisory_xact_lock(7310868735)")?;
            work(open).map(Some)
        })?;
        Ok(done.expect("work that is done is not undone"))
    }

    fn commit_group(&mut self, queue: &mut Queue, kept: Kept) -> Result<bool, StoreError> {
        if self.role == Role::Reader {
            return self.read_group(queue).map(|()| true);
        }
        let mut attempt = 1;
        loop {
            self.begin()?;
            match self.within(|open| run_moves(open, queue, kept)) {
                Err(StoreError::Conflict) if attempt < ATTEMPTS => attempt += 1,
                Err(StoreError::Conflict) => {
                    return Err(StoreError::Unavailable {
                        reason: "transactions kept conflicting".to_owned(),
                    });
                }
                done => return Ok(done?.is_some()),
            }
        }
    }
}

fn run_moves(open: &mut Open<'_>, queue: &mut Queue, kept: Kept) -> Result<Option<()>, StoreError> {
    if kept == Kept::Together {
        return match run_together(open, queue) {
            Ok(()) => Ok(Some(())),
            Err(Undo::Alone) => Ok(None),
            Err(Undo::All(error)) => Err(error),
        };
    }
    for one in queue.moves() {
        open.run_script("SAVEPOINT one")?;
        match one.run(open) {
            Ok(()) => open.run_script("RELEASE SAVEPOINT one")?,
            Err(Undo::Alone) => open.run_script("ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one")?,
            Err(Undo::All(error)) => return Err(error),
        }
    }
    Ok(Some(()))
}

struct Open<'a> {
    runtime: &'a Runtime,
    session: &'a mut Session,
}

impl Open<'_> {
    fn prepare(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.session.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.runtime.block_on(self.session.client.prepare(sql))?;
        self.session.prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Open<'_> {
    /// Prepares a statement, and where it inserts a row the same for many.
    fn learn(&mut self, sql: &'static str) -> Result<(), StoreError> {
        if self.session.inserts.contains_key(sql) {
            return Ok(());
        }
        let alone = self.prepare(sql)?;
        let kinds: Vec<_> = alone.params().iter().map(Type::name).collect();
        let many = match Insert::of(sql).filter(|insert| insert.parameters() == kinds.len()) {
            None => None,
            Some(insert) => {
                let statement = self.runtime.block_on(self.session.client.prepare(&insert.many(&kinds)))?;
                Some(Many { insert, statement })
            }
        };
        self.session.inserts.insert(sql, many);
        Ok(())
    }
}

impl Transaction for Open<'_> {
    fn execute(&mut self, sql: &'static str, parameters: &[Value]) -> Result<u64, StoreError> {
        let statement = self.prepare(sql)?;
        let client = &self.session.client;
        Ok(self.runtime.block_on(client.execute(&statement, &borrowed(parameters)))?)
    }

    fn query(&mut self, sql: &'static str, parameters: &[Value]) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepare(sql)?;
        let client = &self.session.client;
        let rows = self.runtime.block_on(client.query(&statement, &borrowed(parameters)))?;
        rows.iter().map(row).collect()
    }

    fn query_all(&mut self, statements: &[super::Statement]) -> Result<Vec<Vec<Row>>, StoreError> {
        for (sql, _) in statements {
            self.learn(sql)?;
        }
        let session = &*self.session;
        let groups = together(statements, |sql| session.many(sql).map(|many| &many.insert));
        let mut found = vec![Vec::new(); statements.len()];
        for pipeline in groups.chunks(PIPELINE) {
            let asked: Vec<_> =
                pipeline.iter().map(|places| session.asked(statements, places)).collect::<Result<_, _>>()?;
            let parameters: Vec<_> = asked.iter().map(Asked::parameters).collect();
            let answers = asked
                .iter()
                .zip(&parameters)
                .map(|(asked, parameters)| session.client.query(asked.statement, parameters));
            for ((places, asked), rows) in
                pipeline.iter().zip(&asked).zip(self.runtime.block_on(join_all(answers)))
            {
                let rows = rows?.iter().map(row).collect::<Result<_, _>>()?;
                for (place, rows) in places.iter().zip(asked.share_out(rows)?) {
                    found[*place] = rows;
                }
            }
        }
        Ok(found)
    }
}

impl Schema for Open<'_> {
    fn run_script(&mut self, script: &str) -> Result<(), StoreError> {
        Ok(self.runtime.block_on(self.session.client.batch_execute(script))?)
    }

    fn dialect(&self) -> Dialect {
        DIALECT
    }
}

fn borrowed(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn row(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
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
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(tokio_postgres::types::IsNull::Yes),
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

    tokio_postgres::types::to_sql_checked!();
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
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

/// The server's own words, or the error with its causes: alone it says "db error" or "error connecting to server".
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return server.message().to_owned();
    }
    let (mut told, mut cause) = (error.to_string(), error.source());
    while let Some(deeper) = cause {
        told = format!("{told}: {deeper}");
        cause = deeper.source();
    }
    told
}
