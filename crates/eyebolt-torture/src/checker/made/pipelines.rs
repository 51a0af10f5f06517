//! Made pipelines.

use super::{Made, batch, succeeded};
use crate::{
    history::Action,
    listening::Heard,
    observed::{Answer, JobView, PartView, StepView},
    plan::{ALONE, EACH, FIND, JOIN, OnError, Plan, Poison},
};

/// Two things, the second of which fails at first.
pub(crate) fn plan(on_error: OnError) -> Plan {
    let poison = Some(Poison { place: "read/1".to_owned(), until: 1 });
    Plan { parts: 2, on_error, attempts: 1, poison }
}

/// A job of this plan: how it stands, and how the second part does; everything else has succeeded.
pub(crate) fn piped(id: &str, (status, second): (&str, &str), at: &str) -> Answer {
    let whole = |name: &str, status: &str| StepView {
        name: name.to_owned(),
        status: status.to_owned(),
        attempt: 1,
        key: Some(format!("key of {name}")),
        parts: None,
    };
    let part = |index: u64, status: &str| PartView {
        step: EACH.to_owned(),
        index,
        status: status.to_owned(),
        attempt: 1,
        key: format!("key of {index}"),
    };
    let each =
        StepView { parts: Some(2), ..whole(EACH, if second == "pending" { second } else { "succeeded" }) };
    let whole = |name: &str| whole(name, "succeeded");
    let ended = !matches!(status, "pending" | "processing");
    let job = JobView {
        id: id.to_owned(),
        status: status.to_owned(),
        finished_at: ended.then(|| format!("1970-01-02T00:00:{at}Z")),
        units: Some(4 + u64::from(second == "succeeded")),
        steps: vec![whole(FIND), each, whole(JOIN), whole(ALONE)],
        parts: vec![part(0, "succeeded"), part(1, second)],
        ..JobView::default()
    };
    Answer {
        status: 200,
        body_sha256: format!("{id} {status} {second}"),
        job: Some(job),
        ..Answer::default()
    }
}

impl Made {
    /// The fake backend ran these steps and parts now, one after the other, and they succeeded.
    pub(crate) fn effects(&mut self, job: &str, token: i64, places: &[&str]) {
        for place in places {
            self.effect_of((job, place), token, true);
        }
    }

    /// Somebody asks for a part to be run again.
    pub(crate) fn retry(&mut self, job: &str, answer: Option<Answer>) {
        let (job, step, part) = (job.to_owned(), Some(EACH.to_owned()), Some(1));
        self.request(
            Action::Retry { job, step, part },
            answer.map(|answer| Answer { status: 202, ..answer }),
        );
    }

    /// A pipeline, and a batch with an item, that ended twice.
    pub(crate) fn ended_again(&mut self, job: &str) {
        self.effects(job, 1, &[FIND, "read/0"]);
        self.final_job(piped(job, ("succeeded", "succeeded"), "01"));
        self.final_batch(batch("batch_9", [1, 0, 1, 0, 0]), &[("succeeded", Some("job_9"))]);
        self.final_job(succeeded("job_9"));
        for id in [job, "job_9", "batch_9"] {
            self.told(id, 90);
            let last = self.edit().told.last_mut().unwrap();
            if let Heard::Event { message, .. } = &mut last.what {
                message.round = 2;
            }
        }
    }
}
