//! The room "metrics": counts since the start in the words of Prometheus. What happens is counted as it happens; what stands is
//! read when somebody asks (`readings`). docs/metrics.md lists all of it.

mod readings;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use eyebolt_types::{BatchStatus, DedupStatus, ErrorCode, JobStatus};
use http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

pub(crate) use self::readings::Readings;

/// What every name begins with.
const PREFIX: &str = "eyebolt";

/// Of what is sent (`OpenMetrics` 1.0, which Prometheus reads since version 2.5).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From 5 ms to a minute, the longest that a request may take.
const DURATIONS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counts since the start. Cheap to clone; every clone counts in the same place.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    routes: Routes,
    requests: Family<AnswerLabels, Counter>,
    durations: Family<RouteLabel, Histogram, fn() -> Histogram>,
    jobs: Family<StatusLabel, Counter>,
    batches: Family<StatusLabel, Counter>,
    replays: Counter,
    joins: Counter,
    seen_before: Family<StatusLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix(PREFIX),
            routes: Routes::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            jobs: Family::default(),
            batches: Family::default(),
            replays: Counter::default(),
            joins: Counter::default(),
            seen_before: Family::default(),
        };
        inner.register();
        Self(Arc::new(inner))
    }
}

impl Inner {
    /// The encoder adds the unit's `_total` to counters.
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "From the end of the headers to the answer",
            self.durations.clone(),
        );
        registry.register("jobs_ended", "Jobs that ended, by how", self.jobs.clone());
        registry.register("batches_ended", "Batches that ended, by how", self.batches.clone());
        registry.register(
            "idempotency_replays",
            "Stored answers that were given again to their key",
            self.replays.clone(),
        );
        registry.register(
            "idempotency_joins",
            "Retries that were answered by the job that their key had begun",
            self.joins.clone(),
        );
        registry.register("dedup_hits", "Images that were seen before", self.seen_before.clone());
    }
}

impl Metrics {
    /// A request was answered. No route: the address is not one of ours.
    pub(crate) fn answered(
        &self,
        (method, route): (&Method, Option<&str>),
        (status, code): (StatusCode, Option<ErrorCode>),
        took: Duration,
    ) {
        let route = route.map_or("unmatched", |route| self.0.routes.name(route));
        let labels = AnswerLabels {
            route,
            method: method_name(method),
            status: status.as_u16(),
            code: code.map_or("", ErrorCode::as_str),
        };
        self.0.requests.get_or_create(&labels).inc();
        self.0.durations.get_or_create(&RouteLabel { route }).observe(took.as_secs_f64());
    }

    /// A job has ended.
    pub(crate) fn job_ended(&self, status: JobStatus) {
        self.0.jobs.get_or_create(&StatusLabel { status: status.name() }).inc();
    }

    /// A batch has ended.
    pub(crate) fn batch_ended(&self, status: BatchStatus) {
        self.0.batches.get_or_create(&StatusLabel { status: status.name() }).inc();
    }

    /// A stored answer was given again.
    pub(crate) fn replayed(&self) {
        self.0.replays.inc();
    }

    /// A retry was answered by the job of its key.
    pub(crate) fn joined(&self) {
        self.0.joins.inc();
    }

    /// An image was seen before.
    pub(crate) fn seen_before(&self, status: DedupStatus) {
        self.0.seen_before.get_or_create(&StatusLabel { status: status.name() }).inc();
    }

    /// All of it as text.
    pub(crate) fn write(&self, readings: &Readings) -> Result<String, fmt::Error> {
        let mut written = String::with_capacity(16 << 10);
        text::encode_registry(&mut written, &self.0.registry)?;
        text::encode_registry(&mut written, &readings.registry())?;
        text::encode_eof(&mut written)?;
        Ok(written)
    }
}

/// Clients may make methods up: they are no names of series.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The router's patterns as names that live as long as the process: there are a few dozen.
#[derive(Debug, Default)]
struct Routes(RwLock<HashSet<&'static str>>);

impl Routes {
    fn name(&self, route: &str) -> &'static str {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(route) {
            return name;
        }
        drop(known);
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = routes.get(route) {
            return name;
        }
        let name: &'static str = Box::leak(route.into());
        routes.insert(name);
        name
    }
}
