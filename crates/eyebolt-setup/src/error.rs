//! What can stop a setup.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a setup stopped: one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// `only` names something that isn't pinned.
    #[error("nothing here is called {name:?}: choose from {known}")]
    UnknownName {
        /// The name given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// `only` names a source that this platform does not have.
    #[error("{0}")]
    NotForPlatform(String),
    /// No package client was found.
    #[error(
        "{client} is needed to fetch {package} and was not found: install it, or fetch {file} on another machine \
         and run setup with --from DIR"
    )]
    NoClient {
        /// What was looked for.
        client: &'static str,
        /// `name==version` or `name@version`.
        package: String,
        /// The archive.
        file: String,
    },
    /// The package client ended with an error.
    #[error(
        "{client} could not fetch {package}: {tail} (check the network and the client's own settings, or fetch \
         {file} on another machine and run setup with --from DIR)"
    )]
    ClientFailed {
        /// The client that ran.
        client: String,
        /// `name==version` or `name@version`.
        package: String,
        /// The archive.
        file: String,
        /// The end of what the client wrote to its standard error.
        tail: String,
    },
    /// What the client brought is not what is pinned, twice.
    #[error(
        "{file} arrived wrong twice: sha256 {found} instead of {expected}; check what serves the packages, or run \
         setup with --from DIR and a sound copy"
    )]
    WrongDownload {
        /// The archive.
        file: String,
        /// The pinned digest, hex.
        expected: String,
        /// The digest found, hex.
        found: String,
    },
    /// The directory given with `from` lacks archives.
    #[error("{dir} lacks {files}", dir = dir.display())]
    MissingArchives {
        /// The directory.
        dir: PathBuf,
        /// The archives that are missing, each with the command that fetches it.
        files: String,
    },
    /// An archive in the directory given with `from` is not what is pinned.
    #[error("{path} is not the pinned archive: sha256 {found} instead of {expected}; replace it", path = path.display())]
    WrongArchive {
        /// The archive.
        path: PathBuf,
        /// The pinned digest, hex.
        expected: String,
        /// The digest found, hex.
        found: String,
    },
    /// An archive has the pinned digest and can't be read all the same, or lacks a file.
    #[error("{file} can't be used: {reason}")]
    BadArchive {
        /// The archive.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be made.
    #[error("{file} could not be made: {reason}")]
    Conversion {
        /// The file, relative to the models directory.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The disk is full.
    #[error("no space is left at {path}: make room and run setup again", path = path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// A place can't be written to.
    #[error(
        "{path} can't be written ({source}): change its owner or mode, or choose another models directory",
        path = path.display()
    )]
    NotWritable {
        /// What was being written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Anything else that the file system refused.
    #[error("could not {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl SetupError {
    /// Sorts a failure of the file system by what the user can do about it.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if action != "read" => {
                Self::NotWritable { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}
