use crate::{
    checker::{
        Invariant, Operations, jobs,
        made::{Made, piped},
        wishes::Wishes,
    },
    listening::Heard,
    observed::Answer,
};

fn found(made: &Made) -> Vec<Invariant> {
    let record = made.record();
    let (operations, setup) = (Operations::of(&record.events), crate::checker::setup(&record.events));
    let wishes = Wishes::of(&operations, &record);
    let violations = jobs::check(&operations, &record, (&setup, &wishes));
    violations.into_iter().map(|violation| violation.invariant).collect()
}

fn skipped() -> Answer {
    piped("job_1", ("succeeded", "skipped"), "01")
}

fn whole() -> Answer {
    piped("job_1", ("succeeded", "succeeded"), "09")
}

/// It ends without a part, and is run again; `wish`: somebody wanted that.
fn run_again(wish: bool) -> Made {
    let mut made = Made::new();
    made.read(skipped());
    if wish {
        made.retry("job_1", None);
    }
    made.read(piped("job_1", ("processing", "pending"), ""));
    made.read(whole());
    made.final_job(whole());
    made
}

#[test]
fn i9_an_end_changes_only_for_a_wish() {
    assert_eq!(found(&run_again(true)), []);
    assert_eq!(found(&run_again(false)), [Invariant::I9]);
}

#[test]
fn i9_a_wish_that_came_later_is_no_reason() {
    let mut made = Made::new();
    made.read(skipped());
    made.read(whole());
    made.retry("job_1", Some(whole()));
    made.final_job(whole());
    assert_eq!(found(&made), [Invariant::I9]);
}

#[test]
fn i2_each_wish_makes_one_run() {
    let unwished = |wishes: usize| {
        let mut made = run_again(false);
        for at in ["1970-01-02T00:00:01Z", "1970-01-02T00:00:05Z", "1970-01-02T00:00:09Z"] {
            made.told("job_1", 1);
            if let Heard::Event { message, .. } = &mut made.edit().told.last_mut().unwrap().what {
                message.finished_at = Some(at.to_owned());
            }
        }
        for _ in 0..wishes {
            made.retry("job_1", None);
        }
        let record = made.record();
        super::unwished(&record, &Wishes::of(&Operations::of(&record.events), &record)).len()
    };
    assert_eq!(unwished(2), 0);
    assert_eq!(unwished(1), 1, "the second run had no wish of its own");
}

#[test]
fn i9_an_earlier_end_that_comes_back() {
    let mut made = run_again(true);
    made.retry("job_1", None);
    made.read(skipped());
    assert_eq!(found(&made), [Invariant::I9]);
}

#[test]
fn i9_one_end_in_two_ways() {
    let mut made = run_again(true);
    let mut other = whole();
    other.job.as_mut().unwrap().units = Some(4);
    made.read(other);
    assert_eq!(found(&made), [Invariant::I9]);
}

#[test]
fn i9_a_part_that_had_succeeded_goes_back_even_where_somebody_wished() {
    let mut made = run_again(true);
    made.retry("job_1", None);
    made.edit().state.projects[0].jobs[0].parts[0].status = "skipped".to_owned();
    made.edit().state.projects[0].jobs[0].finished_at = Some("1970-01-02T00:00:59Z".to_owned());
    assert_eq!(found(&made), [Invariant::I9]);
}
