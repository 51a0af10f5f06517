/// Why the store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached, or is stopping. Nothing was done, or nobody knows: ask again by the key.
    #[error("the database is unavailable: {reason}")]
    Unavailable {
        /// In the database's words.
        reason: String,
    },
    /// No room on the disk; nothing was done.
    #[error("the database's disk is full")]
    Full,
    /// Another transaction was in the way; the store tries again by itself.
    #[error("another transaction was in the way")]
    Conflict,
    /// A commit or an fsync failed: what is on the disk is unknown until the next start.
    #[error("the store failed and must be restarted: {reason}")]
    Failed {
        /// In the database's words.
        reason: String,
    },
    /// Another process holds the data folder.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: String,
    },
    /// Another process, with a data folder of its own, holds the SQLite file.
    #[error("{path} is in use by another process")]
    DatabaseInUse {
        /// The file, without links.
        path: String,
    },
    /// The schema was made by a later version of this program.
    #[error("the database has migration {version} ({name}), this program knows {known}: run a newer eyebolt")]
    Newer {
        /// The first unknown migration.
        version: i64,
        /// Its name.
        name: String,
        /// How many this program knows.
        known: i64,
    },
    /// The schema is older than this program, or not there, and was not to be changed.
    #[error("the database has {there} of {known} migrations")]
    Incomplete {
        /// How many were applied.
        there: usize,
        /// How many this program knows.
        known: usize,
    },
    /// The schema was not made by this program.
    #[error(
        "migration {version} ({name}) of the database differs from this program's: it is of another build"
    )]
    Foreign {
        /// The first that differs.
        version: i64,
        /// Its name.
        name: String,
    },
    /// What was read can't have been written by this program.
    #[error("the database holds what it should not: {what}")]
    Corrupt {
        /// What, and where.
        what: String,
    },
    /// Any other refusal of the database: a defect here.
    #[error("the database refused: {reason}")]
    Database {
        /// In the database's words.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Stopped,
}

impl StoreError {
    /// Whether the transaction can't go on, so that its other moves are undone as well.
    pub(crate) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full | Self::Conflict | Self::Failed { .. })
    }
}
