use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use eyebolt_store::{Audit, Location, Project, Store};
use eyebolt_types::id::JobId;
use jiff::{SignedDuration, Timestamp};
use postgres::NoTls;
use tempfile::TempDir;

/// Runs a test on both databases; after it, the ledger must be sound.
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($place:ident: &Place) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn test($place: &Place) $body

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                let place = Place::sqlite();
                test(&place).await;
                place.check_ledger().await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                let place = Place::postgres();
                test(&place).await;
                place.check_ledger().await;
            }
        }
    )*};
}
pub(crate) use on_both;

/// A database for one test, gone with it.
pub(crate) struct Place {
    pub(crate) location: Location,
    pub(crate) store: Store,
    folder: TempDir,
    schema: Option<String>,
    tampered: AtomicBool,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::open(Location::Sqlite(folder.path().join("eyebolt.db")), folder, None)
    }

    pub(crate) fn postgres() -> Self {
        let schema = format!("eyebolt_{}", JobId::new().to_string().replace('-', "_"));
        execute(server(), format!("CREATE SCHEMA {schema}"));
        let separator = if server().contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}options=-csearch_path%3D{schema}", server());
        Self::open(Location::Postgres(url), tempfile::tempdir().unwrap(), Some(schema))
    }

    fn open(location: Location, folder: TempDir, schema: Option<String>) -> Self {
        let store = open(&location);
        Self { location, store, folder, schema, tampered: AtomicBool::new(false) }
    }

    /// The same database, opened once more.
    pub(crate) fn again(&self) -> Store {
        open(&self.location)
    }

    /// A folder beside the database.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.folder.path().join("blobs")
    }

    /// Changes rows behind the store's back: the ledger need not be sound after it.
    pub(crate) fn tamper(&self, statement: &str) {
        self.tampered.store(true, Ordering::Relaxed);
        match &self.location {
            Location::Sqlite(path) => {
                rusqlite::Connection::open(path).unwrap().execute_batch(statement).unwrap();
            }
            Location::Postgres(url) => execute(url.clone(), statement.to_owned()),
        }
    }

    /// How many rows a table has.
    pub(crate) fn count(&self, table: &str) -> i64 {
        let statement = format!("SELECT COUNT(*) FROM {table}");
        match &self.location {
            Location::Sqlite(path) => {
                let file = rusqlite::Connection::open(path).unwrap();
                file.query_row(&statement, [], |row| row.get(0)).unwrap()
            }
            Location::Postgres(url) => {
                let count = || {
                    let mut client = postgres::Client::connect(url, NoTls).unwrap();
                    client.query_one(&statement, &[]).unwrap().get(0)
                };
                std::thread::scope(|scope| scope.spawn(count).join().unwrap())
            }
        }
    }

    /// A transaction of somebody else on PostgreSQL, begun.
    pub(crate) fn session(&self, statements: &str) -> Session {
        let Location::Postgres(url) = &self.location else { panic!("SQLite has one writer") };
        let (url, begin) = (url.clone(), statements.to_owned());
        let begun = std::thread::spawn(move || {
            let mut client = postgres::Client::connect(&url, NoTls).unwrap();
            client.batch_execute(&begin).unwrap();
            client
        });
        Session(begun.join().unwrap())
    }

    pub(crate) async fn check_ledger(&self) {
        if !self.tampered.load(Ordering::Relaxed) {
            assert_eq!(self.store.audit().await, Ok(Audit::default()), "the ledger is sound");
        }
    }
}

/// See [`Place::session`].
pub(crate) struct Session(postgres::Client);

impl Session {
    /// Runs what blocks where that is allowed.
    fn run<T: Send + 'static>(&mut self, work: impl FnOnce(&mut postgres::Client) -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(|| work(&mut self.0)).join().unwrap())
    }

    /// Until another transaction waits for this one's locks.
    pub(crate) fn until_somebody_waits(&mut self) {
        const WAITING: &str =
            "SELECT pid FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))";
        self.run(|client| while client.query(WAITING, &[]).unwrap().is_empty() {});
    }

    pub(crate) fn end(mut self, statement: &str) {
        let statement = statement.to_owned();
        // The client's own end blocks too.
        std::thread::spawn(move || self.0.batch_execute(&statement).unwrap()).join().unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(schema) = self.schema.take() {
            execute(server(), format!("DROP SCHEMA {schema} CASCADE"));
        }
    }
}

fn server() -> String {
    std::env::var("EYEBOLT_TEST_POSTGRES_URL").unwrap_or_else(|_| "postgres://root@127.0.0.1/test".to_owned())
}

/// Runs a statement on the PostgreSQL server, on a thread where blocking is allowed.
fn execute(url: String, statement: String) {
    let run = move || {
        let mut client = postgres::Client::connect(&url, NoTls).expect("a PostgreSQL server for tests");
        client.batch_execute(&statement).expect("a statement that runs");
    };
    std::thread::spawn(run).join().expect("the statement ran");
}

/// Connecting blocks, which a test's own thread must not.
fn open(location: &Location) -> Store {
    let location = location.clone();
    std::thread::spawn(move || Store::open(&location, at(0)).unwrap()).join().unwrap()
}

/// So many seconds after a fixed instant: 8 o'clock on a day.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) async fn project(store: &Store) -> Project {
    store.create_project("acme", at(0)).await.unwrap().unwrap()
}
