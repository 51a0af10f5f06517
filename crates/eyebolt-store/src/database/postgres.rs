//! PostgreSQL.

mod session;
mod wire;

use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Config, Statement, types::Type};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::{
    session::{Asked, Many, Session, configured},
    wire::{borrowed, row},
};
use super::{
    Connection, Dialect, Kept, Queue, Row, Schema, Transaction, Value,
    merged::{Insert, together},
    signals::Signals,
    writer::{Undo, run_together},
};
use crate::StoreError;

const DIALECT: Dialect = Dialect { int: "BIGINT", blob: "BYTEA", strict: "" };

/// How often a group is tried that another transaction got in the way of.
const ATTEMPTS: usize = 5;

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

impl Postgres {
    pub(super) fn connect(url: &str, role: Role) -> Result<Self, StoreError> {
        let ((config, tls), runtime) = (configured(url)?, runtime()?);
        let session = runtime.block_on(Session::connect(&config, tls.clone()))?;
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
        self.session = self.runtime.block_on(Session::connect(&self.config, self.tls.clone()))?;
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

/// Of one thread alone: a statement is awaited where it was asked for.
pub(super) fn runtime() -> Result<Runtime, StoreError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| StoreError::Unavailable { reason: error.to_string() })
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
