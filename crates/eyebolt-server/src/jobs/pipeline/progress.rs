//! How far a pipeline is, and what follows from the end of each step or part. Pure: no time, no rows, no engine.

use std::{collections::HashMap, sync::Arc, time::Duration};

use eyebolt_store::{Advance, FanOut, LeasedJob, StoredJob, StoredStep, StoredTask, WorkEnd};
use eyebolt_types::{
    ErrorCode, Problem, Results, StepStatus,
    pipeline::{Course, Each, OnError, Region, Stage},
};
use jiff::Timestamp;

use super::{
    super::{
        document::{self, Intake},
        retry_policy::RetryPolicy,
    },
    keys::{KeyBase, digest_of_result},
    of_step,
};
use crate::chance;

/// A step, or a part of one.
pub(super) type Place = (usize, Option<u32>);

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unit {
    pub(super) place: Place,
    /// The part of the image.
    pub(super) region: Option<Region>,
}

/// How an attempt at it ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// Whether the fallback was tried, and is what this is of.
    pub(super) fallback: bool,
    pub(super) result: Result<Results, Problem>,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
}

pub(super) struct Progress {
    course: Arc<Course>,
    steps: Vec<StoredStep>,
    tasks: Vec<StoredTask>,
    size: (u32, u32),
    base: KeyBase,
    max_attempts: u32,
    /// What failed for now, and when it is to be tried again.
    put_off: HashMap<Place, Duration>,
    /// What is not known to be written.
    unwritten: Vec<Advance>,
    /// What was done in this attempt.
    ran: Vec<Ran>,
}

/// An attempt at a step or a part that was made here, and not read from a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ran {
    pub(super) place: Place,
    /// Whether it succeeded in the step's own way.
    pub(super) well: bool,
    pub(super) took: Duration,
}

impl Progress {
    /// Whether nothing is left to be done.
    pub(super) fn is_over(&self) -> bool {
        self.steps.iter().all(|step| step.finished_at.is_some())
    }

    pub(super) fn new(
        leased: &LeasedJob,
        (course, intake): (Arc<Course>, &Intake),
        max_attempts: u32,
    ) -> Self {
        let job = &leased.job;
        let pipeline = intake.pipeline.as_ref().map(|of| of.digest.clone()).unwrap_or_default();
        Self {
            course,
            steps: job.steps.clone(),
            tasks: job.tasks.clone(),
            size: (intake.input.width, intake.input.height),
            base: KeyBase { project: job.project.to_string(), pipeline, image: leased.sha256.clone() },
            max_attempts,
            put_off: HashMap::new(),
            unwritten: Vec::new(),
            ran: Vec::new(),
        }
    }

    /// What was done in this attempt, in its order.
    pub(super) fn ran(&self) -> &[Ran] {
        &self.ran
    }

    /// The job with what was found since.
    pub(super) fn job(&self, job: &StoredJob) -> StoredJob {
        StoredJob { steps: self.steps.clone(), tasks: self.tasks.clone(), ..job.clone() }
    }

    pub(super) fn stage(&self, place: Place) -> &Stage {
        &self.course.stages[place.0]
    }

    /// What to do next, where something can be done now.
    pub(super) fn next(&self) -> Option<Unit> {
        self.course.order.iter().find_map(|&at| {
            let step = &self.steps[at];
            if step.finished_at.is_some() || !self.needs_succeeded(at) {
                return None;
            }
            if self.course.stages[at].each.is_none() {
                return self.ready((at, None)).then_some(Unit { place: (at, None), region: None });
            }
            let pending =
                |task: &&StoredTask| task.finished_at.is_none() && self.ready((at, Some(task.number)));
            let task = self.tasks_of(at).find(pending)?;
            let region = document::read(&task.region).ok();
            Some(Unit { place: (at, Some(task.number)), region })
        })
    }

    /// For how long everything waits that failed for now; `None`: nothing did.
    pub(super) fn put_off(&self) -> Option<Duration> {
        self.put_off.values().max().copied()
    }

    /// Whether this failure is the last one of the step's own way.
    pub(super) fn is_final(&self, place: Place, code: ErrorCode) -> bool {
        self.delay(place, code).is_none()
    }

    /// Why the job fails, once nothing is left to be done.
    pub(super) fn failure(&self) -> Option<Problem> {
        let failed = self.steps.iter().find(|step| step.status == StepStatus::Failed)?;
        let problem = failed.error.as_deref().and_then(|error| document::read(error).ok());
        Some(problem.unwrap_or_else(|| Problem::new(ErrorCode::Internal, "A step failed.")))
    }

    /// What is to be written, in one transaction.
    pub(super) fn unwritten(&self) -> Option<Advance> {
        let all = self.unwritten.iter().cloned();
        all.reduce(|mut all, one| {
            all.ends.extend(one.ends);
            all.fan_outs.extend(one.fan_outs);
            all
        })
    }

    /// All of it was written.
    pub(super) fn written(&mut self) {
        self.unwritten.clear();
    }

    /// Whether nothing but ends of parts is to be written: nothing follows from them that could be ordered too early.
    pub(super) fn may_go_on(&self) -> bool {
        self.unwritten.iter().all(|advance| {
            advance.fan_outs.is_empty() && advance.ends.iter().all(|end| end.place.1.is_some())
        })
    }

    /// Takes an end note of, with everything that follows from it: that is written at once.
    pub(super) fn ended(&mut self, place: Place, ended: Ended) {
        let took = ended.finished_at.duration_since(ended.started_at);
        let took = Duration::try_from(took).unwrap_or_default();
        self.ran.push(Ran { place, well: ended.result.is_ok() && !ended.fallback, took });
        let end = self.end_of(place, ended);
        self.apply(&end);
        let mut advance = self.follows(end.ended_at);
        advance.ends.insert(0, end);
        self.unwritten.push(advance);
    }

    /// Takes note of what follows from how the rows stand.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let advance = self.follows(now);
        if advance != Advance::default() {
            self.unwritten.push(advance);
        }
    }

    /// Everything that follows from how the steps stand: parts that are known now, steps whose parts have ended, and steps
    /// that will not be done.
    fn follows(&mut self, now: Timestamp) -> Advance {
        let mut advance = Advance::default();
        // In this order one look is enough: what follows from a step stands behind it.
        for at in self.course.order.clone() {
            if self.steps[at].finished_at.is_some() {
                continue;
            }
            if let Some(status) = self.given_up(at) {
                let end = self.untried(at, (status, None), now);
                self.apply(&end);
                advance.ends.push(end);
                continue;
            }
            if !self.needs_succeeded(at) {
                continue;
            }
            let course = Arc::clone(&self.course);
            if let Some(each) = &course.stages[at].each {
                if self.steps[at].tasks.is_none() {
                    let fan_out = self.fan_out(at, each);
                    self.steps[at].tasks = Some(fan_out.tasks.len() as u32);
                    self.steps[at].key = Some(fan_out.key.clone());
                    self.tasks.extend(fan_out.tasks.clone());
                    advance.fan_outs.push(fan_out);
                }
                if let Some(joined) = self.joined(at) {
                    let end = self.untried(at, joined, now);
                    self.apply(&end);
                    advance.ends.push(end);
                }
            }
        }
        advance
    }

    /// An attempt of which nothing came, since the image or the engine failed: so for all that could have been done.
    pub(super) fn failed(&mut self, problem: &Problem, now: Timestamp) {
        while let Some(Unit { place, .. }) = self.next() {
            let result = Err(of_step(problem.clone(), &self.stage(place).id));
            self.ended(place, Ended { fallback: false, result, started_at: now, finished_at: now });
        }
    }

    fn tasks_of(&self, at: usize) -> impl Iterator<Item = &StoredTask> {
        self.tasks.iter().filter(move |task| task.position as usize == at)
    }

    fn ready(&self, place: Place) -> bool {
        !self.put_off.contains_key(&place)
    }

    fn needs_succeeded(&self, at: usize) -> bool {
        let mut needs = self.course.stages[at].needs.iter();
        needs.all(|&need| self.steps[need].status == StepStatus::Succeeded)
    }

    /// How a step ends that needs one which did not succeed.
    fn given_up(&self, at: usize) -> Option<StepStatus> {
        let needs = self.course.stages[at].needs.iter().map(|&need| &self.steps[need]);
        let without = needs.filter(|step| step.finished_at.is_some() && step.status != StepStatus::Succeeded);
        let mut skipped = None;
        for step in without {
            if step.status != StepStatus::Skipped {
                return Some(StepStatus::Canceled);
            }
            skipped = Some(StepStatus::Skipped);
        }
        skipped
    }

    fn fan_out(&self, at: usize, each: &Each) -> FanOut {
        let stage = &self.course.stages[at];
        let parents = self.parents(at);
        let result = self.steps[each.of].result.as_deref();
        let found: Results = result.and_then(|found| serde_json::from_slice(found).ok()).unwrap_or_default();
        let (regions, _) = each.regions((&found, self.size), stage.crop);
        let task = |(number, region): (u32, Region)| StoredTask {
            position: at as u32,
            number,
            key: self.base.key(stage, &parents, Some(number)),
            region: document::write(&region),
            feature: stage.way.feature,
            model: self.steps[at].model.clone(),
            status: StepStatus::Pending,
            attempts: 0,
            result: None,
            error: None,
            started_at: None,
            finished_at: None,
        };
        let tasks = (0..).zip(regions).map(task).collect();
        FanOut { position: at as u32, key: self.base.key(stage, &parents, None), tasks }
    }

    /// How a step stands all of whose parts have ended.
    fn joined(&self, at: usize) -> Option<(StepStatus, Option<String>)> {
        if self.tasks_of(at).any(|task| task.finished_at.is_none()) {
            return None;
        }
        let failed = self
            .tasks_of(at)
            .find(|task| !matches!(task.status, StepStatus::Succeeded | StepStatus::Skipped));
        Some(failed.map_or((StepStatus::Succeeded, None), |task| (StepStatus::Failed, task.error.clone())))
    }

    /// The end of a step that was not tried itself.
    fn untried(&self, at: usize, (status, error): (StepStatus, Option<String>), now: Timestamp) -> WorkEnd {
        let begun = self.tasks_of(at).filter_map(|task| task.started_at).min();
        WorkEnd {
            place: (at as u32, None),
            status,
            // One without parts was not tried at all.
            attempts: self.attempts((at, None)) + u32::from(self.tasks_of(at).next().is_some()),
            feature: self.course.stages[at].way.feature,
            model: None,
            result: None,
            error,
            key: None,
            started_at: begun,
            ended_at: now,
        }
    }

    fn end_of(&mut self, place: Place, ended: Ended) -> WorkEnd {
        let stage = &Arc::clone(&self.course).stages[place.0];
        let way = stage.fallback.as_ref().filter(|_| ended.fallback).unwrap_or(&stage.way);
        let (status, error) = match &ended.result {
            Ok(_) => (StepStatus::Succeeded, None),
            Err(problem) => {
                // The fallback is tried once, after the last attempt at the step itself.
                let delay = if ended.fallback { None } else { self.delay(place, problem.code) };
                let status = match (delay, stage.on_error) {
                    (Some(delay), _) => {
                        self.put_off.insert(place, delay);
                        StepStatus::Pending
                    }
                    (None, OnError::Skip) => StepStatus::Skipped,
                    (None, OnError::Fail | OnError::Fallback) => StepStatus::Failed,
                };
                (status, Some(document::write(&of_step(problem.clone(), &stage.id))))
            }
        };
        let key = place.1.is_none().then(|| self.base.key(stage, &self.parents(place.0), None));
        WorkEnd {
            place: (place.0 as u32, place.1),
            status,
            attempts: self.attempts(place) + 1,
            feature: way.feature,
            model: way.model.clone(),
            result: ended
                .result
                .ok()
                .map(|found| serde_json::to_vec(&found).expect("findings are plain data")),
            error,
            key,
            started_at: Some(ended.started_at),
            ended_at: ended.finished_at,
        }
    }

    fn delay(&self, place: Place, code: ErrorCode) -> Option<Duration> {
        let max_attempts = self.stage(place).max_attempts.unwrap_or(self.max_attempts);
        RetryPolicy { max_attempts }.delay(code, self.attempts(place) + 1, chance::roll())
    }

    /// Attempts that were made so far.
    fn attempts(&self, (at, number): Place) -> u32 {
        let Some(number) = number else { return self.steps[at].attempts };
        self.tasks_of(at).find(|task| task.number == number).map_or(0, |task| task.attempts)
    }

    /// Digests of what a step builds on.
    fn parents(&self, at: usize) -> Vec<Vec<u8>> {
        let found = |&need: &usize| {
            let of_step = self.steps[need].result.as_deref().into_iter();
            let of_tasks = self.tasks_of(need).filter_map(|task| task.result.as_deref());
            digest_of_result(&of_step.chain(of_tasks).collect::<Vec<_>>().concat())
        };
        self.course.stages[at].needs.iter().map(found).collect()
    }

    fn apply(&mut self, end: &WorkEnd) {
        let finished_at = (end.status != StepStatus::Pending).then_some(end.ended_at);
        let (at, number) = (end.place.0 as usize, end.place.1);
        match number {
            None => {
                let step = &mut self.steps[at];
                step.status = end.status;
                step.attempts = end.attempts;
                step.feature = end.feature;
                step.model = end.model.clone().or(step.model.take());
                (step.result, step.error) = (end.result.clone(), end.error.clone());
                step.key = end.key.clone().or(step.key.take());
                (step.started_at, step.finished_at) = (end.started_at.or(step.started_at), finished_at);
            }
            Some(number) => {
                let of = |task: &&mut StoredTask| task.position as usize == at && task.number == number;
                let Some(task) = self.tasks.iter_mut().find(of) else { return };
                task.status = end.status;
                task.attempts = end.attempts;
                task.feature = end.feature;
                task.model = end.model.clone().or(task.model.take());
                (task.result, task.error) = (end.result.clone(), end.error.clone());
                (task.started_at, task.finished_at) = (end.started_at.or(task.started_at), finished_at);
            }
        }
    }
}
