//! I6: every end of a job is told to all who listen, under one id and in the same bytes each time, and nobody is told
//! anything else.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Invariant, Record, Violation,
    operations::{Operations, Sight},
};
use crate::{
    history::{Action, Fault},
    listening::{Heard, Message, Receipt, Said, Told},
    observed::JobView,
};

/// A receiver refuses a message whose timestamp is further off, seconds.
const TOLERANCE: i64 = 300;

/// How jobs ended, and who is to be told.
struct Ends<'a> {
    /// With their projects.
    jobs: BTreeMap<&'a str, (&'a str, &'a JobView)>,
    /// Addresses that requests named, with the jobs that became of these.
    hooks: BTreeMap<&'a str, &'a str>,
    sights: BTreeMap<&'a str, Vec<Sight<'a>>>,
}

pub(super) fn check(operations: &Operations<'_>, record: &Record) -> Vec<Violation> {
    let ends = Ends::of(operations, record);
    let mut violations: Vec<_> = record.receipts.iter().filter_map(|receipt| ends.wrong(receipt)).collect();
    violations.extend(several(record));
    violations.extend(ends.untold(record));
    violations.extend(switched_off(record));
    for project in &record.state.projects {
        violations.extend(ends.stream(&project.name, &record.told));
    }
    let over = |wanted: &Fault| operations.faults.iter().any(|(_, fault)| *fault == wanted);
    if over(&Fault::Quiet) && !over(&Fault::Told) {
        violations.push(violation("when the time was over, something was still on its way", Vec::new()));
    }
    violations
}

impl<'a> Ends<'a> {
    fn of(operations: &Operations<'a>, record: &'a Record) -> Self {
        let projects = record.state.projects.iter();
        let jobs = projects.flat_map(|project| {
            let ended = project.jobs.iter().filter(|job| job.is_terminal());
            ended.map(|job| (job.id.as_str(), (project.name.as_str(), job)))
        });
        let hooks = operations.all.iter().filter_map(|operation| match operation.action {
            Action::Submit(submission) => Some((submission.hook.as_deref()?, operation.job_of_key()?)),
            _ => None,
        });
        Self { jobs: jobs.collect(), hooks: hooks.collect(), sights: operations.sights() }
    }

    /// What is wrong with a message that came, if anything.
    fn wrong(&self, receipt: &Receipt) -> Option<Violation> {
        let message = &receipt.message;
        let hook = receipt.to.starts_with("hook/").then(|| self.hooks.get(receipt.to.as_str()));
        let early = |sight: &Sight<'_>| !sight.job.is_terminal() && sight.from > receipt.at_us;
        let sights = self.sights.get(message.job.as_str()).map(Vec::as_slice).unwrap_or_default();
        let what = if !receipt.signed {
            "its signature is not right"
        } else if (receipt.at_us / 1_000_000 - receipt.sent_at).abs() > TOLERANCE {
            "its timestamp is not that of the attempt"
        } else if receipt.id != message.id {
            "its header names another event than its body"
        } else if let Some(wrong) = self.untrue(message, receipt.project()) {
            wrong
        } else if hook.is_some_and(|job| job.is_none_or(|job| *job != message.job)) {
            "its job's request did not name this address"
        } else if sights.iter().any(early) {
            "its job had not ended yet"
        } else {
            return None;
        };
        Some(violation(&format!("a message to {}: {what}", receipt.to), vec![line(receipt)]))
    }

    /// What an event says that is not so.
    fn untrue(&self, message: &Message, project: &str) -> Option<&'static str> {
        match self.jobs.get(message.job.as_str()) {
            None => Some("its job has not ended"),
            Some((owner, _)) if *owner != project => Some("its job is another project's"),
            Some((_, job)) => {
                let right = message.kind == format!("job.{}", job.status)
                    && message.status == job.status
                    && message.finished_at == job.finished_at;
                (!right).then_some("its job did not end so")
            }
        }
    }

    /// Ends that somebody was not told who listens.
    fn untold(&self, record: &Record) -> Vec<Violation> {
        let mut taken: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for receipt in record.receipts.iter().filter(|receipt| receipt.said == Said::Taken) {
            taken.entry(&receipt.to).or_default().insert(&receipt.message.job);
        }
        let takes = |to: &str, job: &str| taken.get(to).is_some_and(|jobs| jobs.contains(job));
        let mut wanted: Vec<(&str, &str)> = Vec::new();
        for project in &record.state.projects {
            let own = || self.jobs.iter().filter(|(_, (owner, _))| *owner == project.name);
            for endpoint in project.endpoints.iter().filter(|endpoint| endpoint.is_on()) {
                wanted.extend(own().map(|(job, _)| (endpoint.to.as_str(), *job)));
            }
        }
        let hooks = self.hooks.iter().filter(|(_, job)| self.jobs.contains_key(*job));
        wanted.extend(hooks.map(|(to, job)| (*to, *job)));
        let untold = wanted.into_iter().filter(|(to, job)| !takes(to, job));
        untold
            .map(|(to, job)| {
                let came = record.receipts.iter().filter(|one| one.to == to && one.message.job == job);
                violation(
                    &format!("{job}: {to} did not take the message of its end"),
                    came.map(line).collect(),
                )
            })
            .collect()
    }

    /// A project's stream: each end once, in the order of places.
    fn stream(&self, project: &str, told: &[Told]) -> Vec<Violation> {
        let (mut violations, mut last, mut seen) = (Vec::new(), 0, BTreeSet::new());
        let mut wrong = |what: &str, told: &Told| {
            violations
                .push(violation(&format!("the stream of {project}: {what}"), vec![format!("{told:?}")]));
        };
        for told in told.iter().filter(|told| told.project == project) {
            match &told.what {
                Heard::Refused { status: 400..=428 | 430..=499, .. } => {
                    wrong("it can't be gone on with", told);
                }
                Heard::Refused { .. } => {}
                Heard::Event { position, message } => {
                    if *position <= last {
                        wrong("its places do not grow", told);
                    }
                    last = *position;
                    if let Some(what) = self.untrue(message, project) {
                        wrong(what, told);
                    }
                    if !seen.insert(message.job.as_str()) {
                        wrong("an end comes twice", told);
                    }
                }
            }
        }
        let own = self.jobs.iter().filter(|(_, (owner, _))| *owner == project);
        let missed = own.filter(|(job, _)| !seen.contains(*job));
        violations.extend(missed.map(|(job, (_, view))| {
            violation(
                &format!("{job}: the stream of {project} does not tell its end"),
                vec![format!("{view:?}")],
            )
        }));
        violations
    }
}

/// Ends that were told under several ids, or in several ways.
fn several(record: &Record) -> Vec<Violation> {
    let mut told: BTreeMap<&str, BTreeMap<(&str, &str), String>> = BTreeMap::new();
    for receipt in &record.receipts {
        let (message, id) = (&receipt.message, receipt.id.as_str());
        told.entry(&message.job).or_default().entry((id, &message.sha256)).or_insert_with(|| line(receipt));
    }
    for told_once in &record.told {
        let Heard::Event { message, .. } = &told_once.what else { continue };
        let place = (message.id.as_str(), message.sha256.as_str());
        told.entry(&message.job).or_default().entry(place).or_insert_with(|| format!("{told_once:?}"));
    }
    let several = told.into_iter().filter(|(_, ways)| ways.len() > 1);
    several
        .map(|(job, ways)| {
            let ids: BTreeSet<_> = ways.keys().map(|(id, _)| *id).collect();
            let what = match ids.len() {
                1 => "in several bytes under one id".to_owned(),
                count => format!("under {count} ids"),
            };
            violation(&format!("{job}: its end was told {what}"), ways.into_values().collect())
        })
        .collect()
}

/// Endpoints that were switched off for nothing, or without a word in the log.
fn switched_off(record: &Record) -> Vec<Violation> {
    let endpoints = record.state.projects.iter().flat_map(|project| &project.endpoints);
    let gone = |to: &str| record.receipts.iter().any(|one| one.to == to && one.said == Said::Gone);
    let wrong = endpoints.filter_map(|endpoint| {
        let logged = record.state.disabled.contains(&endpoint.id);
        let what = match (endpoint.is_on(), gone(&endpoint.to)) {
            (false, false) => "it is off, and never said that it is gone",
            (false, true) if !logged => "it is off, and no log tells",
            (true, true) => "it said that it is gone, and is on",
            _ => return None,
        };
        Some(violation(&format!("{}: {what}", endpoint.to), vec![format!("{endpoint:?}")]))
    });
    wrong.collect()
}

/// As evidence.
fn line(receipt: &Receipt) -> String {
    let Receipt { at_us, to, id, attempt, said, message, .. } = receipt;
    let Message { job, kind, .. } = message;
    format!("at {at_us}: {to} got {id} ({kind} of {job}) for the {attempt}. time, and said {said:?}")
}

fn violation(what: &str, evidence: Vec<String>) -> Violation {
    Violation::new(Invariant::I6, what, evidence)
}
