//! Made histories for the checker's tests.

mod pipelines;

pub(crate) use pipelines::{piped, plan};

use super::{Effect, Record};
use crate::{
    batch::ItemKind,
    history::{Action, BatchSubmission, Event, Fault, Purpose, Submission, What},
    listening::{Heard, Message, Receipt, Said, Told},
    observed::{Answer, BatchView, JobView, StepView, Usage},
    payload::Kind,
    plan::Plan,
    profile::Setup,
    settle::{BatchState, EndpointView, ItemView, ProjectState},
};

/// A history under construction. Each request takes a second, and they follow each other.
pub(crate) struct Made {
    record: Record,
    now: i64,
    op: u64,
    purpose: Purpose,
    kind: Kind,
    hook: Option<String>,
    plan: Option<Plan>,
    /// Requests of one moment: their answers come after the last of them was sent.
    at_once: Option<Vec<Event>>,
}

pub(crate) const SECOND: i64 = 1_000_000;

impl Made {
    pub(crate) fn new() -> Self {
        let mut record = Record::default();
        let setup = Setup { lease_ms: 1500, heartbeat_ms: 400, settle_seconds: 60, ..Setup::default() };
        record.events.push(Event { at_us: 0, process: "nemesis".to_owned(), what: What::Run(setup) });
        record.state.audit = serde_json::json!({ "sound": true });
        for name in ["torture", "neighbour"] {
            record.state.projects.push(ProjectState { name: name.to_owned(), ..ProjectState::default() });
        }
        Self {
            record,
            now: SECOND,
            op: 0,
            purpose: Purpose::Fresh,
            kind: Kind::Sound,
            hook: None,
            plan: None,
            at_once: None,
        }
    }

    pub(crate) fn record(&self) -> Record {
        self.record.clone()
    }

    pub(crate) fn edit(&mut self) -> &mut Record {
        &mut self.record
    }

    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    pub(crate) fn with_purpose(&mut self, purpose: Purpose) -> &mut Self {
        self.purpose = purpose;
        self
    }

    pub(crate) fn with_kind(&mut self, kind: Kind) -> &mut Self {
        self.kind = kind;
        self
    }

    pub(crate) fn with_hook(&mut self, hook: Option<&str>) -> &mut Self {
        self.hook = hook.map(str::to_owned);
        self
    }

    pub(crate) fn with_plan(&mut self, plan: Option<Plan>) -> &mut Self {
        self.plan = plan;
        self
    }

    pub(crate) fn submit(&mut self, key: &str, payload: &str, answer: Option<Answer>) {
        let action = Action::Submit(Submission {
            key: key.to_owned(),
            fingerprint: payload.to_owned(),
            kind: self.kind,
            purpose: self.purpose,
            hook: self.hook.clone(),
            plan: self.plan.clone(),
        });
        self.request(action, answer);
    }

    pub(crate) fn read(&mut self, answer: Answer) {
        let job = answer.job_id().unwrap_or_default().to_owned();
        self.request(Action::Read { job, foreign: false }, Some(answer));
    }

    pub(crate) fn request(&mut self, action: Action, answer: Option<Answer>) {
        self.op += 1;
        let op = self.op;
        self.push(What::Invoke { op, project: "torture".to_owned(), action });
        let what = match answer {
            None => What::Info { op, reason: "reset".to_owned() },
            Some(answer) if answer.is_success() => What::Ok { op, answer },
            Some(answer) => What::Fail { op, answer },
        };
        let answered = Event { at_us: self.now + SECOND, process: "client-1".to_owned(), what };
        if let Some(later) = &mut self.at_once {
            later.push(answered);
        } else {
            self.record.events.push(answered);
            self.now += 2 * SECOND;
        }
    }

    pub(crate) fn at_once(&mut self, requests: impl FnOnce(&mut Self)) {
        self.at_once = Some(Vec::new());
        requests(self);
        self.record.events.extend(self.at_once.take().unwrap());
        self.now += 2 * SECOND;
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.push(What::Nemesis(fault));
        self.now += SECOND;
    }

    /// The fake backend ran a step now.
    pub(crate) fn effect(&mut self, job: &str, token: i64) {
        self.effect_of((job, "text"), token, true);
    }

    /// The fake backend ran this step now, or this part of one.
    pub(crate) fn effect_of(&mut self, (job, step): (&str, &str), token: i64, ok: bool) {
        let (job, step) = (job.to_owned(), step.to_owned());
        let at_us = self.now;
        self.record.effects.push(Effect { job, step, token, attempt: 1, ok, fallback: false, at_us });
        self.now += SECOND;
    }

    /// A receiver got the message of a job's end now: that it succeeded, unless the end is known to be another.
    pub(crate) fn receipt(&mut self, to: &str, job: &str, said: Said) {
        let earlier = self.record.receipts.iter().filter(|one| one.to == to && one.message.job == job);
        let attempt = earlier.count() as u32 + 1;
        let message = self.message(job);
        self.record.receipts.push(Receipt {
            at_us: self.now,
            to: to.to_owned(),
            id: message.id.clone(),
            sent_at: self.now / SECOND,
            signed: true,
            attempt,
            said,
            message,
        });
        self.now += SECOND;
    }

    /// The first project's stream told of a job's end now, at this place.
    pub(crate) fn told(&mut self, job: &str, position: u64) {
        let what = Heard::Event { position, message: self.message(job) };
        let project = "torture".to_owned();
        self.record.told.push(Told { at_us: self.now, project, connection: 0, what });
        self.now += SECOND;
    }

    fn message(&self, id: &str) -> Message {
        let project = &self.record.state.projects[0];
        let batch = project.batches.iter().map(|state| &state.view).find(|known| known.id == id);
        let job = project.jobs.iter().find(|known| known.id == id);
        let (object, status, finished_at) = match (batch, job) {
            (Some(batch), _) => ("batch", batch.status.clone(), batch.finished_at.clone()),
            (None, Some(job)) => ("job", job.status.clone(), job.finished_at.clone()),
            (None, None) => ("job", "succeeded".to_owned(), succeeded(id).job.unwrap().finished_at),
        };
        Message {
            id: format!("evt_{id}"),
            kind: format!("{object}.{status}"),
            job: id.to_owned(),
            status,
            finished_at,
            round: 1,
            sha256: format!("{id} told"),
        }
    }

    /// A batch is sent: one that succeeds, one that is corrupt, one that is no image, as many as the answer tells of.
    pub(crate) fn submit_batch(&mut self, key: &str, answer: Option<Answer>) {
        let kinds = [ItemKind::Sound, ItemKind::Corrupt, ItemKind::Alien].into_iter().enumerate();
        let total = answer.as_ref().and_then(|answer| answer.batch.as_ref()).map_or(3, |batch| batch.total);
        let items = kinds.map(|(number, kind)| (format!("item {number}"), kind));
        let action = Action::Batch(BatchSubmission {
            key: key.to_owned(),
            fingerprint: "p".to_owned(),
            items: items.take(total as usize).collect(),
            purpose: self.purpose,
            hook: self.hook.clone(),
        });
        self.request(action, answer);
    }

    pub(crate) fn read_batch(&mut self, answer: Answer) {
        let batch = answer.batch.as_ref().unwrap().id.clone();
        self.request(Action::ReadBatch { batch }, Some(Answer { status: 200, ..answer }));
    }

    /// What the server shows of a batch in the end, and of its items: state and job.
    pub(crate) fn final_batch(&mut self, answer: Answer, items: &[(&str, Option<&str>)]) {
        let item = |(number, (status, job)): (usize, &(&str, Option<&str>))| ItemView {
            custom_id: format!("item {number}"),
            key: None,
            status: (*status).to_owned(),
            job: job.map(str::to_owned),
        };
        let items = items.iter().enumerate().map(item).collect();
        self.record.state.projects[0].batches.push(BatchState { view: answer.batch.unwrap(), items });
    }

    /// The first project has this endpoint in the end.
    pub(crate) fn endpoint(&mut self, name: &str, status: &str) {
        let (id, to, status) = (format!("we_{name}"), format!("endpoint/torture/{name}"), status.to_owned());
        self.record.state.projects[0].endpoints.push(EndpointView { id, to, status });
    }

    /// What the server shows in the end; its units are charged.
    pub(crate) fn final_job(&mut self, answer: Answer) {
        let job = answer.job.unwrap();
        let project = &mut self.record.state.projects[0];
        project.usage.units += job.units.unwrap_or_default() as i64;
        project.jobs.push(job);
    }

    fn push(&mut self, what: What) {
        self.record.events.push(Event { at_us: self.now, process: "client-1".to_owned(), what });
    }
}

fn job(id: &str, status: &str) -> Answer {
    let done = u64::from(status == "succeeded");
    let terminal = !matches!(status, "pending" | "processing");
    let (name, status_of_step) = ("text".to_owned(), status.to_owned());
    let step = StepView { name, status: status_of_step, attempt: done, ..StepView::default() };
    let job = JobView {
        id: id.to_owned(),
        status: status.to_owned(),
        finished_at: terminal.then(|| "1970-01-02T00:00:00Z".to_owned()),
        units: Some(done),
        steps: vec![step],
        ..JobView::default()
    };
    Answer { status: 200, body_sha256: format!("{id} {status}"), job: Some(job), ..Answer::default() }
}

/// A batch's acceptance: how many items there are, have not ended, succeeded, failed, were canceled.
pub(crate) fn batch(id: &str, [total, processing, succeeded, failed, canceled]: [u64; 5]) -> Answer {
    let status = match (processing, canceled) {
        (0, 0) => "completed",
        (0, _) => "canceled",
        _ => "processing",
    };
    let batch = BatchView {
        id: id.to_owned(),
        status: status.to_owned(),
        finished_at: (processing == 0).then(|| "1970-01-02T00:00:00Z".to_owned()),
        total,
        processing,
        succeeded,
        failed,
        canceled,
        ..BatchView::default()
    };
    Answer { status: 202, body_sha256: format!("{id} accepted"), batch: Some(batch), ..Answer::default() }
}

pub(crate) fn corrupt_job(id: &str) -> Answer {
    job(id, "failed")
}

pub(crate) fn succeeded(id: &str) -> Answer {
    job(id, "succeeded")
}

pub(crate) fn canceled(id: &str) -> Answer {
    job(id, "canceled")
}

pub(crate) fn processing(id: &str) -> Answer {
    job(id, "processing")
}

pub(crate) fn interim(id: &str) -> Answer {
    Answer { status: 202, ..processing(id) }
}

pub(crate) fn replayed(id: &str) -> Answer {
    Answer { replayed: true, ..succeeded(id) }
}

pub(crate) fn corrupt(id: &str) -> Answer {
    let (location, code) = (Some(id.to_owned()), Some("corrupt_image".to_owned()));
    Answer { status: 422, body_sha256: format!("{id} corrupt"), location, code, ..Answer::default() }
}

pub(crate) fn reused() -> Answer {
    Answer { status: 422, code: Some("idempotency_key_reused".to_owned()), ..Answer::default() }
}

pub(crate) fn unavailable() -> Answer {
    Answer { status: 503, ..Answer::default() }
}

pub(crate) fn missing() -> Answer {
    Answer { status: 404, ..Answer::default() }
}

pub(crate) fn usage(units: i64) -> Answer {
    Answer { status: 200, usage: Some(Usage { units, reserved: 0 }), ..Answer::default() }
}
