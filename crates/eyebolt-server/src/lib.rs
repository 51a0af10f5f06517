//! The server: HTTP at the edge, and the rooms that a request passes behind it.
//!
//! `http` answers, `access` tells who asks, `ingest` turns a body into a checked submission, `idempotency` tells a retry
//! from a new request, `quotas` knows what was agreed, `clients` who behaves, `admission` who may have a worker,
//! `jobs` makes work durable and runs it, `batches` takes many images at once, `events` and `webhooks` tell of it, `outbound` is the only way out, `analysis` is the
//! door to the engine. Errors of the rooms
//! become catalogue problems in `problem` alone.

pub mod access;
pub mod admission;
pub mod analysis;
pub mod batches;
mod chance;
pub mod cli;
pub mod clients;
pub mod config;
pub mod events;
mod failpoint;
pub mod http;
mod idempotency;
mod ingest;
pub mod jobs;
mod metrics;
pub mod outbound;
pub mod place;
mod prefer;
pub mod problem;
pub mod quotas;
pub mod run;
pub mod settings;
#[cfg(feature = "torture")]
mod torture;
pub mod webhooks;

pub use access::Access;
pub use analysis::Analyzer;
pub use batches::Batches;
pub use clients::Clients;
pub use config::{HttpSettings, MetricsReaders};
pub use events::Events;
pub use http::{App, Server};
pub use ingest::{BodyMemory, Declared};
pub use jobs::Jobs;
pub use outbound::Outbound;
pub use place::Place;
pub use problem::ApiError;
pub use quotas::Quotas;
pub use run::Runner;
pub use settings::Settings;
pub use webhooks::Webhooks;
