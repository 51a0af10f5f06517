//! I5: what is charged is what was done.

use serde_json::Value;

use super::{Invariant, Record, Violation, executions, operations::Operations};
use crate::{history::Action, observed::JobView, settle::ProjectState};

pub(super) fn check(operations: &Operations<'_>, record: &Record) -> Vec<Violation> {
    let mut violations = Vec::new();
    for project in &record.state.projects {
        violations.extend(sums(project));
        violations.extend(project.jobs.iter().filter_map(price));
        violations.extend(unworked(project, record));
        violations.extend(shrinking(project, operations));
    }
    if record.state.audit["sound"] != Value::Bool(true) {
        let evidence = vec![record.state.audit.to_string()];
        violations.push(Violation::new(
            Invariant::I5,
            "the server's audit finds its ledger unsound",
            evidence,
        ));
    }
    violations
}

fn sums(project: &ProjectState) -> Vec<Violation> {
    let units: u64 = project.jobs.iter().filter_map(|job| job.units).sum();
    let (name, usage) = (&project.name, project.usage);
    let mut wrong = Vec::new();
    if usage.units != units as i64 {
        wrong.push(format!("{name}: {} units are charged, its jobs cost {units}", usage.units));
    }
    // While a job runs its price is held.
    if usage.reserved != 0 && project.jobs.iter().all(JobView::is_terminal) {
        wrong.push(format!("{name}: {} units are held for jobs that ended", usage.reserved));
    }
    wrong.into_iter().map(|what| Violation::new(Invariant::I5, what, Vec::new())).collect()
}

/// A step that succeeded costs one unit, or each of its parts that did, however often it was run; what did not succeed is not
/// charged. Of a job that failed what was found is charged, unless it killed its workers.
fn price(job: &JobView) -> Option<Violation> {
    let succeeded = job.done().count() as u64;
    let units = job.units.unwrap_or_default();
    let answered =
        job.status == "succeeded" || (job.status == "failed" && job.error.as_deref() != Some("worker_died"));
    let wrong = units > succeeded || (answered && units != succeeded);
    wrong.then(|| {
        let what = format!("{}: {units} units for {succeeded} steps that succeeded", job.id);
        Violation::new(Invariant::I5, what, vec![format!("{job:?}")])
    })
}

/// Steps that are said to have succeeded and never ran.
fn unworked(project: &ProjectState, record: &Record) -> Vec<Violation> {
    let ran = executions::by_step(record);
    let mut violations = Vec::new();
    for job in &project.jobs {
        for place in job.done() {
            let runs = ran.get(&(job.id.as_str(), place.as_str()));
            if runs.is_none_or(|runs| runs.iter().all(|run| !run.ok)) {
                let what = format!("{} {place}: it succeeded, and never did so when it ran", job.id);
                violations.push(Violation::new(Invariant::I5, what, vec![format!("{job:?}")]));
            }
        }
    }
    violations
}

/// Totals only grow.
fn shrinking(project: &ProjectState, operations: &Operations<'_>) -> Option<Violation> {
    let (mut greatest, mut asked): (Option<(i64, i64)>, Vec<_>) = (None, Vec::new());
    for operation in &operations.all {
        if let (Action::Usage, Some((at, answer))) = (operation.action, operation.answered)
            && operation.project == project.name
            && let Some(usage) = answer.usage
        {
            asked.push((operation.invoked_at, at, usage.units));
        }
    }
    asked.push((i64::MAX, i64::MAX, project.usage.units));
    asked.sort_by_key(|(_, at, _)| *at);
    for (from, until, units) in asked {
        if let Some((seen_at, seen)) = greatest.filter(|(seen_at, seen)| *seen_at < from && *seen > units) {
            let what = format!("{}: {seen} units were charged at {seen_at}, later {units}", project.name);
            return Some(Violation::new(Invariant::I5, what, Vec::new()));
        }
        if greatest.is_none_or(|(_, seen)| units > seen) {
            greatest = Some((until, units));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::made::{Made, canceled, piped, succeeded, usage};

    fn found(made: &Made) -> Vec<Invariant> {
        let record = made.record();
        let violations = check(&Operations::of(&record.events), &record);
        violations.into_iter().map(|violation| violation.invariant).collect()
    }

    fn sound() -> Made {
        let mut made = Made::new();
        made.effect("job_1", 1);
        made.request(Action::Usage, Some(usage(0)));
        made.request(Action::Usage, Some(usage(1)));
        made.final_job(succeeded("job_1"));
        made.final_job(canceled("job_2"));
        made
    }

    #[test]
    fn a_sound_ledger_violates_nothing() {
        assert_eq!(found(&sound()), []);
    }

    #[test]
    fn i5_more_or_less_is_charged_than_jobs_cost() {
        for units in [0, 2] {
            let mut made = sound();
            made.edit().state.projects[0].usage.units = units;
            // Less than was charged before is wrong twice.
            assert!(found(&made).contains(&Invariant::I5), "{units} units");
        }
    }

    #[test]
    fn i5_units_are_held_for_nothing() {
        let mut made = sound();
        made.edit().state.projects[0].usage.reserved = 1;
        assert_eq!(found(&made), [Invariant::I5]);
    }

    #[test]
    fn i5_a_canceled_job_is_charged() {
        let mut made = sound();
        made.edit().state.projects[0].jobs[1].units = Some(1);
        made.edit().state.projects[0].usage.units = 2;
        assert_eq!(found(&made), [Invariant::I5]);
    }

    #[test]
    fn i5_a_step_that_never_ran_is_charged() {
        let mut made = sound();
        made.edit().effects.clear();
        assert_eq!(found(&made), [Invariant::I5]);
    }

    #[test]
    fn i5_each_part_is_charged_once_however_often_it_ran() {
        let pipeline = |units: u64| {
            let mut made = Made::new();
            made.effects("job_1", 1, &["find", "read/0", "codes", "look"]);
            made.effect_of(("job_1", "read/1"), 1, false);
            made.effects("job_1", 2, &["read/1"]);
            let mut end = piped("job_1", ("succeeded", "succeeded"), "01");
            end.job.as_mut().unwrap().units = Some(units);
            made.final_job(end);
            made
        };
        assert_eq!(found(&pipeline(5)), []);
        assert_eq!(found(&pipeline(6)), [Invariant::I5]);
        let mut made = pipeline(5);
        made.edit().effects.pop();
        assert_eq!(found(&made), [Invariant::I5], "the part never succeeded when it ran");
    }

    #[test]
    fn i5_totals_shrink() {
        let mut made = sound();
        made.request(Action::Usage, Some(usage(0)));
        assert_eq!(found(&made), [Invariant::I5]);
    }

    #[test]
    fn i5_the_audit_says_so() {
        let mut made = sound();
        made.edit().state.audit = serde_json::json!({ "sound": false });
        assert_eq!(found(&made), [Invariant::I5]);
    }
}
