//! The edge: one list of routes, one list of layers, one accept loop.

mod accept;
mod admin;
mod analyze;
mod answer;
mod batch_results;
mod batches;
mod caller;
mod capacity;
mod clients;
mod debug;
mod errors;
mod events;
mod health;
mod jobs;
mod json;
mod keys;
mod layers;
mod limits;
mod metrics;
mod models;
mod openapi;
mod pages;
mod pipelines;
mod problem;
mod query;
mod ratelimit;
mod router;
mod serve;
mod steps;
mod stream;
mod unread;
mod usage;
mod webhooks;
mod witness;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::health::Readiness;
pub use self::{
    errors::{ErrorEntry, ErrorList},
    health::{Health, Ready},
    jobs::{JobList, JobSummary},
    keys::{KeyState, KeyStatus},
    limits::{LimitReport, LimitRow, LimitWarning, Load, RecentRefusal},
    openapi::document,
    serve::{Server, Stopped},
    steps::{StepList, StepResult},
    usage::{RowKind, UsageReport, UsageRow},
};
use crate::{Access, Analyzer, Batches, Events, HttpSettings, Jobs, Quotas, Webhooks, ingest::Ingest};

/// What every handler can reach. Cheap to clone; every clone is the same server.
#[derive(Debug, Clone)]
pub struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    analyzer: Analyzer,
    access: Access,
    jobs: Jobs,
    batches: Batches,
    quotas: Quotas,
    events: Events,
    webhooks: Webhooks,
    ingest: Ingest,
    readiness: Readiness,
    settings: Arc<HttpSettings>,
    /// Cancelled when a stopping server waits no longer: requests that still run are answered `shutting_down`.
    halt: CancellationToken,
}

/// The rooms behind the edge; those that work by themselves must have been started.
#[derive(Debug)]
pub struct Rooms {
    /// Who asks.
    pub access: Access,
    /// What is done.
    pub jobs: Jobs,
    /// What is done of many images.
    pub batches: Batches,
    /// What is streamed.
    pub events: Events,
    /// What is sent.
    pub webhooks: Webhooks,
}

impl App {
    /// A server of these rooms.
    pub fn new(analyzer: Analyzer, rooms: Rooms, settings: HttpSettings) -> Self {
        let Rooms { access, jobs, batches, events, webhooks } = rooms;
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
            batches,
            events,
            webhooks,
            settings,
        }))
    }

    /// What was agreed with projects.
    pub fn quotas(&self) -> Quotas {
        self.0.quotas.clone()
    }
}
