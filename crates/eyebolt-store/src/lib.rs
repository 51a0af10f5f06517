//! Rows of Eyebolt: projects and keys, jobs and their steps, idempotency records, the ledger. In SQLite or PostgreSQL,
//! with the same statements. The only place that knows SQL.
//!
//! A method is one whole move of the domain in one transaction, and answers after its commit. It runs on a thread of
//! the store: a caller that goes away neither undoes nor doubles it.

mod acceptance;
mod content;
mod database;
mod error;
mod key;
mod ledger;
mod lock;
mod migrate;
mod project;
mod run;
mod secret;
mod times;

use std::path::Path;

use jiff::Timestamp;

pub use acceptance::{Acceptance, Claimed, Idempotency, NewJob, NewStep, Record, StoredAnswer};
pub use content::{ContentKey, NearEntry, NearSought, Search, Seen, Sought};
use database::Database;
pub use database::Location;
pub use error::StoreError;
pub use key::{KeyInfo, NewKey, Principal};
pub use ledger::{Audit, Balance};
pub use lock::DataLock;
pub use project::Project;
pub use run::{Claim, Closing, Fenced, Heartbeat, LeasedJob, StepOutcome};
pub use secret::{ApiSecret, KeyHasher};

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the database, makes or updates its schema and starts its threads. Blocks meanwhile.
    ///
    /// # Errors
    /// Where the database can't be reached, or has a schema that this program doesn't know.
    pub fn open(location: &Location, now: Timestamp) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open(location, times::micros(now))? })
    }

    /// Takes a data folder for this process alone.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another process has it; [`StoreError::Unavailable`] where it can't be written.
    pub fn lock(folder: &Path) -> Result<DataLock, StoreError> {
        DataLock::take(folder)
    }

    /// Ends, with the reason, when the store can't be trusted any more: the process must then end as well.
    pub async fn failure(&self) -> String {
        self.database.failure().await
    }
}
