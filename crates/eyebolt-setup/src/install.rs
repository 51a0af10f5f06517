//! Writes to a scratch directory on the same file system, makes it durable, and renames it into place.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::error::SetupError;

const LOCK: &str = ".setup.lock";
const SCRATCH: &str = ".setup-tmp";

/// The right to change a models directory: one run has it, others wait. The system takes it back when the process
/// ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held open")] File);

impl Lock {
    /// Makes the models directory where it is missing, and waits for the lock; `waiting` is called before.
    pub(crate) fn take(models_dir: &Path, waiting: &mut dyn FnMut()) -> Result<Self, SetupError> {
        fs::create_dir_all(models_dir).map_err(|error| SetupError::io("create", models_dir, error))?;
        let path = models_dir.join(LOCK);
        let fail = |error| SetupError::io("lock", &path, error);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => return Ok(Self(file)),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
            Err(TryLockError::WouldBlock) => waiting(),
        }
        file.lock().map_err(fail)?;
        Ok(Self(file))
    }
}

/// A directory for unfinished files; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Clears what a killed run left behind (the lock says that no other run is at work) and makes it anew.
    pub(crate) fn new(models_dir: &Path, _lock: &Lock) -> Result<Self, SetupError> {
        let root = models_dir.join(SCRATCH);
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(SetupError::io("remove", &root, error));
            }
            _ => {}
        }
        fs::create_dir_all(&root).map_err(|error| SetupError::io("create", &root, error))?;
        Ok(Self(root))
    }

    /// Makes an empty directory in it. Its name is random: the client of a killed run may still write to an old one.
    pub(crate) fn directory(&self) -> Result<PathBuf, SetupError> {
        let made = TempDir::with_prefix_in("part-", &self.0);
        // Kept: the whole scratch goes at once.
        made.map(TempDir::keep).map_err(|error| SetupError::io("create", &self.0, error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A directory under construction.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    scratch: &'a Scratch,
    path: PathBuf,
    bytes: u64,
}

impl<'a> Staged<'a> {
    /// An empty one.
    pub(crate) fn new(scratch: &'a Scratch) -> Result<Self, SetupError> {
        Ok(Self { scratch, path: scratch.directory()?, bytes: 0 })
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> Result<(), SetupError> {
        write_durably(&self.path.join(name), content)?;
        self.bytes += content.len() as u64;
        Ok(())
    }

    /// Takes the place of `target`; gives the bytes written. What was there goes to the scratch first, as a
    /// directory can't be renamed onto a full one.
    pub(crate) fn install(self, target: &Path) -> Result<u64, SetupError> {
        let parent = target.parent().unwrap_or(target);
        fs::create_dir_all(parent).map_err(|error| SetupError::io("create", parent, error))?;
        readable_by_all(&self.path)?;
        sync_directory(&self.path)?;
        if fs::symlink_metadata(target).is_ok() {
            rename(target, &self.scratch.directory()?.join("replaced"))?;
        }
        rename(&self.path, target)?;
        sync_directory(parent)?;
        Ok(self.bytes)
    }
}

/// Replaces one file.
pub(crate) fn replace_file(scratch: &Scratch, target: &Path, content: &[u8]) -> Result<(), SetupError> {
    let written = scratch.directory()?.join("file");
    write_durably(&written, content)?;
    rename(&written, target)?;
    sync_directory(target.parent().unwrap_or(target))
}

fn write_durably(path: &Path, content: &[u8]) -> Result<(), SetupError> {
    let fail = |error| SetupError::io("write", path, error);
    let mut file = File::create(path).map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.sync_all().map_err(fail)
}

fn rename(from: &Path, to: &Path) -> Result<(), SetupError> {
    fs::rename(from, to).map_err(|error| SetupError::io("replace", to, error))
}

/// A rename is durable once its directory is.
fn sync_directory(path: &Path) -> Result<(), SetupError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| SetupError::io("write", path, error))
}

/// Temporary directories are private; the server may run as another user than the one who set it up.
fn readable_by_all(path: &Path) -> Result<(), SetupError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, mode).map_err(|error| SetupError::io("write", path, error))?;
    }
    Ok(())
}
