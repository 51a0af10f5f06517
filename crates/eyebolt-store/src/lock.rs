use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Location, StoreError};

const NAME: &str = "eyebolt.lock";

/// A data folder and its SQLite file, held by this process; free again when dropped, or when the process dies.
#[derive(Debug)]
pub struct DataLock {
    folder: File,
    /// None where the rows are on a server.
    database: Option<File>,
}

impl DataLock {
    pub(crate) fn take(folder: &Path, location: &Location) -> Result<Self, StoreError> {
        let path = folder.join(NAME);
        let held = lock(&path)?;
        let held = held.ok_or_else(|| StoreError::InUse { path: path.display().to_string() })?;
        let database = match location {
            Location::Sqlite(path) => Some(lock_database(path)?),
            Location::Postgres(_) => None,
        };
        Ok(Self { folder: held, database })
    }
}

/// Said, not left to the closing of the files: a child process that is just being started has copies of them, and a lock
/// lives as long as any copy.
impl Drop for DataLock {
    fn drop(&mut self) {
        for file in [Some(&self.folder), self.database.as_ref()].into_iter().flatten() {
            // One that can't be freed so is freed with the process.
            _ = file.unlock();
        }
    }
}

/// Two servers in two folders may name one file, each in its own way: so the lock is beside the file itself, wherever links
/// lead. Not on it: whoever closes a file takes SQLite's own locks on it from his process.
fn lock_database(path: &Path) -> Result<File, StoreError> {
    let file = real_file(path).map_err(|error| unavailable(path, &error))?;
    let mut name = file.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".lock");
    let held = lock(&file.with_file_name(name))?;
    held.ok_or_else(|| StoreError::DatabaseInUse { path: file.display().to_string() })
}

/// The file that the path leads to, made where it is missing: an empty one is a database of nothing.
fn real_file(path: &Path) -> io::Result<PathBuf> {
    if !path.exists() {
        OpenOptions::new().create(true).append(true).open(path)?;
    }
    let file = path.canonicalize()?;
    let names = fs::metadata(&file)?.nlink();
    if names > 1 {
        return Err(io::Error::other(format!(
            "the file has {names} names (hard links): SQLite keeps a log beside each name, so that work done under one is \
             lost under the other. Leave one name, or copy the file"
        )));
    }
    Ok(file)
}

/// `None`: another process has it.
fn lock(path: &Path) -> Result<Option<File>, StoreError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| unavailable(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unavailable(path, &error)),
    }
}

fn unavailable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable { reason: format!("{}: {error}", path.display()) }
}
