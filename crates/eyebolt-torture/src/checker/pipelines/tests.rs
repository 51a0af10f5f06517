use super::*;
use crate::{
    checker::made::{Made, SECOND, interim, piped, plan},
    history::Fault,
};

fn found(made: &Made) -> Vec<Invariant> {
    let record = made.record();
    let (operations, setup) = (Operations::of(&record.events), crate::checker::setup(&record.events));
    let wishes = Wishes::of(&operations, &record);
    let violations = check(&operations, &record, (&setup, &wishes));
    violations.into_iter().map(|violation| violation.invariant).collect()
}

/// One of its two parts is left out at first, and then run again.
fn sound() -> Made {
    let mut made = Made::new();
    let skipped = || piped("job_1", ("succeeded", "skipped"), "01");
    made.with_plan(Some(plan(OnError::Skip))).submit("k", "p", Some(interim("job_1")));
    made.effects("job_1", 1, &["find", "read/0"]);
    made.effect_of(("job_1", "read/1"), 1, false);
    made.effects("job_1", 1, &["codes", "look"]);
    made.read(skipped());
    made.retry("job_1", Some(piped("job_1", ("pending", "pending"), "")));
    made.effects("job_1", 2, &["read/1"]);
    made.final_job(piped("job_1", ("succeeded", "succeeded"), "09"));
    made
}

#[test]
fn a_sound_history_violates_nothing() {
    assert_eq!(found(&sound()), []);
}

#[test]
fn i2_a_part_that_runs_twice_under_one_lease() {
    let mut made = sound();
    made.effects("job_1", 2, &["read/1"]);
    assert_eq!(found(&made), [Invariant::I2]);
}

#[test]
fn i2_a_part_that_is_tried_again_and_nobody_had_wished_it() {
    let tried_again = |wish: bool, attempts: u32| {
        let mut made = Made::new();
        made.with_plan(Some(Plan { attempts, ..plan(OnError::Skip) }));
        made.submit("k", "p", Some(interim("job_1")));
        let at_us = made.now() + SECOND / 2;
        if wish {
            made.retry("job_1", None);
        }
        made.effect_of(("job_1", "read/1"), 1, false);
        made.effects("job_1", 2, &["read/1"]);
        // One so soon after the other that no lease ran out.
        for (number, effect) in (0..).zip(&mut made.edit().effects) {
            effect.at_us = at_us + number * 10_000;
        }
        made
    };
    assert_eq!(found(&tried_again(true, 1)), []);
    assert_eq!(found(&tried_again(false, 2)), [], "the pipeline says so");
    assert_eq!(found(&tried_again(false, 1)), [Invariant::I2]);
}

#[test]
fn i2_more_is_done_again_than_ran() {
    let killed = |places: &[&str]| {
        let mut made = Made::new();
        let plan = Plan { parts: 4, poison: None, ..plan(OnError::Skip) };
        made.with_plan(Some(plan)).submit("k", "p", None);
        made.submit("k", "p", Some(interim("job_1")));
        made.effects("job_1", 1, &["find", "read/0", "read/1", "read/2", "read/3"]);
        made.fault(Fault::Kill { server: 0 });
        made.effects("job_1", 2, places);
        made
    };
    assert_eq!(found(&killed(&["read/2", "read/3", "codes", "look"])), []);
    assert_eq!(found(&killed(&["read/1", "read/2", "read/3", "codes", "look"])), [Invariant::I2]);
}

#[test]
fn i8_a_part_that_was_seen_to_have_succeeded_runs_again() {
    let mut made = sound();
    made.fault(Fault::Kill { server: 0 });
    made.effects("job_1", 2, &["read/0"]);
    assert_eq!(found(&made), [Invariant::I8]);
    // An old holder may: what it writes is refused.
    let mut made = sound();
    made.fault(Fault::Kill { server: 0 });
    made.effects("job_1", 0, &["read/0"]);
    assert_eq!(found(&made), []);
}

#[test]
fn i9_what_was_done_long_ago_is_not_shown() {
    let looked = |count: usize| {
        let mut made = Made::new();
        let plan = Plan { parts: 2, poison: None, ..plan(OnError::Skip) };
        made.with_plan(Some(plan)).submit("k", "p", Some(interim("job_1")));
        made.effects("job_1", 1, &["find", "read/0", "read/1", "codes"][..count]);
        let mut seen = piped("job_1", ("processing", "pending"), "");
        let job = seen.job.as_mut().unwrap();
        job.parts[0].status = "pending".to_owned();
        job.steps.retain(|step| step.name != "codes" && step.name != "look");
        made.read(seen);
        made
    };
    assert_eq!(found(&looked(3)), [], "its end is on its way");
    assert_eq!(found(&looked(4)), [Invariant::I9]);
}

#[test]
fn i9_the_step_that_needs_all_parts_runs_before_one_of_them() {
    let mut made = sound();
    made.edit().effects.retain(|effect| effect.step != "read/0");
    assert_eq!(found(&made), [Invariant::I9]);
    let mut made = sound();
    let first = made.edit().effects.iter_mut().find(|effect| effect.step == "read/1").unwrap();
    first.at_us += 5_000_000;
    assert_eq!(found(&made), [Invariant::I9]);
}

#[test]
fn i9_a_failed_part_fails_the_step_that_needs_it() {
    let mut made = sound();
    for event in &mut made.edit().events {
        if let crate::history::What::Invoke { action: crate::history::Action::Submit(submission), .. } =
            &mut event.what
        {
            submission.plan = Some(plan(OnError::Fail));
        }
    }
    assert_eq!(found(&made), [Invariant::I9]);
}

#[test]
fn i2_parts_that_are_missing_doubled_or_not_of_the_plan() {
    let mut made = sound();
    made.edit().state.projects[0].jobs[0].parts.pop();
    assert_eq!(found(&made), [Invariant::I2]);
    let mut made = sound();
    made.edit().state.projects[0].jobs[0].parts[1].index = 0;
    assert_eq!(found(&made), [Invariant::I2]);
    let mut made = sound();
    made.edit().state.projects[0].jobs[0].parts[1].key = "key of 0".to_owned();
    assert_eq!(found(&made), [Invariant::I2]);
    let mut made = sound();
    made.effects("job_1", 2, &["read/2"]);
    assert_eq!(found(&made), [Invariant::I2]);
}
