//! The place: the data folder of a server, with its lock, the secret that API keys are hashed with, and the database.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use eyebolt_store::{Blobs, DataLock, KeyHasher, Location, Store, StoreError};
use eyebolt_types::{Clock, id::RequestId};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::access::{AccessSettings, Hidden};

/// Section `storage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// The folder of everything that must outlive the process.
    pub data_dir: PathBuf,
    /// `sqlite:PATH` or `postgres://…`; empty: `eyebolt.db` in the data folder. Hidden, since it may hold a password.
    pub database_url: Hidden,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self { data_dir: PathBuf::from("./eyebolt-data"), database_url: Hidden::default() }
    }
}

impl StorageSettings {
    /// Where the rows are. `None` where the URL is of no known kind.
    pub fn location(&self) -> Option<Location> {
        let url = self.database_url.reveal();
        if url.is_empty() {
            return Some(Location::Sqlite(self.data_dir.join("eyebolt.db")));
        }
        // `:memory:` and the like would lose everything.
        let file = |path: &&str| !path.is_empty() && !path.starts_with(':') && !path.starts_with("file:");
        if let Some(path) = url.strip_prefix("sqlite:").filter(file) {
            return Some(Location::Sqlite(PathBuf::from(path)));
        }
        let postgres = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        postgres.then(|| Location::Postgres(url.to_owned()))
    }

    /// Where the rows are, for people: without a password.
    pub fn database(&self) -> String {
        match self.location() {
            Some(Location::Sqlite(path)) => format!("SQLite in {}", path.display()),
            Some(Location::Postgres(url)) => {
                let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let head = rest.split('?').next().unwrap_or_default();
                format!("PostgreSQL at {}", head.rsplit('@').next().unwrap_or_default())
            }
            None => "of no known kind".to_owned(),
        }
    }

    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            found.push("storage.data_dir is empty".to_owned());
        }
        if self.location().is_none() {
            found.push(
                "storage.database_url is neither sqlite: with the path of a file nor postgres://".to_owned(),
            );
        }
        found
    }
}

/// Why the place can't be opened.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PlaceError {
    #[error("the data folder {path} can't be used: {cause}")]
    Folder { path: PathBuf, cause: io::Error },
    #[error("{path}: another server works in this data folder; storage.data_dir names another one")]
    InUse { path: String },
    #[error(
        "{path}: another server, with another data folder, works with this SQLite file. Give each server its own \
         (storage.database_url), or PostgreSQL to all of them"
    )]
    DatabaseInUse { path: String },
    #[error(
        "the database is not ready ({0}), and a running process holds it or the data folder: stop it, or use the \
         eyebolt that belongs to it"
    )]
    NotReady(StoreError),
    #[error(
        "{path} is no data folder: storage.data_dir (EYEBOLT_DATA_DIR) names the one that the server works in, and eyebolt \
         project create makes a new one"
    )]
    Missing { path: String },
    #[error(
        "the database has {there} of {known} migrations: eyebolt serve brings it up to date when it starts"
    )]
    Behind { there: usize, known: usize },
    #[error(transparent)]
    Store(StoreError),
    #[error("{path} can't be used: {reason}")]
    SecretFile { path: PathBuf, reason: String },
    #[error(
        "the keys of this database were hashed with another secret: with this one none of them would be known. Set \
         access.key_secret, or put back {path}, as it was"
    )]
    OtherSecret { path: PathBuf },
}

impl From<StoreError> for PlaceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InUse { path } => Self::InUse { path },
            StoreError::DatabaseInUse { path } => Self::DatabaseInUse { path },
            error => Self::Store(error),
        }
    }
}

/// An open data folder.
#[derive(Clone)]
pub struct Place {
    /// The rows.
    pub store: Store,
    /// What hashes API keys.
    pub hasher: KeyHasher,
    /// The folder.
    pub folder: PathBuf,
    /// Whether it was missing or empty before it was opened.
    pub is_new: bool,
}

/// What opening needs to know.
#[derive(Clone)]
struct Wanted {
    folder: PathBuf,
    location: Location,
    key_secret: Hidden,
    clock: Clock,
}

impl Place {
    /// Opens the folder for a server: it, and a SQLite file, are this process's alone while the lock lives. What is missing
    /// is made.
    ///
    /// # Errors
    /// Where another server has it, it can't be written, or database and secret don't fit.
    pub async fn open(
        storage: &StorageSettings,
        access: &AccessSettings,
        clock: &Clock,
    ) -> Result<(Self, DataLock), PlaceError> {
        let wanted = wanted(storage, access, clock)?;
        let (place, made, lock) = away(move || {
            let is_new = make_folder(&wanted.folder)?;
            let lock = Store::lock(&wanted.folder, &wanted.location)?;
            let (place, made) = make(&wanted)?;
            Ok((Self { is_new, ..place }, made, lock))
        })
        .await?;
        place.check(made).await?;
        Ok((place, lock))
    }

    /// Opens the folder beside a server that may run on it: for the command line, where it may make a new one. What is missing is
    /// made only where no server holds it.
    ///
    /// # Errors
    /// As [`Place::open`]; [`PlaceError::NotReady`] where a process that holds the folder has another schema.
    pub async fn open_beside(
        storage: &StorageSettings,
        access: &AccessSettings,
        clock: &Clock,
    ) -> Result<Self, PlaceError> {
        let wanted = wanted(storage, access, clock)?;
        let (place, made) = away(move || {
            let is_new = make_folder(&wanted.folder)?;
            let (place, made) = match join(&wanted) {
                Err(PlaceError::Store(behind @ StoreError::Incomplete { .. })) => {
                    // Nobody may work on a schema while it changes.
                    let lock = Store::lock(&wanted.folder, &wanted.location);
                    let _lock = lock.map_err(|error| match error {
                        StoreError::InUse { .. } | StoreError::DatabaseInUse { .. } => {
                            PlaceError::NotReady(behind)
                        }
                        error => error.into(),
                    })?;
                    make(&wanted)?
                }
                joined => (joined?, false),
            };
            Ok((Self { is_new, ..place }, made))
        })
        .await?;
        place.check(made).await?;
        Ok(place)
    }

    /// A name of this folder that stays the same: leases of an earlier run of its server are known by it.
    ///
    /// # Errors
    /// Where it can't be read or written.
    pub fn instance(&self) -> Result<String, PlaceError> {
        let path = self.folder.join("instance");
        let failed = |cause| PlaceError::Folder { path: path.clone(), cause };
        match fs::read_to_string(&path) {
            Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        // A name that was lost is as good as a new one: old leases then run out by themselves.
        let name = RequestId::new().to_string().replace("req_", "instance_");
        fs::write(&path, &name).map_err(failed)?;
        Ok(name)
    }

    /// The files beside the rows.
    ///
    /// # Errors
    /// Where their folder can't be made.
    pub fn blobs(&self) -> Result<Blobs, PlaceError> {
        Ok(Blobs::in_folder(&self.folder.join("blobs"))?)
    }

    /// Opens what is there and complete, and changes nothing.
    ///
    /// # Errors
    /// As [`Place::open`]; [`PlaceError::Missing`] and [`PlaceError::Behind`] where something is missing.
    pub async fn open_existing(
        storage: &StorageSettings,
        access: &AccessSettings,
        clock: &Clock,
    ) -> Result<Self, PlaceError> {
        let wanted = wanted(storage, access, clock)?;
        let folder = wanted.folder.clone();
        let place = away(move || join(&wanted)).await.map_err(|error| match error {
            PlaceError::Store(StoreError::Incomplete { there: 0, .. }) => {
                PlaceError::Missing { path: whole(&folder) }
            }
            PlaceError::Store(StoreError::Incomplete { there, known }) => PlaceError::Behind { there, known },
            error => error,
        })?;
        place.check(false).await?;
        Ok(place)
    }

    /// Where the folder is, whatever folder the process works in.
    pub fn whole_path(&self) -> String {
        whole(&self.folder)
    }

    /// Refuses a secret that is not the one of the database.
    async fn check(&self, made: bool) -> Result<(), PlaceError> {
        if self.store.knows_hasher(&self.hasher).await? {
            return Ok(());
        }
        let path = secret_path(&self.folder);
        if made {
            // The right one was lost: a wrong one in its place would hide that.
            let _ = fs::remove_file(&path);
        }
        Err(PlaceError::OtherSecret { path })
    }
}

fn wanted(storage: &StorageSettings, access: &AccessSettings, clock: &Clock) -> Result<Wanted, PlaceError> {
    let unknown =
        || StoreError::Unavailable { reason: "storage.database_url is of no known kind".to_owned() };
    Ok(Wanted {
        folder: storage.data_dir.clone(),
        location: storage.location().ok_or_else(unknown)?,
        key_secret: access.key_secret.clone(),
        clock: clock.clone(),
    })
}

/// Runs what blocks on a thread of its own. The databases' clients must not be opened on a thread of the runtime.
async fn away<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PlaceError> + Send + 'static,
) -> Result<T, PlaceError> {
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || answer.send(work()).map_err(drop));
    answered.await.map_err(|_| PlaceError::Store(StoreError::Stopped))?
}

fn whole(folder: &Path) -> String {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string()
}

/// Makes the folder where it is missing. Whether nothing is in it.
fn make_folder(path: &Path) -> Result<bool, PlaceError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let entries = made.and_then(|()| fs::read_dir(path));
    Ok(entries.map_err(|cause| PlaceError::Folder { path: path.to_owned(), cause })?.next().is_none())
}

/// Opens with the right to make and change. Whether the secret is new.
fn make(wanted: &Wanted) -> Result<(Place, bool), PlaceError> {
    let (secret, made) = match key_secret(wanted)? {
        Some(secret) => (secret, false),
        None => (make_secret(&wanted.folder)?, true),
    };
    let store = Store::open(&wanted.location, wanted.clock.now())?;
    Ok((Place { store, hasher: KeyHasher::new(&secret), folder: wanted.folder.clone(), is_new: false }, made))
}

/// Opens what is complete.
fn join(wanted: &Wanted) -> Result<Place, PlaceError> {
    let store = Store::open_complete(&wanted.location)?;
    let secret = key_secret(wanted)?.ok_or_else(|| PlaceError::SecretFile {
        path: secret_path(&wanted.folder),
        reason: "it is missing, and access.key_secret is not set; the database has keys that need it"
            .to_owned(),
    })?;
    Ok(Place { store, hasher: KeyHasher::new(&secret), folder: wanted.folder.clone(), is_new: false })
}

/// Bytes of a secret that is made.
const SECRET_BYTES: usize = 32;

fn secret_path(folder: &Path) -> PathBuf {
    folder.join("key-hash.secret")
}

/// The secret of the settings, or else of the file, where there is one.
fn key_secret(wanted: &Wanted) -> Result<Option<Vec<u8>>, PlaceError> {
    let set = wanted.key_secret.reveal();
    if !set.is_empty() {
        return Ok(Some(set.as_bytes().to_vec()));
    }
    let path = secret_path(&wanted.folder);
    match fs::read(&path) {
        Ok(secret) if secret.len() == SECRET_BYTES => Ok(Some(secret)),
        Ok(other) => {
            let reason = format!("it has {} bytes, not {SECRET_BYTES}", other.len());
            Err(PlaceError::SecretFile { path, reason })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PlaceError::SecretFile { path, reason: error.to_string() }),
    }
}

/// Makes the file; the caller holds the folder's lock.
fn make_secret(folder: &Path) -> Result<Vec<u8>, PlaceError> {
    let mut secret = vec![0; SECRET_BYTES];
    let path = secret_path(folder);
    let failed = |reason: String| PlaceError::SecretFile { path: path.clone(), reason };
    rand::fill(&mut secret).map_err(|_| failed("the system has no random numbers".to_owned()))?;
    write_durably(folder, &path, &secret).map_err(|error| failed(error.to_string()))?;
    Ok(secret)
}

/// The whole file or none, also after a power cut.
fn write_durably(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}
