//! Promises about pipelines: I2 (what is written is not done again, each part is there once), I8 (what was seen to have
//! succeeded is never run by a later holder of the lease), I9 (what was done is shown, and what needs all parts runs
//! after all of them).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Effect, Invariant, Record, Violation, executions,
    operations::{Operations, Sight},
    wishes::Wishes,
};
use crate::{
    observed::JobView,
    plan::{ALONE, EACH, FIND, JOIN, OnError, Plan},
    profile::Setup,
};

/// Of what one holder of a lease did, the next one may do so many things again: the one that ran, and a part whose end was on
/// its way to the disk.
const DONE_AGAIN: usize = 2;

/// All that is known of one pipeline's job.
struct Run<'a> {
    job: &'a str,
    plan: &'a Plan,
    /// Executions of each step and part, in the order of their times.
    places: BTreeMap<&'a str, Vec<&'a Effect>>,
    sights: Vec<Sight<'a>>,
    shown: Option<&'a JobView>,
}

pub(super) fn check(
    operations: &Operations<'_>,
    record: &Record,
    (setup, wishes): (&Setup, &Wishes<'_>),
) -> Vec<Violation> {
    let runs = runs(operations, record, wishes);
    let mut violations = Vec::new();
    for run in &runs {
        violations.extend(run.again(operations, (setup, wishes)));
        violations.extend(run.done_again());
        violations.extend(run.after_success());
        violations.extend(run.unwritten());
        violations.extend(run.before_join());
        violations.extend(run.unplanned());
        violations.extend(run.shown.into_iter().filter_map(|shown| run.not_once(shown)));
        violations.extend(run.sights.iter().filter_map(|sight| run.not_once(sight.job)));
    }
    violations
}

fn runs<'a>(operations: &Operations<'a>, record: &'a Record, wishes: &Wishes<'a>) -> Vec<Run<'a>> {
    let (mut sights, shown) = (operations.sights(), super::jobs::shown(record));
    let mut places: BTreeMap<&str, BTreeMap<&str, Vec<&Effect>>> = BTreeMap::new();
    for ((job, place), effects) in executions::by_step(record) {
        places.entry(job).or_default().insert(place, effects);
    }
    let run = |(job, plan): (&&'a str, &&'a Plan)| Run {
        job,
        plan,
        places: places.remove(job).unwrap_or_default(),
        sights: sights.remove(job).unwrap_or_default(),
        shown: shown.get(job).copied(),
    };
    wishes.plans().iter().map(run).collect()
}

impl Run<'_> {
    fn violation(&self, invariant: Invariant, what: &str, evidence: &[&Effect]) -> Violation {
        let lines = evidence.iter().map(|effect| format!("{effect:?}")).collect();
        Violation::new(invariant, format!("{} (pipeline): {what}", self.job), lines)
    }

    /// Everything is done once under one token. It is done again after a crash; and where it failed, as often as the pipeline
    /// says, and for each wish.
    fn again(&self, operations: &Operations<'_>, (setup, wishes): (&Setup, &Wishes<'_>)) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (place, runs) in &self.places {
            // The other way is tried beside the own one.
            let (own, other): (Vec<&Effect>, Vec<_>) = runs.iter().partition(|run| !run.fallback);
            for pair in own.windows(2).chain(other.windows(2)) {
                let excused = executions::excused((pair[0], pair[1]), operations, setup);
                if let Some(what) = self.wrong((pair[0], pair[1]), excused, wishes) {
                    violations.push(self.violation(Invariant::I2, &format!("{place} {what}"), pair));
                }
            }
        }
        violations
    }

    /// What is wrong with a second run, if anything.
    fn wrong(
        &self,
        (first, second): (&Effect, &Effect),
        excused: bool,
        wishes: &Wishes<'_>,
    ) -> Option<&'static str> {
        let wished = wishes.between(self.job, (first.at_us, second.at_us));
        if first.token == second.token {
            Some("ran twice under one lease")
        } else if first.ok && !excused {
            Some("ran again after it had succeeded, and nothing had happened")
        } else if self.plan.attempts == 1 && !excused && !wished {
            Some("was tried again, and nobody had wished it")
        } else {
            None
        }
    }

    /// Whoever takes a job over does little again of what an earlier holder had done: the rest was written.
    fn done_again(&self) -> Option<Violation> {
        let mut pairs: BTreeMap<(i64, i64), BTreeMap<&str, &Effect>> = BTreeMap::new();
        for (place, runs) in &self.places {
            for first in runs.iter().filter(|run| run.ok) {
                for second in runs.iter().filter(|run| run.token > first.token) {
                    pairs.entry((first.token, second.token)).or_default().insert(place, second);
                }
            }
        }
        let ((first, second), again) = pairs.into_iter().find(|(_, again)| again.len() > DONE_AGAIN)?;
        let what = format!(
            "{} things that succeeded under token {first} were done again under {second}, more than {DONE_AGAIN}",
            again.len()
        );
        Some(self.violation(Invariant::I2, &what, &again.into_values().collect::<Vec<_>>()))
    }

    /// What was seen to have succeeded was written under a token that an execution before the sight had. Whoever has a greater
    /// one read that when it took the job.
    fn after_success(&self) -> Option<Violation> {
        let mut known: BTreeMap<String, i64> = BTreeMap::new();
        for sight in &self.sights {
            for place in sight.job.done() {
                let time = known.entry(place).or_insert(sight.until);
                *time = sight.until.min(*time);
            }
        }
        let late = known.iter().find_map(|(place, at)| {
            let runs = self.places.get(place.as_str())?;
            let written = runs.iter().filter(|run| run.ok && run.at_us <= *at).map(|run| run.token).max()?;
            let late = runs.iter().find(|run| run.token > written)?;
            Some((place, at, *late))
        });
        let (place, at, late) = late?;
        let what = format!("{place} was seen to have succeeded at {at}, and was run under a later token");
        Some(self.violation(Invariant::I8, &what, &[late]))
    }

    /// Whoever looks finds everything but what ran last, and one part whose end was on its way to the disk.
    fn unwritten(&self) -> Option<Violation> {
        let written = self.written();
        // A short answer has no steps.
        let mut sights = self.sights.iter().filter(|sight| !sight.job.steps.is_empty());
        let (sight, run) = sights.find_map(|sight| {
            let done: BTreeSet<_> = sight.job.done().collect();
            let (_, run) = written.iter().find(|(at, run)| *at <= sight.from && !done.contains(&run.step))?;
            Some((sight, *run))
        })?;
        let what = format!("{} was done long before op {}, which does not show it", run.step, sight.op);
        let mut violation = self.violation(Invariant::I9, &what, &[run]);
        violation.evidence.push(format!("asked at {}: {:?}", sight.from, sight.job));
        Some(violation)
    }

    /// What succeeded, and when that was written at the latest: what comes two places later begins only then.
    fn written(&self) -> Vec<(i64, &Effect)> {
        let mut by_token: BTreeMap<i64, Vec<&Effect>> = BTreeMap::new();
        for run in self.places.values().flatten() {
            by_token.entry(run.token).or_default().push(run);
        }
        let mut written = Vec::new();
        for runs in by_token.values_mut() {
            runs.sort_by_key(|run| run.at_us);
            for (number, run) in runs.iter().enumerate().filter(|(_, run)| run.ok) {
                let mut later = runs[number..].iter().filter(|later| later.step != run.step);
                let next = later.next();
                let second = next.and_then(|next| later.find(|later| later.step != next.step));
                written.extend(second.map(|second| (second.at_us, *run)));
            }
        }
        written
    }

    /// The step that needs all parts runs after each of them has ended: well, where a failed one fails the step.
    fn before_join(&self) -> Option<Violation> {
        let joins = self.places.get(JOIN)?;
        let ended = |part: u32, join: &Effect| {
            let runs = self.places.get(format!("{EACH}/{part}").as_str()).into_iter().flatten();
            let mut before = runs.filter(|run| run.at_us <= join.at_us && run.token <= join.token);
            before.any(|run| run.ok || self.plan.on_error == OnError::Skip)
        };
        let early = joins.iter().find_map(|join| {
            let part = (0..self.plan.parts).find(|part| !ended(*part, join))?;
            Some((join, part))
        });
        let (join, part) = early?;
        Some(self.violation(Invariant::I9, &format!("{JOIN} ran before {EACH}/{part} had ended"), &[join]))
    }

    /// Nothing runs that is not in the pipeline.
    fn unplanned(&self) -> Option<Violation> {
        let parts = (0..self.plan.parts).map(|part| format!("{EACH}/{part}"));
        let planned: BTreeSet<_> = [FIND, JOIN, ALONE].map(str::to_owned).into_iter().chain(parts).collect();
        let (place, runs) = self.places.iter().find(|(place, _)| !planned.contains(**place))?;
        Some(self.violation(Invariant::I2, &format!("{place} is nothing that was asked"), runs))
    }

    /// Once the parts are known, each is there once, at every look; and each step and part has a key of its own.
    fn not_once(&self, shown: &JobView) -> Option<Violation> {
        let (each, count) = (shown.step(EACH)?, u64::from(self.plan.parts));
        let places: Vec<_> = shown.parts.iter().map(|part| (part.step.as_str(), part.index)).collect();
        let right =
            each.parts == Some(count) && places.iter().copied().eq((0..count).map(|part| (EACH, part)));
        let known = each.parts.is_some() || !places.is_empty();
        let what = if known && !right {
            format!("its parts are {places:?}, and {count} were asked for")
        } else if has_twins(keys(shown)) {
            "two steps or parts have one key".to_owned()
        } else {
            return None;
        };
        let line = vec![format!("{shown:?}")];
        Some(Violation::new(Invariant::I2, format!("{} (pipeline): {what}", self.job), line))
    }
}

/// Keys of what is done as a whole and of the parts.
fn keys(shown: &JobView) -> impl Iterator<Item = &String> {
    let whole = shown.steps.iter().filter(|step| step.parts.is_none());
    whole.filter_map(|step| step.key.as_ref()).chain(shown.parts.iter().map(|part| &part.key))
}

fn has_twins<'a>(mut keys: impl Iterator<Item = &'a String>) -> bool {
    let mut known = BTreeSet::new();
    keys.any(|key| !known.insert(key))
}
