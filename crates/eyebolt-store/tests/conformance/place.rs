use eyebolt_store::{
    Acceptance, Claim, Closing, Idempotency, Location, NewJob, NewStep, Project, Store, StoredAnswer,
};
use eyebolt_types::{
    Feature, JobStatus, Mode,
    id::{JobId, ProjectId, StepId},
};
use jiff::{SignedDuration, Timestamp};
use postgres::NoTls;
use tempfile::TempDir;

/// Runs a test on both databases.
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($place:ident: Place) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn test($place: Place) $body

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                test(Place::sqlite()).await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                test(Place::postgres()).await;
            }
        }
    )*};
}
pub(crate) use on_both;

/// A database for one test, gone with it.
pub(crate) struct Place {
    pub(crate) location: Location,
    pub(crate) store: Store,
    _folder: TempDir,
    schema: Option<String>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::open(Location::Sqlite(folder.path().join("eyebolt.db")), folder, None)
    }

    pub(crate) fn postgres() -> Self {
        let schema = format!("eyebolt_{}", JobId::new().to_string().replace('-', "_"));
        let name = schema.clone();
        execute(format!("CREATE SCHEMA {name}"));
        let separator = if server().contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}options=-csearch_path%3D{schema}", server());
        Self::open(Location::Postgres(url), tempfile::tempdir().unwrap(), Some(schema))
    }

    fn open(location: Location, folder: TempDir, schema: Option<String>) -> Self {
        let store = open(&location);
        Self { location, store, _folder: folder, schema }
    }

    /// The same database, opened once more.
    pub(crate) fn again(&self) -> Store {
        open(&self.location)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(schema) = self.schema.take() {
            execute(format!("DROP SCHEMA {schema} CASCADE"));
        }
    }
}

fn server() -> String {
    std::env::var("EYEBOLT_TEST_POSTGRES_URL").unwrap_or_else(|_| "postgres://root@127.0.0.1/test".to_owned())
}

/// Runs a statement on the PostgreSQL server, on a thread where blocking is allowed.
fn execute(statement: String) {
    let run = move || {
        let mut client = postgres::Client::connect(&server(), NoTls).expect("a PostgreSQL server for tests");
        client.batch_execute(&statement).expect("a schema for this test");
    };
    std::thread::spawn(run).join().expect("the statement ran");
}

/// Connecting blocks, which a test's own thread must not.
fn open(location: &Location) -> Store {
    let location = location.clone();
    std::thread::spawn(move || Store::open(&location, at(0)).unwrap()).join().unwrap()
}

/// So many seconds after a fixed instant.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) async fn project(store: &Store) -> Project {
    store.create_project("acme", at(0)).await.unwrap().unwrap()
}

/// A job of two steps that costs two units, known by this key.
pub(crate) fn job(project: ProjectId, key: &str) -> NewJob {
    NewJob {
        id: JobId::new(),
        project,
        mode: Mode::Live,
        key: None,
        request: r#"{"features":["objects","text"]}"#.to_owned(),
        input: "{}".to_owned(),
        steps: [Feature::Objects, Feature::Text].map(|feature| NewStep { id: StepId::new(), feature }).into(),
        units: 2,
        deadline: at(600),
        idempotency: Some(Idempotency { key_hash: key.as_bytes().to_vec(), fingerprint: b"what".to_vec() }),
    }
}

/// Accepts a job under this key.
pub(crate) async fn accepted(store: &Store, project: ProjectId, key: &str) -> JobId {
    let job = job(project, key);
    let id = job.id;
    assert_eq!(store.accept(job, at(1)).await, Ok(Acceptance::Accepted));
    id
}

pub(crate) fn claim(owner: &str, lease_until: i64) -> Claim {
    Claim { owner: owner.to_owned(), limit: 10, lease_until: at(lease_until) }
}

pub(crate) fn closing(status: JobStatus, used: u64) -> Closing {
    let answer = StoredAnswer { status: 200, headers: "{}".to_owned(), body: b"answer".to_vec() };
    Closing { status, error: None, used, answer, expires_at: at(1000) }
}
