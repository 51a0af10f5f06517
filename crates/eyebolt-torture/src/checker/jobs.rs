//! Promises about jobs: I1 (none is lost), I7 (all end), I9 (order of states), isolation, and servers that stay up.

use std::collections::BTreeMap;

use super::{
    Invariant, Record, Violation, again,
    operations::{Operations, Sight},
    wishes::Wishes,
};
use crate::{
    history::{Action, Fault},
    observed::JobView,
    profile::Setup,
};

const STATES: [&str; 6] = ["pending", "processing", "succeeded", "failed", "canceled", "expired"];

pub(super) fn check(
    operations: &Operations<'_>,
    record: &Record,
    (setup, wishes): (&Setup, &Wishes<'_>),
) -> Vec<Violation> {
    let shown = shown(record);
    let mut violations = lost(operations, record, &shown);
    violations.extend(stuck(operations, record, setup));
    for (job, mut sights) in operations.sights() {
        let end = shown.get(job).map(|job| Sight { from: i64::MAX, until: i64::MAX, op: 0, job });
        sights.extend(end);
        violations.extend(disorder(job, &sights, wishes));
    }
    violations.extend(isolation(operations));
    violations.extend(exits(operations));
    violations
}

/// All jobs of the final state.
pub(super) fn shown(record: &Record) -> BTreeMap<&str, &JobView> {
    let jobs = record.state.projects.iter().flat_map(|project| &project.jobs);
    jobs.map(|job| (job.id.as_str(), job)).collect()
}

fn lost(operations: &Operations<'_>, record: &Record, shown: &BTreeMap<&str, &JobView>) -> Vec<Violation> {
    let mut told = BTreeMap::new();
    for operation in &operations.all {
        let own = !matches!(operation.action, Action::Read { foreign: true, .. });
        if let Some(job) = operation.answer().and_then(|answer| answer.job_id()).filter(|_| own) {
            told.entry(job).or_insert_with(|| operation.line());
        }
    }
    for effect in &record.effects {
        told.entry(&effect.job).or_insert_with(|| format!("{effect:?}"));
    }
    told.retain(|job, _| !shown.contains_key(job));
    let mut violations: Vec<_> = told
        .into_iter()
        .map(|(job, line)| Violation::new(Invariant::I1, format!("{job}: it is gone"), vec![line]))
        .collect();
    for (job, status) in record.state.projects.iter().flat_map(|project| &project.unreadable) {
        let what = format!("{job}: it is listed, but reading it gives {status}");
        violations.push(Violation::new(Invariant::I1, what, Vec::new()));
    }
    violations
}

fn stuck(operations: &Operations<'_>, record: &Record, setup: &Setup) -> Vec<Violation> {
    let jobs = record.state.projects.iter().flat_map(|project| &project.jobs);
    let open = jobs.filter(|job| !job.is_terminal());
    let mut violations: Vec<_> = open
        .map(|job| {
            Violation::new(Invariant::I7, format!("{}: it does not end", job.id), vec![format!("{job:?}")])
        })
        .collect();
    let limit = setup.settle_seconds as i64 * 1_000_000;
    if let (Some(healed), Some(quiet)) = (operations.healed_at(), operations.quiet_at())
        && quiet - healed > limit
    {
        let what = format!("quiet only {} ms after the last fault", (quiet - healed) / 1000);
        violations.push(Violation::new(Invariant::I7, what, Vec::new()));
    }
    violations
}

/// At most one violation a job: the first that is found.
fn disorder(id: &str, sights: &[Sight<'_>], wishes: &Wishes<'_>) -> Option<Violation> {
    let violation = |what: String, pair: [&Sight<'_>; 2]| {
        let evidence = pair.map(|sight| format!("op {} from {}: {:?}", sight.op, sight.from, sight.job));
        Some(Violation::new(Invariant::I9, format!("{id}: {what}"), evidence.into()))
    };
    if let Some(sight) = sights.iter().find(|sight| !STATES.contains(&sight.job.status.as_str())) {
        return violation(format!("{} is no state", sight.job.status), [sight, sight]);
    }
    if wishes.any(id) {
        if let Some(found) = again::disorder(id, sights, wishes) {
            return Some(found);
        }
    } else if let Some([first, other]) = changed(sights) {
        return violation("its end changed".to_owned(), [first, other]);
    }
    for (later, sight) in sights.iter().enumerate() {
        // Later ones were asked later; of these, those that were answered before this one was asked count.
        let before = sights[..later].iter().filter(|before| before.until < sight.from);
        for before in before {
            let wished = wishes.between(id, (before.from, sight.until));
            if let Some(step) = again::step_back(before.job, sight.job, wished) {
                return violation(format!("step {} went back", step.name), [before, sight]);
            }
            if let Some(part) = again::part_back(before.job, sight.job) {
                return violation(format!("part {} went back", part.place()), [before, sight]);
            }
        }
    }
    None
}

/// Two sights of a job that nobody wished to be run again: its first end, and something else later.
fn changed<'a, 'b>(sights: &'b [Sight<'a>]) -> Option<[&'b Sight<'a>; 2]> {
    let first_end = sights.iter().filter(|sight| sight.job.is_terminal()).min_by_key(|sight| sight.until);
    let first = first_end?;
    let ended = |sight: &&Sight<'_>| sight.job.is_terminal() && end(sight.job) != end(first.job);
    let alive = |sight: &&Sight<'_>| !sight.job.is_terminal() && sight.from > first.until;
    let other = sights.iter().find(|sight| ended(sight) || alive(sight))?;
    Some([first, other])
}

/// What of an end must never change.
fn end(job: &JobView) -> (&str, Option<&str>, Option<u64>, Option<&str>) {
    (&job.status, job.finished_at.as_deref(), job.units, job.results_sha256.as_deref())
}

fn isolation(operations: &Operations<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut owners = BTreeMap::new();
    for operation in &operations.all {
        let Some(answer) = operation.answer() else { continue };
        let foreign = matches!(operation.action, Action::Read { foreign: true, .. });
        if foreign && answer.status != 404 && answer.status < 500 {
            let what = format!("{} read another project's job", operation.project);
            violations.push(Violation::new(Invariant::Isolation, what, vec![operation.line()]));
        }
        if let Some(job) = operation.job_of_key() {
            let (owner, first) = owners.entry(job).or_insert((operation.project, operation));
            if *owner != operation.project {
                let lines = vec![first.line(), operation.line()];
                let what = format!("{job} belongs to two projects");
                violations.push(Violation::new(Invariant::Isolation, what, lines));
            }
        }
    }
    violations
}

fn exits(operations: &Operations<'_>) -> Vec<Violation> {
    let exit = |(at, fault): &(i64, &Fault)| match fault {
        Fault::Exit { server, status } => {
            let what = format!("server {server} ended by itself at {at}: {status}");
            Some(Violation::new(Invariant::Exit, what, Vec::new()))
        }
        _ => None,
    };
    operations.faults.iter().filter_map(exit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::made::{Made, SECOND, canceled, interim, missing, processing, succeeded};

    fn found(made: &Made) -> Vec<Invariant> {
        let record = made.record();
        let setup = crate::checker::setup(&record.events);
        let operations = Operations::of(&record.events);
        let wishes = Wishes::of(&operations, &record);
        let violations = check(&operations, &record, (&setup, &wishes));
        violations.into_iter().map(|violation| violation.invariant).collect()
    }

    fn sound() -> Made {
        let mut made = Made::new();
        made.submit("k", "p", Some(interim("job_1")));
        made.effect("job_1", 1);
        made.fault(Fault::Kill { server: 0 });
        made.read(processing("job_1"));
        made.read(succeeded("job_1"));
        made.fault(Fault::Heal);
        made.fault(Fault::Quiet);
        made.final_job(succeeded("job_1"));
        made
    }

    #[test]
    fn a_sound_history_violates_nothing() {
        assert_eq!(found(&sound()), []);
    }

    #[test]
    fn i1_an_accepted_job_that_is_gone() {
        let mut made = sound();
        made.submit("l", "q", Some(interim("job_2")));
        assert_eq!(found(&made), [Invariant::I1]);
    }

    #[test]
    fn i1_a_job_that_ran_and_is_gone() {
        let mut made = sound();
        made.effect("job_2", 1);
        assert_eq!(found(&made), [Invariant::I1]);
    }

    #[test]
    fn i1_a_job_that_cannot_be_read() {
        let mut made = sound();
        made.edit().state.projects[0].unreadable.push(("job_3".to_owned(), 404));
        assert_eq!(found(&made), [Invariant::I1]);
    }

    #[test]
    fn i7_a_job_that_does_not_end() {
        let mut made = sound();
        made.final_job(processing("job_2"));
        assert_eq!(found(&made), [Invariant::I7]);
    }

    #[test]
    fn i7_jobs_that_end_late() {
        let mut made = Made::new();
        made.fault(Fault::Heal);
        made.edit().events.last_mut().unwrap().at_us -= 61 * SECOND;
        made.fault(Fault::Quiet);
        assert_eq!(found(&made), [Invariant::I7]);
    }

    #[test]
    fn i9_an_end_that_changes() {
        let mut made = sound();
        made.read(canceled("job_1"));
        assert_eq!(found(&made), [Invariant::I9]);
        let mut made = sound();
        made.read(processing("job_1"));
        assert_eq!(found(&made), [Invariant::I9]);
        let mut made = sound();
        let mut later = succeeded("job_1");
        later.job.as_mut().unwrap().finished_at = Some("1970-01-03T00:00:00Z".to_owned());
        made.read(later);
        assert_eq!(found(&made), [Invariant::I9], "it ended twice");
    }

    #[test]
    fn i9_answers_that_cross_each_other_have_no_order() {
        let mut made = Made::new();
        made.at_once(|made| {
            made.read(succeeded("job_1"));
            made.read(processing("job_1"));
        });
        made.final_job(succeeded("job_1"));
        assert_eq!(found(&made), []);
    }

    #[test]
    fn i9_a_step_that_goes_back() {
        let mut made = Made::new();
        let mut seen = processing("job_1");
        seen.job.as_mut().unwrap().steps[0].status = "succeeded".to_owned();
        made.read(seen);
        made.read(processing("job_1"));
        made.final_job(succeeded("job_1"));
        assert_eq!(found(&made), [Invariant::I9]);
    }

    #[test]
    fn isolation_a_foreign_job_that_can_be_read() {
        let read = || Action::Read { job: "job_1".to_owned(), foreign: true };
        let mut made = sound();
        made.request(read(), Some(missing()));
        assert_eq!(found(&made), []);
        made.request(read(), Some(succeeded("job_1")));
        assert_eq!(found(&made), [Invariant::Isolation]);
    }

    #[test]
    fn exit_a_server_that_ends_by_itself() {
        let mut made = sound();
        made.fault(Fault::Exit { server: 0, status: "exit status: 101".to_owned() });
        assert_eq!(found(&made), [Invariant::Exit]);
    }
}
