//! Jobs and batches that somebody wished to be run again: an end changes only for a wish, and never back to an earlier one
//! (I9); each wish is good for one run, and two at once make one (I2).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Invariant, Record, Violation, operations::Sight, wishes::Wishes};
use crate::{
    listening::{Heard, Message},
    observed::{JobView, PartView, StepView},
};

/// At most one violation a job: the first that is found.
pub(super) fn disorder(id: &str, sights: &[Sight<'_>], wishes: &Wishes<'_>) -> Option<Violation> {
    let violation = |what: &str, pair: [&Sight<'_>; 2]| {
        let evidence = pair.map(|sight| format!("op {} from {}: {:?}", sight.op, sight.from, sight.job));
        Some(Violation::new(Invariant::I9, format!("{id}: {what}"), evidence.into()))
    };
    let mut ends: BTreeMap<Option<Timestamp>, &Sight<'_>> = BTreeMap::new();
    for sight in sights.iter().filter(|sight| sight.job.is_terminal()) {
        let known = ends.entry(ended_at(sight.job)).or_insert(sight);
        if !same_end(known.job, sight.job) {
            return violation("one end was seen in two ways", [known, sight]);
        }
    }
    for (later, after) in sights.iter().enumerate() {
        for before in sights[..later].iter().filter(|before| before.until < after.from) {
            let wished = || wishes.between(id, (before.from, after.until));
            if begun_anew(before.job, after.job) && !wished() {
                return violation("its end changed, and nobody had wished it", [before, after]);
            }
            if after.job.is_terminal() && ended_at(after.job) < ended_at(before.job) {
                return violation("an earlier end came back", [before, after]);
            }
        }
    }
    None
}

/// Ends beyond the first one that have no wish of their own.
pub(super) fn unwished(record: &Record, wishes: &Wishes<'_>) -> Vec<Violation> {
    let mut ends: BTreeMap<&str, Vec<(i64, &Message)>> = BTreeMap::new();
    for told in &record.told {
        let Heard::Event { message, .. } = &told.what else { continue };
        let at = message.finished_at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
        let end = at.map(|at| (at.as_microsecond(), message));
        ends.entry(&message.job).or_default().extend(end);
    }
    let mut violations = Vec::new();
    for (id, ends) in &mut ends {
        ends.sort_by_key(|(at, _)| *at);
        ends.dedup_by_key(|(at, _)| *at);
        let times: Vec<_> = ends.iter().map(|(at, _)| *at).collect();
        if !wishes.explain(id, &times) {
            let what = format!("{id}: it ended {} times, more often than was wished", times.len());
            let lines = ends.iter().map(|(_, message)| format!("{message:?}")).collect();
            violations.push(Violation::new(Invariant::I2, what, lines));
        }
    }
    violations
}

fn ended_at(job: &JobView) -> Option<Timestamp> {
    job.finished_at.as_ref()?.parse().ok()
}

fn same_end(one: &JobView, other: &JobView) -> bool {
    let end = |job: &JobView| (job.status.clone(), job.units, job.results_sha256.clone());
    end(one) == end(other)
}

/// Whether a job that had ended is open again, or has ended once more.
fn begun_anew(before: &JobView, after: &JobView) -> bool {
    before.is_terminal() && ended_at(before) != ended_at(after)
}

/// A step that went back; one with parts may, where somebody wished it.
pub(super) fn step_back<'a>(before: &'a JobView, now: &JobView, wished: bool) -> Option<&'a StepView> {
    let back = |step: &&StepView| {
        let Some(now) = now.step(&step.name) else { return true };
        let undone = step.succeeded() && !now.succeeded() && !(wished && step.parts.is_some());
        let known = step.key.is_none() || step.key == now.key;
        now.attempt < step.attempt || undone || (step.parts.is_some() && step.parts != now.parts) || !known
    };
    before.steps.iter().find(back)
}

/// A part that went back: no wish is for one that succeeded.
pub(super) fn part_back<'a>(before: &'a JobView, now: &JobView) -> Option<&'a PartView> {
    let back = |part: &&PartView| {
        let same = now.parts.iter().find(|now| now.step == part.step && now.index == part.index);
        same.is_none_or(|now| {
            let undone = part.status == "succeeded" && now.status != "succeeded";
            undone || now.attempt < part.attempt || now.key != part.key
        })
    };
    before.parts.iter().find(back)
}
