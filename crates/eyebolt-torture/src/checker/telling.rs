//! I6: every end of a job or a batch is told to all who listen, under one id and in the same bytes each time, and nobody is told
//! anything else.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Invariant, Record, Violation, batches,
    operations::{Operation, Operations},
    wishes::Wishes,
};
use crate::{
    history::{Action, Fault},
    listening::{Heard, Message, Receipt, Said, Told},
    observed::{BatchView, JobView},
};

/// A receiver refuses a message whose timestamp is further off, seconds.
const TOLERANCE: i64 = 300;

/// How a job or a batch ended.
#[derive(Debug)]
struct End<'a> {
    project: &'a str,
    /// `job` or `batch`.
    object: &'static str,
    status: &'a str,
    finished_at: Option<&'a str>,
    /// Endpoints are told of a batch, not of its items.
    to_endpoints: bool,
    /// Somebody wished it to be run again: this end may be the last of several.
    again: bool,
}

/// How jobs and batches ended, and who is to be told.
struct Ends<'a> {
    all: BTreeMap<&'a str, End<'a>>,
    /// Addresses that requests named, with the jobs and batches that became of these.
    hooks: BTreeMap<&'a str, &'a str>,
    /// When each was last asked for and had not ended.
    open_at: BTreeMap<&'a str, i64>,
    /// How each ended before it was run again, as far as somebody saw it: by id and time.
    earlier: BTreeMap<(&'a str, Option<&'a str>), &'a str>,
    /// The ends of each that the streams told, by their rounds.
    rounds: BTreeMap<&'a str, BTreeMap<u64, &'a Message>>,
}

pub(super) fn check(operations: &Operations<'_>, record: &Record, wishes: &Wishes<'_>) -> Vec<Violation> {
    let ends = Ends::of(operations, record, wishes);
    let mut violations: Vec<_> = record.receipts.iter().filter_map(|receipt| ends.wrong(receipt)).collect();
    violations.extend(several(record));
    violations.extend(ends.untold(record));
    violations.extend(ends.out_of_turn());
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
    fn of(operations: &Operations<'a>, record: &'a Record, wishes: &Wishes<'_>) -> Self {
        let (mut all, items) = (BTreeMap::new(), batches::jobs_of_items(&record.state));
        for project in &record.state.projects {
            for job in project.jobs.iter().filter(|job| job.is_terminal()) {
                all.insert(job.id.as_str(), End::of_job(&project.name, job, &items));
            }
            for state in project.batches.iter().filter(|state| state.view.is_terminal()) {
                all.insert(state.view.id.as_str(), End::of_batch(&project.name, &state.view));
            }
        }
        let hooks = operations.all.iter().filter_map(|operation| match operation.action {
            Action::Submit(submission) => Some((submission.hook.as_deref()?, operation.job_of_key()?)),
            Action::Batch(submission) => {
                let batch = operation.answer()?.batch.as_ref()?;
                Some((submission.hook.as_deref()?, batch.id.as_str()))
            }
            _ => None,
        });
        for (id, end) in &mut all {
            end.again = wishes.any(id);
        }
        let (open_at, earlier) = (open_at(operations), earlier(operations));
        Self { all, hooks: hooks.collect(), open_at, earlier, rounds: rounds(record) }
    }

    /// What is wrong with a message that came, if anything.
    fn wrong(&self, receipt: &Receipt) -> Option<Violation> {
        let message = &receipt.message;
        let hook = receipt.to.starts_with("hook/").then(|| self.hooks.get(receipt.to.as_str()));
        let open = self.open_at.get(message.job.as_str()).filter(|_| self.is_last(message));
        let what = if !receipt.signed {
            "its signature is not right"
        } else if (receipt.at_us / 1_000_000 - receipt.sent_at).abs() > TOLERANCE {
            "its timestamp is not that of the attempt"
        } else if receipt.id != message.id {
            "its header names another event than its body"
        } else if let Some(wrong) = self.untrue(message, receipt.project()) {
            wrong
        } else if hook.is_some_and(|job| job.is_none_or(|job| *job != message.job)) {
            "the request did not name this address"
        } else if open.is_some_and(|at| *at > receipt.at_us) {
            "what it tells of had not ended yet"
        } else {
            return None;
        };
        Some(violation(&format!("a message to {}: {what}", receipt.to), vec![line(receipt)]))
    }

    /// What an event says that is not so.
    fn untrue(&self, message: &Message, project: &str) -> Option<&'static str> {
        match self.all.get(message.job.as_str()) {
            None => Some("it tells of what has not ended"),
            Some(end) if end.project != project => Some("it tells of what is another project's"),
            Some(end) => {
                let at = message.finished_at.as_deref();
                let status = if at == end.finished_at {
                    Some(end.status)
                } else {
                    // Nobody may have looked between two ends.
                    let unseen = message.status.as_str();
                    let seen = self.earlier.get(&(message.job.as_str(), at)).copied();
                    end.again.then(|| seen.unwrap_or(unseen))
                };
                let right = status.is_some_and(|status| {
                    message.status == status && message.kind == format!("{}.{status}", end.object)
                });
                (!right).then_some("it did not end so")
            }
        }
    }

    /// Whether a message tells of the end that is shown.
    fn is_last(&self, message: &Message) -> bool {
        let end = self.all.get(message.job.as_str());
        end.is_some_and(|end| end.finished_at == message.finished_at.as_deref())
    }

    /// Ends of what was run again: they are counted without a gap, and the last one is the one that is shown.
    fn out_of_turn(&self) -> Vec<Violation> {
        let again = self.rounds.iter().filter(|(id, _)| self.all.get(*id).is_some_and(|end| end.again));
        let wrong = again.filter(|(_, rounds)| {
            let count = rounds.len() as u64;
            !rounds.keys().copied().eq(1..=count)
                || rounds.iter().any(|(round, message)| (*round == count) != self.is_last(message))
        });
        let told = wrong.map(|(id, rounds)| {
            let what = format!("{id}: of its ends one is missing, or the last one is not as it is shown");
            violation(&what, rounds.iter().map(|told| format!("{told:?}")).collect())
        });
        told.collect()
    }

    /// Ends that somebody was not told who listens.
    fn untold(&self, record: &Record) -> Vec<Violation> {
        let mut taken: BTreeMap<&str, BTreeSet<(&str, u64)>> = BTreeMap::new();
        for receipt in record.receipts.iter().filter(|receipt| receipt.said == Said::Taken) {
            taken.entry(&receipt.to).or_default().insert((&receipt.message.job, receipt.message.round));
        }
        let takes = |to: &str, job: &str| {
            let told = self.rounds.get(job).into_iter().flatten();
            let mut rounds = told.map(|(round, _)| (job, *round));
            taken.get(to).is_some_and(|ends| {
                ends.iter().any(|(of, _)| *of == job) && rounds.all(|round| ends.contains(&round))
            })
        };
        let mut wanted: Vec<(&str, &str)> = Vec::new();
        for project in &record.state.projects {
            let own = || self.all.iter().filter(|(_, end)| end.project == project.name && end.to_endpoints);
            for endpoint in project.endpoints.iter().filter(|endpoint| endpoint.is_on()) {
                wanted.extend(own().map(|(id, _)| (endpoint.to.as_str(), *id)));
            }
        }
        let hooks = self.hooks.iter().filter(|(_, id)| self.all.contains_key(*id));
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
                    if !seen.insert((message.job.as_str(), message.finished_at.as_deref())) {
                        wrong("an end comes twice", told);
                    }
                }
            }
        }
        let own = self.all.iter().filter(|(_, end)| end.project == project);
        let missed = own.filter(|(id, end)| !seen.contains(&(**id, end.finished_at)));
        violations.extend(missed.map(|(job, view)| {
            violation(
                &format!("{job}: the stream of {project} does not tell its end"),
                vec![format!("{view:?}")],
            )
        }));
        violations
    }
}

impl<'a> End<'a> {
    fn of_job(project: &'a str, job: &'a JobView, items: &BTreeSet<&str>) -> Self {
        let (status, finished_at) = (job.status.as_str(), job.finished_at.as_deref());
        let to_endpoints = !items.contains(job.id.as_str());
        Self { project, object: "job", status, finished_at, to_endpoints, again: false }
    }

    fn of_batch(project: &'a str, batch: &'a BatchView) -> Self {
        let (status, finished_at) = (batch.status.as_str(), batch.finished_at.as_deref());
        Self { project, object: "batch", status, finished_at, to_endpoints: true, again: false }
    }
}

fn open_at<'a>(operations: &Operations<'a>) -> BTreeMap<&'a str, i64> {
    let mut open = BTreeMap::new();
    for operation in &operations.all {
        // What is given again for a key is as it was.
        let Some(answer) = operation.answer().filter(|answer| !answer.replayed) else { continue };
        let job = answer.job.as_ref().filter(|job| !job.is_terminal()).map(|job| &job.id);
        let batch = answer.batch.as_ref().filter(|batch| !batch.is_terminal()).map(|batch| &batch.id);
        for id in job.into_iter().chain(batch) {
            let at = open.entry(id.as_str()).or_insert(operation.invoked_at);
            *at = (*at).max(operation.invoked_at);
        }
    }
    open
}

/// Every end that somebody saw.
fn earlier<'a>(operations: &Operations<'a>) -> BTreeMap<(&'a str, Option<&'a str>), &'a str> {
    let mut ends = BTreeMap::new();
    for answer in operations.all.iter().filter_map(Operation::answer) {
        if let Some(job) = answer.job.as_ref().filter(|job| job.is_terminal()) {
            ends.insert((job.id.as_str(), job.finished_at.as_deref()), job.status.as_str());
        }
        if let Some(batch) = answer.batch.as_ref().filter(|batch| batch.is_terminal()) {
            ends.insert((batch.id.as_str(), batch.finished_at.as_deref()), batch.status.as_str());
        }
    }
    ends
}

/// The ends of each that the streams told.
fn rounds(record: &Record) -> BTreeMap<&str, BTreeMap<u64, &Message>> {
    let mut rounds: BTreeMap<&str, BTreeMap<u64, &Message>> = BTreeMap::new();
    for told in &record.told {
        if let Heard::Event { message, .. } = &told.what {
            rounds.entry(&message.job).or_default().insert(message.round, message);
        }
    }
    rounds
}

/// Ends that were told under several ids, or in several ways.
fn several(record: &Record) -> Vec<Violation> {
    let mut told: BTreeMap<_, BTreeMap<_, String>> = BTreeMap::new();
    for receipt in &record.receipts {
        let (message, id) = (&receipt.message, receipt.id.as_str());
        told.entry((message.job.as_str(), message.round))
            .or_default()
            .entry((id, message.sha256.as_str()))
            .or_insert_with(|| line(receipt));
    }
    for told_once in &record.told {
        let Heard::Event { message, .. } = &told_once.what else { continue };
        let place = (message.id.as_str(), message.sha256.as_str());
        let end = (message.job.as_str(), message.round);
        told.entry(end).or_default().entry(place).or_insert_with(|| format!("{told_once:?}"));
    }
    let several = told.into_iter().filter(|(_, ways)| ways.len() > 1);
    several
        .map(|((job, _), ways)| {
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
