//! What stands, as it is read when somebody asks.

use std::sync::atomic::AtomicU64;

use eyebolt_types::Feature;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::PREFIX;
use crate::{
    admission::{CapacityReport, ClassReport, CostReport},
    clients::RunawayCounts,
    quotas::Refusals,
};

/// Where the rooms stand.
#[derive(Debug)]
pub(crate) struct Readings {
    /// The capacity law.
    pub(crate) capacity: CapacityReport,
    /// Limits of projects.
    pub(crate) quotas: Refusals,
    /// Memory for bodies: used, and all of it, bytes.
    pub(crate) body_memory: (u64, u64),
    /// Memory for decoded pixels: used, and all of it, bytes.
    pub(crate) decode_memory: (u64, u64),
    /// Who runs away.
    pub(crate) runaways: RunawayCounts,
}

type Labels = Vec<(&'static str, String)>;

fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.map(|(name, value)| (name, value.to_owned())).into()
}

/// Series that are made for one look.
struct Sheet(Registry);

impl Sheet {
    fn gauges(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, f64)>) {
        let family: Family<Labels, Gauge<f64, AtomicU64>> = Family::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let gauge: Gauge<f64, AtomicU64> = Gauge::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn counters(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, u64)>) {
        let family: Family<Labels, Counter> = Family::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    fn memory(&mut self, what: &str, (used, all): (u64, u64)) {
        let of = format!("Memory for {what}, bytes");
        let name = if what == "bodies" { "body_memory" } else { "decode_memory" };
        self.gauge(&format!("{name}_used_bytes"), &format!("{of} in use"), used as f64);
        self.gauge(&format!("{name}_limit_bytes"), &format!("{of} at most"), all as f64);
    }
}

impl Readings {
    pub(super) fn registry(&self) -> Registry {
        let mut sheet = Sheet(Registry::with_prefix(PREFIX));
        let version = labels([("version", env!("CARGO_PKG_VERSION"))]);
        sheet.gauges("build_info", "1; the label tells the version", [(version, 1.0)]);
        self.workers(&mut sheet);
        self.classes(&mut sheet);
        self.costs(&mut sheet);
        let refusals = self.quotas.counts().map(|(policy, shadow, count)| {
            let mode = if shadow { "shadow" } else { "enforced" };
            (labels([("policy", policy.name()), ("mode", mode)]), count)
        });
        sheet.counters("quota_refusals", "Requests over a limit of their project", refusals);
        sheet.memory("bodies", self.body_memory);
        sheet.memory("decoded pixels", self.decode_memory);
        self.runaways(&mut sheet);
        sheet.0
    }

    fn workers(&self, sheet: &mut Sheet) {
        let CapacityReport { workers, running, hung, held_back, .. } = self.capacity;
        sheet.gauge("capacity_workers", "Jobs that may run at once", workers as f64);
        sheet.gauge("capacity_running", "Jobs that run", running as f64);
        sheet.gauge("capacity_hung", "Workers that are not counted on", hung as f64);
        sheet.counter(
            "capacity_refusals_held_back",
            "Refusals that came late, to clients that came early",
            held_back,
        );
    }

    fn classes(&self, sheet: &mut Sheet) {
        let each = |read: fn(&ClassReport) -> f64| {
            let row = move |class: &ClassReport| (labels([("class", class.class.name())]), read(class));
            self.capacity.classes.iter().map(row).collect::<Vec<_>>()
        };
        sheet.gauges("capacity_waiting", "Requests and jobs that wait", each(|class| class.waiting as f64));
        sheet.gauges(
            "capacity_work_seconds",
            "Predicted seconds of a worker for what waits and is at least as urgent",
            each(|class| class.work_seconds),
        );
        sheet.gauges("capacity_bound_seconds", "How much of it may wait", each(|class| class.bound_seconds));
        sheet.gauges(
            "capacity_promised_bound_seconds",
            "How much of it may wait that is promised",
            each(|class| class.promised_bound_seconds),
        );
        let decisions = self.capacity.classes.iter().flat_map(|class| {
            let one = class.decisions;
            let counts = [
                ("admitted", one.admitted),
                ("refused", one.refused),
                ("evicted", one.evicted),
                ("answered_later", one.answered_later),
            ];
            counts.map(|(what, count)| (labels([("class", class.class.name()), ("decision", what)]), count))
        });
        sheet.counters("capacity_decisions", "What was decided of requests", decisions);
    }

    fn costs(&self, sheet: &mut Sheet) {
        let each = |read: fn(&CostReport) -> f64| {
            let row = move |cost: &CostReport| {
                let feature = cost.feature.map_or("", Feature::name);
                (labels([("feature", feature), ("model", cost.model.as_deref().unwrap_or(""))]), read(cost))
            };
            self.capacity.costs.iter().map(row).collect::<Vec<_>>()
        };
        sheet.gauges("capacity_cost_base_seconds", "Learned time of a step", each(|cost| cost.base_ms / 1e3));
        sheet.gauges(
            "capacity_cost_megapixel_seconds",
            "Learned time of a step for each megapixel",
            each(|cost| cost.ms_per_megapixel / 1e3),
        );
        sheet.gauges(
            "capacity_cost_correction",
            "How much slower than learned the machine is of late",
            each(|cost| cost.correction),
        );
    }

    fn runaways(&self, sheet: &mut Sheet) {
        let RunawayCounts { now, begun, detained } = self.runaways;
        sheet.gauge("runaway_clients", "Clients that run away", now as f64);
        let begun = begun.map(|(cause, count)| (labels([("cause", cause.name())]), count));
        sheet.counters("runaways", "Clients that began to run away", begun);
        sheet.counter("runaway_requests", "Requests that had to wait for it, or would have had to", detained);
    }
}
