//! The edge: one list of routes, one list of layers, one accept loop.

mod accept;
mod admin;
mod analyze;
mod answer;
mod caller;
mod capacity;
mod clients;
mod debug;
mod errors;
mod health;
mod jobs;
mod keys;
mod layers;
mod limits;
mod metrics;
mod models;
mod openapi;
mod pages;
mod problem;
mod ratelimit;
mod router;
mod serve;
mod stream;
mod usage;
mod witness;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::health::Readiness;
pub use self::{
    errors::{ErrorEntry, ErrorList},
    health::{Health, Ready},
    jobs::{JobList, JobSummary, StepList, StepResult},
    keys::{KeyState, KeyStatus},
    limits::{LimitReport, LimitRow, LimitWarning, Load, RecentRefusal},
    openapi::document,
    serve::{Server, Stopped},
    usage::{RowKind, UsageReport, UsageRow},
};
use crate::{Access, Analyzer, HttpSettings, Jobs, Quotas, ingest::Ingest};

/// What every handler can reach. Cheap to clone; every clone is the same server.
#[derive(Debug, Clone)]
pub struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    analyzer: Analyzer,
    access: Access,
    jobs: Jobs,
    quotas: Quotas,
    ingest: Ingest,
    readiness: Readiness,
    settings: Arc<HttpSettings>,
    /// Cancelled when a stopping server waits no longer: requests that still run are answered `shutting_down`.
    halt: CancellationToken,
}

impl App {
    /// A server of these rooms. `jobs` must have been started.
    pub fn new(analyzer: Analyzer, (access, jobs): (Access, Jobs), settings: HttpSettings) -> Self {
        let settings = Arc::new(settings);
        let max_file_bytes = analyzer.capabilities().limits.max_file_bytes;
        Self(Arc::new(Shared {
            ingest: Ingest::new(settings.clone(), max_file_bytes),
            readiness: Readiness::default(),
            halt: CancellationToken::new(),
            analyzer,
            access,
            quotas: jobs.quotas().clone(),
            jobs,
            settings,
        }))
    }

    /// What was agreed with projects.
    pub fn quotas(&self) -> Quotas {
        self.0.quotas.clone()
    }
}
