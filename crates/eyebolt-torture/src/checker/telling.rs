//! I6: every end of a job or a batch is told to all who listen, under one id and in the same bytes each time, and nobody is told
//! anything else.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Record, Violation, batches, operations::Operations};
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
}

/// How jobs and batches ended, and who is to be told.
struct Ends<'a> {
    all: BTreeMap<&'a str, End<'a>>,
    /// Addresses that requests named, with the jobs and batches that became of these.
    hooks: BTreeMap<&'a str, &'a str>,
    /// When each was last asked for and had not ended.
    open_at: BTreeMap<&'a str, i64>,
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
        Self { all, hooks: hooks.collect(), open_at: open_at(operations) }
    }

    /// What is wrong with a message that came, if anything.
    fn wrong(&self, receipt: &Receipt) -> Option<Violation> {
        let message = &receipt.message;
        let hook = receipt.to.starts_with("hook/").then(|| self.hooks.get(receipt.to.as_str()));
        let open = self.open_at.get(message.job.as_str());
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
                let right = message.kind == format!("{}.{}", end.object, end.status)
                    && message.status == end.status
                    && message.finished_at.as_deref() == end.finished_at;
                (!right).then_some("it did not end so")
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
                    if !seen.insert(message.job.as_str()) {
                        wrong("an end comes twice", told);
                    }
                }
            }
        }
        let own = self.all.iter().filter(|(_, end)| end.project == project);
        let missed = own.filter(|(id, _)| !seen.contains(*id));
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
        Self { project, object: "job", status, finished_at, to_endpoints }
    }

    fn of_batch(project: &'a str, batch: &'a BatchView) -> Self {
        let (status, finished_at) = (batch.status.as_str(), batch.finished_at.as_deref());
        Self { project, object: "batch", status, finished_at, to_endpoints: true }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::made::{Made, batch, canceled, interim, processing, succeeded};

    const SHAKY: &str = "endpoint/torture/shaky";
    const HOOK: &str = "hook/torture/1";

    fn found(made: &Made) -> Vec<String> {
        let record = made.record();
        let violations = check(&Operations::of(&record.events), &record);
        assert!(violations.iter().all(|violation| violation.invariant == Invariant::I6));
        violations.into_iter().map(|violation| violation.what).collect()
    }

    /// One job, told to an endpoint, to the address that its request named, and on the stream.
    fn sound() -> Made {
        let mut made = Made::new();
        made.with_hook(Some(HOOK)).submit("k", "p", Some(interim("job_1")));
        made.with_hook(None).read(processing("job_1"));
        made.receipt(SHAKY, "job_1", Said::Failed);
        made.receipt(SHAKY, "job_1", Said::Taken);
        made.receipt(HOOK, "job_1", Said::Late);
        made.receipt(HOOK, "job_1", Said::Taken);
        made.told("job_1", 7);
        made.read(succeeded("job_1"));
        made.final_job(succeeded("job_1"));
        made.endpoint("shaky", "enabled");
        made.fault(Fault::Quiet);
        made.fault(Fault::Told);
        made
    }

    /// The sound history with its receipts changed.
    fn with_receipts(change: impl Fn(&mut Receipt)) -> Made {
        let mut made = sound();
        made.edit().receipts.iter_mut().for_each(change);
        made
    }

    fn only_one(found: &[String], what: &str) {
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }

    #[test]
    fn a_sound_history_violates_nothing() {
        assert_eq!(found(&sound()), [] as [String; 0]);
    }

    #[test]
    fn a_message_that_comes_again_after_it_was_taken_is_the_same_message() {
        let mut made = sound();
        made.receipt(SHAKY, "job_1", Said::Taken);
        assert_eq!(found(&made), [] as [String; 0]);
    }

    #[test]
    fn an_id_that_is_not_stable() {
        let mut made = sound();
        let again = &mut made.edit().receipts[1];
        (again.id, again.message.id) = ("evt_other".to_owned(), "evt_other".to_owned());
        only_one(&found(&made), "job_1: its end was told under 2 ids");
        let mut made = sound();
        made.edit().receipts[1].id = "evt_other".to_owned();
        let found = found(&made);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("another event than its body") && found[1].contains("under 2 ids"));
    }

    #[test]
    fn an_id_that_the_stream_does_not_have() {
        let mut made = sound();
        if let Heard::Event { message, .. } = &mut made.edit().told[0].what {
            message.id = "evt_other".to_owned();
        }
        only_one(&found(&made), "job_1: its end was told under 2 ids");
    }

    #[test]
    fn other_bytes_at_another_attempt() {
        let mut made = sound();
        made.edit().receipts[1].message.sha256 = "other".to_owned();
        only_one(&found(&made), "in several bytes under one id");
    }

    #[test]
    fn an_end_that_nobody_took() {
        for said in [Said::Failed, Said::Busy, Said::Late, Said::Nothing, Said::Cut] {
            let mut made = sound();
            made.edit().receipts[1].said = said;
            only_one(&found(&made), "job_1: endpoint/torture/shaky did not take");
            let mut made = sound();
            made.edit().receipts[3].said = said;
            only_one(&found(&made), "job_1: hook/torture/1 did not take");
        }
    }

    #[test]
    fn an_end_that_was_never_sent() {
        let mut made = sound();
        made.edit().receipts.truncate(2);
        only_one(&found(&made), "job_1: hook/torture/1 did not take");
        made.edit().receipts.clear();
        assert_eq!(found(&made).len(), 2);
    }

    #[test]
    fn a_signature_a_time_and_a_text_that_are_not_right() {
        only_one(&found(&with_receipts(|one| one.signed &= one.attempt != 1 || one.to != HOOK)), "signature");
        let late =
            with_receipts(|one| one.sent_at -= if one.to == HOOK && one.attempt == 1 { 999 } else { 0 });
        only_one(&found(&late), "timestamp");
        for change in [
            |message: &mut Message| message.kind = "job.failed".to_owned(),
            |message: &mut Message| message.status = "failed".to_owned(),
            |message: &mut Message| message.finished_at = None,
        ] {
            let mut made = sound();
            change(&mut made.edit().receipts[0].message);
            only_one(&found(&made), "it did not end so");
        }
    }

    #[test]
    fn a_job_that_has_not_ended() {
        let mut made = sound();
        made.read(processing("job_1"));
        assert_eq!(found(&made).len(), 4, "each message came before an answer that shows it running");
        let mut made = sound();
        made.receipt(SHAKY, "job_2", Said::Taken);
        made.final_job(processing("job_2"));
        only_one(&found(&made), "it tells of what has not ended");
    }

    #[test]
    fn another_projects_job() {
        let mut made = sound();
        made.receipt("endpoint/neighbour/shaky", "job_1", Said::Taken);
        only_one(&found(&made), "another project's");
    }

    #[test]
    fn an_address_that_the_jobs_request_did_not_name() {
        let mut made = sound();
        made.receipt("hook/torture/2", "job_1", Said::Taken);
        only_one(&found(&made), "did not name this address");
        // Two requests race for a key: the second one named an address, and has no job.
        let mut made = sound();
        made.with_hook(Some("hook/torture/2")).submit("k", "q", Some(crate::checker::made::reused()));
        assert_eq!(found(&made), [] as [String; 0]);
        made.receipt("hook/torture/2", "job_1", Said::Taken);
        only_one(&found(&made), "did not name this address");
    }

    #[test]
    fn a_batch_is_told_of_to_endpoints_and_its_items_are_not() {
        let mut made = sound();
        made.submit_batch("b", Some(batch("batch_1", [1, 1, 0, 0, 0])));
        made.final_job(succeeded("job_2"));
        made.final_batch(batch("batch_1", [1, 0, 1, 0, 0]), &[("succeeded", Some("job_2"))]);
        made.told("job_2", 8);
        made.told("batch_1", 9);
        only_one(&found(&made), "batch_1: endpoint/torture/shaky did not take");
        made.receipt(SHAKY, "batch_1", Said::Taken);
        assert_eq!(found(&made), [] as [String; 0]);
        made.read_batch(batch("batch_1", [1, 1, 0, 0, 0]));
        only_one(&found(&made), "had not ended yet");
    }

    #[test]
    fn an_endpoint_that_is_gone_is_told_nothing_more_and_the_log_says_so() {
        let mut made = sound();
        made.receipt("endpoint/torture/gone", "job_1", Said::Gone);
        made.endpoint("gone", "gone");
        only_one(&found(&made), "no log tells");
        made.edit().state.disabled.insert("we_gone".to_owned());
        assert_eq!(found(&made), [] as [String; 0]);
        made.edit().receipts.pop();
        only_one(&found(&made), "never said that it is gone");
        let mut made = sound();
        made.edit().state.projects[0].endpoints[0].status = "failing".to_owned();
        only_one(&found(&made), "never said that it is gone");
    }

    #[test]
    fn an_endpoint_that_said_it_is_gone_and_is_told_on() {
        let mut made = sound();
        made.receipt(SHAKY, "job_1", Said::Gone);
        only_one(&found(&made), "and is on");
    }

    #[test]
    fn a_stream_that_misses_an_end_or_tells_it_twice() {
        let mut made = sound();
        made.edit().told.clear();
        only_one(&found(&made), "job_1: the stream of torture does not tell its end");
        let mut made = sound();
        made.told("job_1", 8);
        only_one(&found(&made), "an end comes twice");
    }

    #[test]
    fn a_stream_whose_places_do_not_grow() {
        let mut made = sound();
        made.final_job(canceled("job_2"));
        for to in [SHAKY, HOOK] {
            made.receipt(to, "job_2", Said::Taken);
        }
        made.edit().receipts.pop();
        made.told("job_2", 7);
        only_one(&found(&made), "its places do not grow");
    }

    #[test]
    fn a_stream_of_another_project() {
        let mut made = sound();
        made.told("job_1", 8);
        made.edit().told[1].project = "neighbour".to_owned();
        only_one(&found(&made), "the stream of neighbour: it tells of what is another project's");
    }

    #[test]
    fn a_stream_that_cannot_be_gone_on_with() {
        let refused = |status| {
            let mut made = sound();
            made.told("job_1", 8);
            made.edit().told[1].what = Heard::Refused { status, after: Some(7) };
            found(&made)
        };
        for status in [400, 404, 410] {
            only_one(&refused(status), "it can't be gone on with");
        }
        for status in [429, 503] {
            assert_eq!(refused(status), [] as [String; 0]);
        }
    }

    #[test]
    fn messages_that_are_still_on_their_way_when_the_time_is_over() {
        let mut made = sound();
        made.edit().events.pop();
        only_one(&found(&made), "still on its way");
    }
}
