//! I16: the run did enough to mean something. A server that refuses everything breaks no other promise.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Invariant, Record, Violation, batches, executions, operations::Operations};
use crate::{
    history::{Action, Fault, Purpose},
    listening::{Heard, Said},
    nemesis::PLACES,
    observed::Standing,
    payload::Kind,
    plan::EACH,
    profile::Setup,
};

/// What was done and seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    operations: u64,
    unknown: u64,
    purposes: BTreeMap<String, u64>,
    statuses: BTreeMap<u16, u64>,
    replays: u64,
    refused_as_reused: u64,
    /// Keys that clients wanted an outcome for, and those whose outcome is the one that the payload must have.
    wanted: u64,
    right: u64,
    kills: u64,
    stops: u64,
    client_crashes: u64,
    missed: u64,
    hits: BTreeMap<String, u64>,
    jobs: BTreeMap<String, u64>,
    runs: u64,
    runs_again: u64,
    starved: u64,
    fenced: u64,
    /// Messages to receivers of webhooks, by what these answered; and those that came again though they were taken.
    said: BTreeMap<Said, u64>,
    taken_again: u64,
    switched_off: u64,
    batches: BTreeMap<String, u64>,
    items: u64,
    /// Jobs with a pipeline, executions of parts, and what was run again after it had ended: jobs, items of batches,
    /// batches.
    pipelines: u64,
    parts_run: u64,
    jobs_again: u64,
    items_again: u64,
    batches_again: u64,
    /// Ends that streams told, and how often their readers came back.
    streamed: u64,
    resumed: u64,
    slowest_start_ms: u64,
    quiet_after_ms: u64,
    told_after_ms: u64,
}

/// Of keyed operations, this many in a hundred must have the outcome that their payload has.
const RIGHT_PERCENT: u64 = 95;
const MIN_STOPS: u64 = 3;
const MIN_REPLAYS: u64 = 50;
const MIN_RESUMED: u64 = 5;

/// What receivers answer, each of which a run must have seen.
const ANSWERS: [(Said, &str); 7] = [
    (Said::Taken, "taken"),
    (Said::Failed, "answered 500"),
    (Said::Busy, "answered 503"),
    (Said::Late, "answered too late"),
    (Said::Nothing, "not answered"),
    (Said::Cut, "cut off"),
    (Said::Gone, "answered 410"),
];

impl Counts {
    pub(super) fn of(operations: &Operations<'_>, record: &Record) -> Self {
        let setup = super::setup(&record.events);
        let mut counts = Self { fenced: record.state.fenced, ..Self::default() };
        counts.count_requests(operations);
        counts.count_outcomes(operations);
        counts.count_faults(operations);
        counts.count_messages(record);
        counts.count_pipelines(record);
        for batch in record.state.projects.iter().flat_map(|project| &project.batches) {
            *counts.batches.entry(batch.view.status.clone()).or_default() += 1;
            counts.items += batch.items.len() as u64;
        }
        for job in record.state.projects.iter().flat_map(|project| &project.jobs) {
            let state = match &job.error {
                Some(code) => format!("{} ({code})", job.status),
                None => job.status.clone(),
            };
            *counts.jobs.entry(state).or_default() += 1;
        }
        counts.runs = record.effects.len() as u64;
        counts.runs_again = counts.runs - executions::by_step(record).len() as u64;
        counts.starved = executions::starved(operations, record, &setup);
        let heal = operations.healed_at().zip(operations.quiet_at());
        counts.quiet_after_ms = heal.map_or(0, |(healed, quiet)| (quiet - healed) as u64 / 1000);
        let told = operations.quiet_at().zip(operations.told_at());
        counts.told_after_ms = told.map_or(0, |(quiet, told)| (told - quiet) as u64 / 1000);
        counts
    }

    fn count_requests(&mut self, operations: &Operations<'_>) {
        self.operations = operations.all.len() as u64;
        for operation in &operations.all {
            match operation.answer() {
                None => self.unknown += 1,
                Some(answer) => {
                    *self.statuses.entry(answer.status).or_default() += 1;
                    self.replays += u64::from(answer.replayed);
                }
            }
            self.refused_as_reused += u64::from(operation.standing() == Standing::Reused);
            let purpose = match operation.action {
                Action::Submit(submission) => format!("submit, {}", name(submission.purpose)),
                Action::Read { foreign: true, .. } => "read a foreign job".to_owned(),
                Action::Read { .. } => "read a job".to_owned(),
                Action::Cancel { .. } => "cancel".to_owned(),
                Action::Batch(batch) => format!("batch, {}", name(batch.purpose)),
                Action::ReadBatch { .. } => "read a batch".to_owned(),
                Action::CancelBatch { .. } => "cancel a batch".to_owned(),
                Action::Retry { step: None, .. } => "run a job again".to_owned(),
                Action::Retry { part: None, .. } => "run a step again".to_owned(),
                Action::Retry { .. } => "run a part again".to_owned(),
                Action::RetryBatch { .. } => "run a batch again".to_owned(),
                Action::List => "list jobs".to_owned(),
                Action::Usage => "usage".to_owned(),
            };
            *self.purposes.entry(purpose).or_default() += 1;
        }
    }

    fn count_outcomes(&mut self, operations: &Operations<'_>) {
        let canceled = operations.all.iter().filter_map(|operation| match operation.action {
            Action::Cancel { job } => Some(job.as_str()),
            _ => None,
        });
        let canceled: BTreeSet<_> = canceled.collect();
        for requests in operations.by_key().into_values() {
            let wanted = requests.iter().filter(|(_, submission)| {
                !matches!(submission.purpose, Purpose::Replay | Purpose::OtherPayload)
            });
            let kinds: BTreeMap<_, _> =
                wanted.map(|(_, submission)| (submission.fingerprint.as_str(), submission.kind)).collect();
            // Of several payloads that race for a key, one wins.
            self.wanted += 1;
            self.right += u64::from(requests.iter().any(|(operation, submission)| {
                let Some(answer) = operation.answer() else { return false };
                let Some(kind) = kinds.get(submission.fingerprint.as_str()) else { return false };
                let end = answer.job.as_ref().map(|job| job.status.as_str());
                let by_cancel = answer.job_id().is_some_and(|job| canceled.contains(job));
                operation.standing() == Standing::Final
                    && match kind {
                        Kind::Corrupt => answer.code.as_deref() == Some("corrupt_image") || by_cancel,
                        Kind::Sound | Kind::Flaky => end == Some("succeeded") || by_cancel,
                    }
            }));
        }
    }

    fn count_faults(&mut self, operations: &Operations<'_>) {
        for (_, fault) in &operations.faults {
            match fault {
                Fault::Kill { .. } => self.kills += 1,
                Fault::Hit { failpoint, .. } => {
                    self.kills += u64::from(failpoint.ends_with(":kill"));
                    let mut parts = failpoint.split(':');
                    let (place, action) =
                        (parts.next().unwrap_or_default(), parts.next_back().unwrap_or_default());
                    *self.hits.entry(format!("{place}, {action}")).or_default() += 1;
                }
                Fault::Missed { .. } => self.missed += 1,
                Fault::Stop { .. } => self.stops += 1,
                Fault::ClientCrash { .. } => self.client_crashes += 1,
                Fault::Healthy { after_ms, .. } => {
                    self.slowest_start_ms = self.slowest_start_ms.max(*after_ms);
                }
                Fault::Start { .. }
                | Fault::Continue { .. }
                | Fault::Exit { .. }
                | Fault::Heal
                | Fault::Quiet
                | Fault::Told => {}
            }
        }
    }

    fn count_pipelines(&mut self, record: &Record) {
        let jobs = record.state.projects.iter().flat_map(|project| &project.jobs);
        self.pipelines = jobs.filter(|job| job.step(EACH).is_some()).count() as u64;
        let parts = record.effects.iter().filter(|effect| effect.step.starts_with("read/"));
        self.parts_run = parts.count() as u64;
        let items = batches::jobs_of_items(&record.state);
        for told in &record.told {
            let Heard::Event { message, .. } = &told.what else { continue };
            let again = u64::from(message.round > 1);
            if message.kind.starts_with("batch.") {
                self.batches_again += again;
            } else if items.contains(message.job.as_str()) {
                self.items_again += again;
            } else {
                self.jobs_again += again;
            }
        }
    }

    fn count_messages(&mut self, record: &Record) {
        let mut taken = BTreeSet::new();
        for receipt in &record.receipts {
            *self.said.entry(receipt.said).or_default() += 1;
            let message = (receipt.to.as_str(), receipt.id.as_str());
            self.taken_again += u64::from(taken.contains(&message));
            if receipt.said == Said::Taken {
                taken.insert(message);
            }
        }
        self.switched_off = record.state.disabled.len() as u64;
        let mut connections = BTreeSet::new();
        for told in &record.told {
            self.streamed += u64::from(matches!(told.what, Heard::Event { .. }));
            connections.insert((told.project.as_str(), told.connection));
        }
        self.resumed = connections.len() as u64;
    }

    pub(super) fn check(&self, setup: &Setup) -> Vec<Violation> {
        let succeeded = self.jobs.get("succeeded").copied().unwrap_or_default();
        let minimums = [
            ("operations", self.operations, setup.minimums.operations),
            ("kills", self.kills, setup.minimums.kills),
            ("stops", self.stops, MIN_STOPS),
            ("client crashes", self.client_crashes, 1),
            ("requests whose outcome was unknown", self.unknown, 1),
            ("replays", self.replays, MIN_REPLAYS),
            ("other payloads refused", self.refused_as_reused, 1),
            ("keys with the right outcome", self.right, (self.wanted * RIGHT_PERCENT).div_ceil(100).max(1)),
            ("jobs that succeeded", succeeded, 1),
            ("runs of a step", self.runs, 1),
            ("messages that came again after they were taken", self.taken_again, 1),
            ("endpoints switched off", self.switched_off, 1),
            ("connections that told an end", self.resumed, MIN_RESUMED),
            ("batches completed", self.batches.get("completed").copied().unwrap_or_default(), 1),
            ("pipelines", self.pipelines, 1),
            ("parts of pipelines run", self.parts_run, 1),
            ("jobs that ended again", self.jobs_again, 1),
            ("items of batches that ended again", self.items_again, 1),
            ("batches that ended again", self.batches_again, 1),
            ("batches canceled", self.batches.get("canceled").copied().unwrap_or_default(), 1),
        ];
        let few = minimums.into_iter().filter(|(_, found, least)| found < least);
        let mut wrong: Vec<_> =
            few.map(|(name, found, least)| format!("{name}: {found}, at least {least} are needed")).collect();
        let missed = PLACES.iter().filter(|place| !self.hits.contains_key(&format!("{place}, kill")));
        let unsaid = ANSWERS.iter().filter(|(said, _)| !self.said.contains_key(said));
        wrong.extend(unsaid.map(|(_, name)| format!("no message was {name}")));
        wrong.extend(missed.map(|place| format!("failpoint {place} was never reached")));
        wrong.into_iter().map(|what| Violation::new(Invariant::I16, what, Vec::new())).collect()
    }

    /// For people, in an order that tells the story.
    pub(super) fn table(&self) -> Vec<(String, u64)> {
        let mut table = vec![("requests".to_owned(), self.operations)];
        let indented = |name: &dyn fmt::Display, count: &u64| (format!("  {name}"), *count);
        table.extend(self.purposes.iter().map(|(name, count)| indented(name, count)));
        table.push(("outcome unknown".to_owned(), self.unknown));
        table.extend(
            self.statuses.iter().map(|(status, count)| indented(&format!("answered {status}"), count)),
        );
        for (name, count) in [
            ("replays compared", self.replays),
            ("refused as reused", self.refused_as_reused),
            ("keys", self.wanted),
            ("keys with the right outcome", self.right),
            ("servers killed", self.kills),
            ("servers stopped", self.stops),
            ("clients crashed", self.client_crashes),
        ] {
            table.push((name.to_owned(), count));
        }
        table.extend(self.hits.iter().map(|(place, count)| indented(&format!("failpoint {place}"), count)));
        table.push(("failpoints not reached in time".to_owned(), self.missed));
        table.extend(self.jobs.iter().map(|(state, count)| (format!("jobs {state}"), *count)));
        table.extend(self.batches.iter().map(|(state, count)| (format!("batches {state}"), *count)));
        for (name, count) in [
            ("items of batches", self.items),
            ("  that ended again", self.items_again),
            ("batches that ended again", self.batches_again),
            ("jobs with a pipeline", self.pipelines),
            ("jobs that ended again", self.jobs_again),
            ("steps run", self.runs),
            ("  of which parts", self.parts_run),
            ("steps run again", self.runs_again),
            ("  without a fault: the lease ran out", self.starved),
            ("writes refused by the fence", self.fenced),
            ("messages to webhooks", self.said.values().sum()),
        ] {
            table.push((name.to_owned(), count));
        }
        let said = |(said, name): (Said, &str)| Some(indented(&name, self.said.get(&said)?));
        table.extend(ANSWERS.into_iter().filter_map(said));
        for (name, count) in [
            ("messages that came again after they were taken", self.taken_again),
            ("endpoints switched off", self.switched_off),
            ("ends told on streams", self.streamed),
            ("  on so many connections", self.resumed),
            ("slowest start, ms", self.slowest_start_ms),
            ("quiet after the last fault, ms", self.quiet_after_ms),
            ("everything told after that, ms", self.told_after_ms),
        ] {
            table.push((name.to_owned(), count));
        }
        table
    }
}

fn name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Fresh => "fresh",
        Purpose::HangUp => "then hung up",
        Purpose::HalfUpload => "half a body",
        Purpose::Twin => "twin",
        Purpose::Race => "race of two payloads",
        Purpose::Retry => "retry",
        Purpose::Replay => "replay",
        Purpose::OtherPayload => "other payload",
    }
}
