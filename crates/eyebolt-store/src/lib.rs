//! Rows of Eyebolt: projects and keys, jobs and their steps, batches and their items, idempotency records, the ledger. In SQLite or PostgreSQL,
//! with the same statements. The only place that knows SQL.
//!
//! A method is one whole move of the domain in one transaction, and answers after its commit. It runs on a thread of
//! the store: a caller that goes away neither undoes nor doubles it.

mod acceptance;
mod accepting;
mod again;
mod alive;
mod batch;
mod blobs;
mod cap;
mod client;
mod closing;
mod content;
mod control;
mod database;
#[cfg(feature = "torture")]
mod defect;
mod delivery;
mod endpoint;
mod error;
mod event;
mod image;
mod job;
mod key;
mod key_secret;
mod ledger;
mod listing;
mod lock;
mod migrate;
mod pipeline;
mod project;
mod record;
mod recovery;
mod retention;
mod run;
mod secret;
mod signal;
mod task;
mod times;
mod usage;

use std::path::Path;

use jiff::Timestamp;

pub use acceptance::{Acceptance, Idempotency, Lease, NewImage, NewJob, NewStep};
pub use again::{Again, Parts, Retry};
pub use batch::{
    BatchAcceptance, BatchEnding, BatchFilter, BatchRetry, DueBatches, EarlyEnd, Fed, ItemFilter, ItemJob,
    ItemKey, Joined, NewBatch, OpenBatch, StagedImage, StagedItem, StoredBatch, StoredImage, StoredItem,
    WaitingItem,
};
pub use blobs::Blobs;
pub use cap::{Cap, Caps, Held, Month, Overrun};
pub use client::{
    ClientCounts, ClientHealth, ClientNotes, ClientRunaway, ClientTally, MOST_AGENTS, OTHER_AGENT,
};
pub use closing::{Answer, Charging, Closing};
pub use content::{ContentKey, NearEntry, NearSought, Search, Seen, Sought};
pub use control::Cancellation;
use database::Database;
pub use database::Location;
pub use delivery::{
    DeliveryAttempt, DeliveryFilter, DeliveryState, DueDelivery, DueEndpoint, LeasedEndpoint, Settlement,
    StoredDelivery,
};
pub use endpoint::{
    Creation, Endpoint, EndpointChange, EndpointKind, EndpointState, NewEndpoint, SealedSecret, SecretOwner,
};
pub use error::StoreError;
pub use event::{Horizon, NewEvent, StoredEvent, ToldAt};
pub use image::{MAX_INLINE, MAX_INLINE_DOCUMENT, document_blob, image_blob};
pub use job::{Document, StoredJob, StoredStep};
pub use key::{KeyInfo, NewKey, Principal, Shown};
pub use ledger::{Audit, Balance};
pub use listing::{JobFilter, ListedJob};
pub use lock::DataLock;
pub use pipeline::{PipelineFilter, StoredPipeline};
pub use project::{Project, ProjectChange};
pub use record::{BatchRecord, Known, Record, StoredAnswer, TOMBSTONE};
pub use recovery::{MAX_CRASHES, Reaped};
pub use retention::{Removed, SweepPlace};
pub use run::{Fenced, Heartbeat, LeasedJob, Line, StepOutcome, Waiting};
pub use secret::{ApiSecret, KeyHasher};
pub use signal::Signal;
pub use task::{Advance, FanOut, StoredTask, TakenOver, WorkEnd};
pub use usage::{Charge, Replays, UsageKind, UsageLine};

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    database: Database,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the database, makes or updates its schema and starts its threads. Blocks meanwhile.
    ///
    /// # Errors
    /// Where the database can't be reached, or has a schema that this program doesn't know.
    pub fn open(location: &Location, now: Timestamp) -> Result<Self, StoreError> {
        let now = times::micros(now);
        Ok(Self { database: Database::open(location, |schema| migrate::migrate(schema, now))? })
    }

    /// Opens a database whose schema is complete, and changes nothing in it: for a second process beside a server.
    /// Blocks meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] where the schema lacks something or the file is not there; otherwise as
    /// [`Store::open`].
    pub fn open_complete(location: &Location) -> Result<Self, StoreError> {
        if matches!(location, Location::Sqlite(path) if !path.exists()) {
            return Err(StoreError::Incomplete { there: 0, known: migrate::count() });
        }
        Ok(Self { database: Database::open(location, migrate::require_complete)? })
    }

    /// Takes a data folder for this process alone, and the SQLite file where the rows are in one: by whatever path it is
    /// named.
    ///
    /// # Errors
    /// [`StoreError::InUse`] and [`StoreError::DatabaseInUse`] where another process has them;
    /// [`StoreError::Unavailable`] where they can't be written, or the file has several names.
    pub fn lock(folder: &Path, location: &Location) -> Result<DataLock, StoreError> {
        DataLock::take(folder, location)
    }

    /// Ends, with the reason, when the store can't be trusted any more: the process must then end as well.
    pub async fn failure(&self) -> String {
        self.database.failure().await
    }
}
