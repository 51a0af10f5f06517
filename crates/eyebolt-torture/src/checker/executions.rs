//! Promises about what really ran: I2 (a step runs again only where a crash came between) and I8 (fencing).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Invariant, Record, Violation, jobs,
    operations::{Operation, Operations},
    wishes::Wishes,
};
use crate::{
    history::{Action, Fault},
    observed::JobView,
    payload::Kind,
    profile::Setup,
};

/// One run of a step in the fake backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Effect {
    /// The job's id.
    pub(crate) job: String,
    /// The feature; of a pipeline the step's name, or `step/part`.
    pub(crate) step: String,
    /// The lease's fencing token.
    pub(crate) token: i64,
    /// Which attempt of the step this is.
    pub(crate) attempt: u64,
    /// Whether it succeeded.
    #[serde(default = "yes")]
    pub(crate) ok: bool,
    /// Whether it was the step's other way.
    #[serde(default)]
    pub(crate) fallback: bool,
    /// When it ran, microseconds since 1970.
    pub(crate) at_us: i64,
}

/// Of earlier runs.
fn yes() -> bool {
    true
}

/// Runs of a flaky step that need no reason; as many again for each fault.
const FLAKY_RUNS: usize = 5;

pub(super) fn check(
    operations: &Operations<'_>,
    record: &Record,
    (setup, wishes): (&Setup, &Wishes<'_>),
) -> Vec<Violation> {
    let flaky = flaky(operations);
    let mut violations = Vec::new();
    for ((job, step), runs) in by_step(record) {
        // Of pipelines more is promised.
        if wishes.plans().contains_key(job) {
            continue;
        }
        // What fails at first is tried again.
        if flaky.contains(&job) || runs.iter().any(|run| !run.ok) {
            violations.extend(too_flaky((job, step), &runs, (operations, setup)));
        } else {
            violations.extend(again_without_reason((job, step), &runs, (operations, setup)));
        }
    }
    violations.extend(unfenced(operations, record, wishes));
    let fenced = record.state.fenced;
    if fenced < setup.min_fenced() {
        let what =
            format!("{fenced} writes with an old lease were refused, fewer than {}", setup.min_fenced());
        violations.push(Violation::new(Invariant::I16, what, Vec::new()));
    }
    violations
}

/// Runs of each step, in the order of their times.
pub(super) fn by_step(record: &Record) -> BTreeMap<(&str, &str), Vec<&Effect>> {
    let mut steps: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for effect in &record.effects {
        steps.entry((effect.job.as_str(), effect.step.as_str())).or_default().push(effect);
    }
    for runs in steps.values_mut() {
        runs.sort_by_key(|run| run.at_us);
    }
    steps
}

/// Runs that follow another one without a fault, by a lease that ran out: a busy machine, counted in the report.
pub(super) fn starved(operations: &Operations<'_>, record: &Record, setup: &Setup) -> u64 {
    let steps = by_step(record);
    let pairs = steps.values().flat_map(|runs| runs.windows(2));
    let starved = pairs.filter(|pair| {
        lease_ran_out((pair[0], pair[1]), setup) && !fault_between((pair[0], pair[1]), operations, setup)
    });
    starved.count() as u64
}

fn flaky<'a>(operations: &Operations<'a>) -> BTreeSet<&'a str> {
    let of_flaky = operations.all.iter().filter(
        |operation| matches!(operation.action, Action::Submit(submission) if submission.kind == Kind::Flaky),
    );
    of_flaky.filter_map(Operation::job_of_key).collect()
}

/// Whether a crash or a lease that ran out explains a second run.
pub(super) fn excused(pair: (&Effect, &Effect), operations: &Operations<'_>, setup: &Setup) -> bool {
    fault_between(pair, operations, setup) || lease_ran_out(pair, setup)
}

fn again_without_reason(
    (job, step): (&str, &str),
    runs: &[&Effect],
    (operations, setup): (&Operations<'_>, &Setup),
) -> Option<Violation> {
    let wrong = runs.windows(2).find(|pair| {
        let pair = (pair[0], pair[1]);
        pair.0.token == pair.1.token || !excused(pair, operations, setup)
    })?;
    let what = if wrong[0].token == wrong[1].token {
        format!("{job} {step}: it ran twice under one lease")
    } else {
        format!("{job} {step}: it ran again, and nothing had happened")
    };
    Some(Violation::new(Invariant::I2, what, runs.iter().map(|run| format!("{run:?}")).collect()))
}

/// A flaky step is retried under one lease or under a new one; a fault lets it begin again.
fn too_flaky(
    (job, step): (&str, &str),
    runs: &[&Effect],
    (operations, setup): (&Operations<'_>, &Setup),
) -> Option<Violation> {
    let (first, last) = (runs.first()?, runs.last()?);
    let faults = operations.faults.iter().filter(|(at, fault)| {
        let counts = matches!(
            fault,
            Fault::Kill { .. } | Fault::Hit { .. } | Fault::Stop { .. } | Fault::Continue { .. }
        );
        counts && (first.at_us - reach(setup)..=last.at_us).contains(at)
    });
    let allowed = FLAKY_RUNS * (1 + faults.count());
    (runs.len() > allowed).then(|| {
        let what = format!("{job} {step}: it ran {} times, more than {allowed}", runs.len());
        Violation::new(Invariant::I2, what, runs.iter().map(|run| format!("{run:?}")).collect())
    })
}

/// How long a stop has consequences after its end, microseconds.
fn reach(setup: &Setup) -> i64 {
    (setup.lease_ms + setup.heartbeat_ms) as i64 * 1000
}

/// Whether a fault explains that a step ran a second time. A kill does if it lies between. A stop reaches further: after
/// it, the old holder may run a step once more before it learns that it lost its lease.
fn fault_between((first, second): (&Effect, &Effect), operations: &Operations<'_>, setup: &Setup) -> bool {
    operations.faults.iter().any(|(at, fault)| match fault {
        Fault::Kill { .. } | Fault::Hit { .. } | Fault::Exit { .. } => {
            (first.at_us..=second.at_us).contains(at)
        }
        Fault::Stop { .. } | Fault::Continue { .. } => {
            (first.at_us - reach(setup)..=second.at_us).contains(at)
        }
        _ => false,
    })
}

/// The last heartbeat may have been one interval before the first run.
fn lease_ran_out((first, second): (&Effect, &Effect), setup: &Setup) -> bool {
    second.at_us - first.at_us >= (setup.lease_ms - setup.heartbeat_ms) as i64 * 1000
}

/// Who holds the greatest token ends the job after its last step. Where it is still at work after the end, or runs a
/// step that had succeeded, somebody without the lease wrote.
fn unfenced(operations: &Operations<'_>, record: &Record, wishes: &Wishes<'_>) -> Vec<Violation> {
    let mut greatest: BTreeMap<&str, i64> = BTreeMap::new();
    for effect in &record.effects {
        let token = greatest.entry(&effect.job).or_insert(effect.token);
        *token = effect.token.max(*token);
    }
    let (shown, canceled) = (jobs::shown(record), canceled(operations));
    let ended = |effect: &Effect| {
        let shown = shown.get(effect.job.as_str()).copied();
        // One that succeeded before stays so, where whoever cancels it ends it.
        let others = wishes.any(&effect.job) && canceled.contains(effect.job.as_str());
        shown.filter(|_| !others).and_then(ended_by_worker)
    };
    let succeeded = succeeded(operations);
    let mut violations = BTreeMap::new();
    for effect in record.effects.iter().filter(|effect| greatest[effect.job.as_str()] == effect.token) {
        let known = succeeded.get(&(effect.job.as_str(), effect.step.as_str())).copied();
        if let Some(at) = known.into_iter().chain(ended(effect)).min().filter(|at| effect.at_us > *at) {
            // One a job: the rest follows from the first.
            violations.entry(&effect.job).or_insert_with(|| late(effect, at, record));
        }
    }
    violations.into_values().collect()
}

fn late(effect: &Effect, done_at: i64, record: &Record) -> Violation {
    let Effect { job, step, token, .. } = effect;
    let what = format!("{job} {step}: run under the greatest token {token}, after it was done at {done_at}");
    let all = record.effects.iter().filter(|other| other.job == *job);
    Violation::new(Invariant::I8, what, all.map(|effect| format!("{effect:?}")).collect())
}

/// Jobs that somebody wanted canceled.
fn canceled<'a>(operations: &Operations<'a>) -> BTreeSet<&'a str> {
    let job = |operation: &Operation<'a>| match operation.action {
        Action::Cancel { job } => Some(job.as_str()),
        _ => None,
    };
    operations.all.iter().filter_map(job).collect()
}

/// When each step was seen to have succeeded, at the latest.
fn succeeded<'a>(operations: &Operations<'a>) -> BTreeMap<(&'a str, &'a str), i64> {
    let mut times = BTreeMap::new();
    for (job, sights) in operations.sights() {
        for sight in sights {
            for step in sight.job.steps.iter().filter(|step| step.succeeded()) {
                let time = times.entry((job, step.name.as_str())).or_insert(sight.until);
                *time = sight.until.min(*time);
            }
        }
    }
    times
}

/// When a job ended, where its worker ended it: canceled and expired jobs, and those that killed their worker too often,
/// are ended by others. As late as the printed digits allow.
fn ended_by_worker(job: &JobView) -> Option<i64> {
    let by_worker = job.status == "succeeded" || job.error.as_deref() == Some("corrupt_image");
    let printed = job.finished_at.as_ref().filter(|_| by_worker)?;
    let at: Timestamp = printed.parse().ok()?;
    let digits =
        printed.split_once('.').map_or(0, |(_, rest)| rest.chars().take_while(char::is_ascii_digit).count());
    Some(at.as_microsecond() + 10_i64.pow(6 - digits.min(6) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::made::{Made, SECOND, interim, processing, succeeded},
        profile::Database,
    };

    fn found(made: &Made) -> Vec<Invariant> {
        let record = made.record();
        let setup = crate::checker::setup(&record.events);
        let operations = Operations::of(&record.events);
        let wishes = Wishes::of(&operations, &record);
        let violations = check(&operations, &record, (&setup, &wishes));
        violations.into_iter().map(|violation| violation.invariant).collect()
    }

    /// Two runs of a step, half a lease from each other.
    fn twice((first, second): (i64, i64), between: impl FnOnce(&mut Made)) -> Made {
        let mut made = Made::new();
        made.submit("k", "p", Some(interim("job_1")));
        made.effect("job_1", first);
        between(&mut made);
        made.effect("job_1", second);
        let runs = &mut made.edit().effects;
        runs[0].at_us = runs[1].at_us - 750_000;
        made
    }

    #[test]
    fn a_step_that_runs_once_violates_nothing() {
        let mut made = Made::new();
        made.submit("k", "p", Some(interim("job_1")));
        made.effect("job_1", 1);
        made.read(succeeded("job_1"));
        assert_eq!(found(&made), []);
    }

    #[test]
    fn i2_a_step_runs_again_only_after_a_crash() {
        let kill = |made: &mut Made| {
            made.fault(Fault::Kill { server: 0 });
            made.edit().events.last_mut().unwrap().at_us += SECOND / 2;
        };
        assert_eq!(found(&twice((1, 2), kill)), []);
        assert_eq!(found(&twice((1, 2), |_| {})), [Invariant::I2]);
    }

    #[test]
    fn i2_a_step_that_runs_twice_under_one_lease() {
        let kill = |made: &mut Made| {
            made.fault(Fault::Kill { server: 0 });
            made.edit().events.last_mut().unwrap().at_us += SECOND / 2;
        };
        assert_eq!(found(&twice((1, 1), kill)), [Invariant::I2]);
    }

    #[test]
    fn i2_a_lease_that_ran_out_is_a_reason() {
        let mut made = twice((1, 2), |_| {});
        made.edit().effects[0].at_us -= 2 * SECOND;
        assert_eq!(found(&made), []);
        let record = made.record();
        let setup = crate::checker::setup(&record.events);
        assert_eq!(starved(&Operations::of(&record.events), &record, &setup), 1);
    }

    #[test]
    fn i2_a_flaky_step_may_run_again_but_not_for_ever() {
        let mut made = Made::new();
        made.with_kind(Kind::Flaky).submit("k", "p", Some(interim("job_1")));
        for _ in 0..FLAKY_RUNS {
            made.effect("job_1", 1);
        }
        assert_eq!(found(&made), []);
        made.effect("job_1", 1);
        assert_eq!(found(&made), [Invariant::I2]);
        made.fault(Fault::Stop { server: 0, ms: 3000 });
        made.effect("job_1", 2);
        assert_eq!(found(&made), [], "another server began again");
    }

    #[test]
    fn i8_the_holder_of_the_lease_works_on_after_somebody_ended_the_job() {
        let mut made = Made::new();
        made.submit("k", "p", Some(interim("job_1")));
        made.effect("job_1", 1);
        made.fault(Fault::Continue { server: 0 });
        let mut end = succeeded("job_1");
        end.job.as_mut().unwrap().finished_at =
            Some(Timestamp::from_microsecond(made.now()).unwrap().to_string());
        made.edit().state.projects[0].jobs.push(end.job.unwrap());
        let later = made.now() + 3 * SECOND;
        made.effect("job_1", 2);
        made.edit().effects[1].at_us = later;
        assert_eq!(found(&made), [Invariant::I8]);
        // An old holder may: what it writes is refused.
        made.effect("job_1", 3);
        made.edit().effects[2].at_us = later - 10 * SECOND;
        assert_eq!(found(&made), []);
    }

    #[test]
    fn i8_the_holder_of_the_lease_runs_what_had_succeeded() {
        let mut made = Made::new();
        let mut seen = processing("job_1");
        seen.job.as_mut().unwrap().steps[0].status = "succeeded".to_owned();
        made.effect("job_1", 1);
        made.read(seen);
        made.fault(Fault::Kill { server: 0 });
        made.effect("job_1", 2);
        assert_eq!(found(&made), [Invariant::I8]);
    }

    #[test]
    fn i16_without_a_refused_write_the_stops_did_nothing() {
        let mut made = Made::new();
        let crate::history::What::Run(setup) = &mut made.edit().events[0].what else { unreachable!() };
        setup.database = Database::Postgres;
        assert_eq!(found(&made), [Invariant::I16]);
        made.edit().state.fenced = 1;
        assert_eq!(found(&made), []);
    }
}
