use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::Ticket;

/// One that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) ticket: Ticket,
    /// Predicted seconds of a worker.
    pub(crate) service: f64,
    pub(crate) since: Duration,
    /// It was accepted for good, and is never turned away.
    pub(crate) promised: bool,
}

/// Those of one class that wait, in a line for each tenant.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    lines: HashMap<T, Line>,
    work: f64,
    count: usize,
    /// Of the line that was served last.
    virtual_time: f64,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    unpromised: usize,
    work: f64,
    /// Work that the tenant was served, in seconds over its weight.
    virtual_time: f64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), work: 0.0, count: 0, virtual_time: 0.0 }
    }
}

impl<T: Eq + Hash + Clone> Lane<T> {
    /// Predicted seconds of all that wait.
    pub(crate) fn work(&self) -> f64 {
        self.work
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many of a tenant's wait that could still be turned away.
    pub(crate) fn unpromised(&self, tenant: &T) -> usize {
        self.lines.get(tenant).map_or(0, |line| line.unpromised)
    }

    /// How many wait, by tenant.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&T, usize)> {
        let counts = self.lines.iter().map(|(tenant, line)| (tenant, line.waiting.len()));
        counts.filter(|(_, count)| *count > 0)
    }

    pub(crate) fn count_of(&self, tenant: &T) -> usize {
        self.lines.get(tenant).map_or(0, |line| line.waiting.len())
    }

    /// Predicted seconds of a tenant's that wait.
    pub(crate) fn work_of(&self, tenant: &T) -> f64 {
        self.lines.get(tenant).map_or(0.0, |line| line.work)
    }

    /// Tenants who have some that could still be turned away: how many, and since when the newest of them waits.
    pub(crate) fn unpromised_lines(&self) -> impl Iterator<Item = (&T, usize, Duration)> {
        self.lines.iter().filter(|(_, line)| line.unpromised > 0).map(|(tenant, line)| {
            let newest = line.waiting.iter().rev().find(|waiting| !waiting.promised);
            (tenant, line.unpromised, newest.map_or(Duration::ZERO, |waiting| waiting.since))
        })
    }

    pub(crate) fn push(&mut self, tenant: T, waiting: Waiting) {
        let line = self.lines.entry(tenant).or_default();
        if line.waiting.is_empty() {
            // Whoever was away saved nothing up.
            line.virtual_time = line.virtual_time.max(self.virtual_time);
        }
        line.unpromised += usize::from(!waiting.promised);
        line.waiting.push_back(waiting);
        line.work += waiting.service;
        self.count += 1;
        self.work += waiting.service;
    }

    /// The tenant to be served next: the one that was served least.
    pub(crate) fn head(&self) -> Option<(&T, Waiting)> {
        let waiting = self.lines.iter().filter_map(|(tenant, line)| {
            line.waiting.front().map(|first| (tenant, line.virtual_time, *first))
        });
        // Of two that were served alike the one that waits for longer.
        let least = waiting.min_by(|a, b| a.1.total_cmp(&b.1).then(a.2.ticket.cmp(&b.2.ticket)));
        least.map(|(tenant, _, first)| (tenant, first))
    }

    /// Takes the tenant's first, and counts what it is about to be served; `None` where none waits.
    pub(crate) fn serve(&mut self, tenant: &T, weight: f64) -> Option<Waiting> {
        let line = self.lines.get_mut(tenant)?;
        let first = line.waiting.pop_front()?;
        self.virtual_time = self.virtual_time.max(line.virtual_time);
        line.virtual_time += first.service / weight;
        line.unpromised -= usize::from(!first.promised);
        line.left(first.service);
        self.left(first.service);
        Some(first)
    }

    /// Counts what a tenant was served beyond what was predicted, or takes back what it was not.
    pub(crate) fn settle(&mut self, tenant: &T, difference: f64) {
        if let Some(line) = self.lines.get_mut(tenant) {
            line.virtual_time += difference;
        }
    }

    /// Takes out the newest that could still be turned away, or where `smaller` is wanted the smaller of the two newest.
    pub(crate) fn evict(&mut self, tenant: &T, smaller: bool) -> Option<Ticket> {
        let line = self.lines.get(tenant)?;
        let newest = line.waiting.iter().rev().filter(|waiting| !waiting.promised);
        let newest = newest.take(1 + usize::from(smaller));
        let out = newest.min_by(|a, b| a.service.total_cmp(&b.service))?.ticket;
        self.remove(tenant, out).then_some(out)
    }

    /// Takes out this one; whether it was there.
    pub(crate) fn remove(&mut self, tenant: &T, ticket: Ticket) -> bool {
        let Some(line) = self.lines.get_mut(tenant) else { return false };
        let Some(place) = line.waiting.iter().position(|waiting| waiting.ticket == ticket) else {
            return false;
        };
        let Some(gone) = line.waiting.remove(place) else { return false };
        line.unpromised -= usize::from(!gone.promised);
        line.left(gone.service);
        self.left(gone.service);
        true
    }

    /// From now on this one is never turned away.
    pub(crate) fn promise(&mut self, tenant: &T, ticket: Ticket) {
        let Some(line) = self.lines.get_mut(tenant) else { return };
        if let Some(waiting) = line.waiting.iter_mut().find(|waiting| waiting.ticket == ticket) {
            line.unpromised -= usize::from(!waiting.promised);
            waiting.promised = true;
        }
    }

    /// Forgets tenants that nothing need be remembered of.
    pub(crate) fn tidy(&mut self) {
        let now = self.virtual_time;
        self.lines.retain(|_, line| !line.waiting.is_empty() || line.virtual_time > now);
    }

    fn left(&mut self, service: f64) {
        self.count -= 1;
        self.work = without(self.work, service, self.count);
    }
}

impl Line {
    fn left(&mut self, service: f64) {
        self.work = without(self.work, service, self.waiting.len());
    }
}

/// Sums of fractions never come back to exactly nothing.
fn without(work: f64, service: f64, count: usize) -> f64 {
    if count == 0 { 0.0 } else { (work - service).max(0.0) }
}
