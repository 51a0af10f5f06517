//! The history, sorted: requests with their answers, requests of one key, faults.

use std::collections::BTreeMap;

use crate::{
    history::{Action, Event, Fault, Submission, What},
    observed::{Answer, JobView, Standing},
};

/// A request and what came of it.
#[derive(Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) op: u64,
    pub(crate) process: &'a str,
    pub(crate) project: &'a str,
    pub(crate) action: &'a Action,
    pub(crate) invoked_at: i64,
    /// The answer and when it came; `None` where the outcome is unknown.
    pub(crate) answered: Option<(i64, &'a Answer)>,
}

/// A request with a key, and its key's part of it.
pub(crate) type Keyed<'a, 'b> = (&'b Operation<'a>, &'a Submission);

/// A job as it was at one moment between two times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) op: u64,
    pub(crate) job: &'a JobView,
}

/// A run's history, sorted.
pub(crate) struct Operations<'a> {
    pub(crate) all: Vec<Operation<'a>>,
    pub(crate) faults: Vec<(i64, &'a Fault)>,
}

impl<'a> Operations<'a> {
    pub(crate) fn of(events: &'a [Event]) -> Self {
        let (mut all, mut places, mut faults) = (Vec::new(), BTreeMap::new(), Vec::new());
        for event in events {
            match &event.what {
                What::Invoke { op, project, action } => {
                    places.insert(*op, all.len());
                    all.push(Operation {
                        op: *op,
                        process: &event.process,
                        project,
                        action,
                        invoked_at: event.at_us,
                        answered: None,
                    });
                }
                What::Ok { op, answer } | What::Fail { op, answer } => {
                    if let Some(place) = places.get(op) {
                        all[*place].answered = Some((event.at_us, answer));
                    }
                }
                What::Nemesis(fault) => faults.push((event.at_us, fault)),
                What::Info { .. } | What::Run(_) => {}
            }
        }
        Self { all, faults }
    }

    /// Requests with a key, of each project and key.
    pub(crate) fn by_key(&self) -> BTreeMap<(&'a str, &'a str), Vec<Keyed<'a, '_>>> {
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for operation in &self.all {
            if let Action::Submit(submission) = operation.action {
                keys.entry((operation.project, submission.key.as_str()))
                    .or_default()
                    .push((operation, submission));
            }
        }
        keys
    }

    /// What was seen of each job, in the order of asking.
    pub(crate) fn sights(&self) -> BTreeMap<&'a str, Vec<Sight<'a>>> {
        let mut sights: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for operation in &self.all {
            let Some((until, answer)) = operation.answered else { continue };
            if let Some(job) = &answer.job {
                let sight = Sight { from: operation.invoked_at, until, op: operation.op, job };
                sights.entry(job.id.as_str()).or_default().push(sight);
            }
        }
        sights
    }

    /// When the last fault was over.
    pub(crate) fn healed_at(&self) -> Option<i64> {
        self.fault_at(&Fault::Heal)
    }

    /// When all jobs had ended.
    pub(crate) fn quiet_at(&self) -> Option<i64> {
        self.fault_at(&Fault::Quiet)
    }

    /// When all ends had been told.
    pub(crate) fn told_at(&self) -> Option<i64> {
        self.fault_at(&Fault::Told)
    }

    fn fault_at(&self, wanted: &Fault) -> Option<i64> {
        self.faults.iter().find(|(_, fault)| *fault == wanted).map(|(at, _)| *at)
    }
}

impl<'a> Operation<'a> {
    pub(crate) fn answer(&self) -> Option<&'a Answer> {
        self.answered.map(|(_, answer)| answer)
    }

    /// What the answer means for the key; an unknown one asks for another try.
    pub(crate) fn standing(&self) -> Standing {
        self.answer().map_or(Standing::Again, Answer::standing)
    }

    /// The job that the key stands for, where the answer says so.
    pub(crate) fn job_of_key(&self) -> Option<&'a str> {
        match self.standing() {
            Standing::Final | Standing::Interim => self.answer()?.job_id(),
            Standing::Reused | Standing::Refused | Standing::Again => None,
        }
    }

    /// As evidence.
    pub(crate) fn line(&self) -> String {
        let asked = match self.action {
            Action::Submit(submission) => {
                let fingerprint = submission.fingerprint.get(..8).unwrap_or(&submission.fingerprint);
                format!("submit {} ({:?}, payload {fingerprint})", submission.key, submission.purpose)
            }
            Action::Read { job, .. } => format!("read {job}"),
            Action::Cancel { job } => format!("cancel {job}"),
            Action::Retry { job, step, part } => {
                let (step, part) = (step.as_deref().unwrap_or("all"), part.map(|part| format!("/{part}")));
                format!("run {step}{} of {job} again", part.unwrap_or_default())
            }
            Action::RetryBatch { batch } => format!("run {batch} again"),
            Action::Batch(batch) => {
                format!("batch {} ({:?}, {} items)", batch.key, batch.purpose, batch.items.len())
            }
            Action::ReadBatch { batch } => format!("read {batch}"),
            Action::CancelBatch { batch } => format!("cancel {batch}"),
            Action::List => "list jobs".to_owned(),
            Action::Usage => "usage".to_owned(),
        };
        let came = match self.answered {
            None => "no answer".to_owned(),
            Some((at, answer)) => format!("after {} ms: {}", (at - self.invoked_at) / 1000, said(answer)),
        };
        format!("op {} at {} by {}: {asked} -> {came}", self.op, self.invoked_at, self.process)
    }
}

fn said(answer: &Answer) -> String {
    let mut said = answer.status.to_string();
    let job = answer.job.as_ref();
    let parts = [
        answer.code.clone(),
        answer.job_id().map(str::to_owned),
        job.map(|job| job.status.clone()),
        job.and_then(|job| job.finished_at.clone()),
        answer.batch.as_ref().map(|batch| format!("{batch:?}")),
        answer.replayed.then(|| "replayed".to_owned()),
        Some(format!("body {}", answer.body_sha256.get(..8).unwrap_or(&answer.body_sha256))),
    ];
    for part in parts.into_iter().flatten() {
        said.push(' ');
        said.push_str(&part);
    }
    said
}
