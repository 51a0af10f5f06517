use super::*;
use crate::{
    checker::made::{Made, batch, canceled, corrupt_job, succeeded},
    history::What,
};

fn found(made: &Made) -> Vec<Invariant> {
    let record = made.record();
    let operations = Operations::of(&record.events);
    let violations = check(&operations, &record, &Wishes::of(&operations, &record));
    violations.iter().map(|violation| violation.invariant).collect()
}

/// One batch of three items, of which one succeeds, one is corrupt, and one is no image.
fn sound() -> Made {
    let mut made = Made::new();
    made.submit_batch("k", None);
    made.submit_batch("k", Some(batch("batch_1", [3, 2, 0, 1, 0])));
    made.read_batch(batch("batch_1", [3, 1, 1, 1, 0]));
    made.read_batch(batch("batch_1", [3, 0, 1, 2, 0]));
    made.final_job(succeeded("job_1"));
    made.final_job(corrupt_job("job_2"));
    made.final_batch(
        batch("batch_1", [3, 0, 1, 2, 0]),
        &[("succeeded", Some("job_1")), ("failed", Some("job_2")), ("failed", None)],
    );
    made
}

#[test]
fn a_sound_history_violates_nothing() {
    assert_eq!(found(&sound()), []);
}

#[test]
fn i10_an_item_that_is_lost_between_two_states() {
    let mut made = sound();
    made.read_batch(batch("batch_1", [3, 0, 1, 1, 0]));
    let found = found(&made);
    assert!(found.contains(&Invariant::I10), "{found:?}");
}

#[test]
fn i10_counts_that_are_not_those_of_the_items() {
    let mut made = sound();
    made.edit().state.projects[0].batches[0].items[1].status = "canceled".to_owned();
    made.edit().state.projects[0].jobs[1].status = "canceled".to_owned();
    assert_eq!(found(&made), [Invariant::I10]);
}

#[test]
fn i10_items_that_were_not_sent_or_did_not_end_so() {
    let mut made = sound();
    made.edit().state.projects[0].batches[0].items[0].custom_id = "item 7".to_owned();
    assert_eq!(found(&made), [Invariant::I10]);
    let mut made = sound();
    made.edit().state.projects[0].batches[0].items[0].job = Some("job_2".to_owned());
    assert_eq!(found(&made), [Invariant::I10, Invariant::I10], "two items, one job, which ended otherwise");
    let mut made = sound();
    made.edit().state.projects[0].jobs[0] = canceled("job_1").job.unwrap();
    assert_eq!(found(&made), [Invariant::I10]);
}

#[test]
fn i10_a_corrupt_item_that_succeeds() {
    let mut made = sound();
    let state = &mut made.edit().state.projects[0];
    (state.jobs[1].status, state.batches[0].items[1].status) =
        ("succeeded".to_owned(), "succeeded".to_owned());
    (state.batches[0].view.succeeded, state.batches[0].view.failed) = (2, 1);
    let found = found(&made);
    assert!(found.contains(&Invariant::I10), "{found:?}");
}

#[test]
fn i9_what_had_ended_goes_back() {
    let mut made = sound();
    made.read_batch(batch("batch_1", [3, 1, 0, 2, 0]));
    assert_eq!(found(&made), [Invariant::I9]);
}

#[test]
fn i7_a_batch_that_does_not_end() {
    let mut made = sound();
    made.edit().state.projects[0].batches[0].view.status = "processing".to_owned();
    let found = found(&made);
    assert!(found.contains(&Invariant::I7), "{found:?}");
}

#[test]
fn i1_and_i14_a_batch_that_is_gone_and_one_of_which_nothing_came() {
    let mut made = sound();
    made.edit().state.projects[0].batches.clear();
    assert_eq!(found(&made), [Invariant::I1]);
    let mut made = sound();
    made.submit_batch("l", None);
    assert_eq!(found(&made), [Invariant::I14]);
}

#[test]
fn i2_and_i3_a_key_with_two_batches_or_two_answers() {
    let mut made = sound();
    made.submit_batch("k", Some(Answer { replayed: true, ..batch("batch_2", [3, 3, 0, 0, 0]) }));
    assert_eq!(found(&made), [Invariant::I2]);
    let mut made = sound();
    let again = batch("batch_1", [3, 2, 0, 1, 0]);
    made.submit_batch("k", Some(Answer { replayed: true, ..again.clone() }));
    assert_eq!(found(&made), []);
    made.submit_batch("k", Some(again.clone()));
    assert!(found(&made).contains(&Invariant::I3));
    let mut made = sound();
    made.submit_batch("k", Some(Answer { replayed: true, body_sha256: "other".to_owned(), ..again }));
    assert_eq!(found(&made), [Invariant::I3]);
}

#[test]
fn i2_a_batch_that_no_key_leads_to() {
    let mut made = sound();
    made.final_batch(batch("batch_9", [0, 0, 0, 0, 0]), &[]);
    assert_eq!(found(&made), [Invariant::I2]);
}

/// The corrupt item is run again, and succeeds.
fn run_again(wish: bool) -> Made {
    let mut made = sound();
    if wish {
        let action = Action::RetryBatch { batch: "batch_1".to_owned() };
        made.request(action, Some(in_round(2, [3, 1, 1, 1, 0])));
    }
    made.read_batch(in_round(2, [3, 1, 1, 1, 0]));
    for event in &mut made.edit().events {
        let What::Invoke { action: Action::Batch(submission), .. } = &mut event.what else { continue };
        submission.items[1].1 = ItemKind::Troubled;
    }
    let state = &mut made.edit().state.projects[0];
    state.batches[0].view = in_round(2, [3, 0, 2, 1, 0]).batch.unwrap();
    state.batches[0].items[1].status = "succeeded".to_owned();
    state.jobs[1] = succeeded("job_2").job.unwrap();
    made
}

fn in_round(round: u64, counts: [u64; 5]) -> Answer {
    let mut answer = batch("batch_1", counts);
    answer.batch.as_mut().unwrap().round = round;
    answer
}

#[test]
fn i9_what_failed_is_run_again_only_for_a_wish() {
    assert_eq!(found(&run_again(true)), []);
    assert_eq!(found(&run_again(false)), [Invariant::I9]);
}

#[test]
fn i9_what_succeeded_is_never_run_again() {
    let mut made = run_again(true);
    made.read_batch(in_round(2, [3, 2, 0, 1, 0]));
    assert_eq!(found(&made), [Invariant::I9]);
}

#[test]
fn i10_two_items_with_one_result() {
    let mut made = run_again(true);
    for job in &mut made.edit().state.projects[0].jobs {
        job.results_sha256 = Some("same".to_owned());
    }
    assert_eq!(found(&made), [Invariant::I10]);
}

#[test]
fn i10_and_i2_items_of_one_key_share_its_job_and_no_others_do() {
    let twins = |keys: [&str; 2], jobs: [&str; 2]| {
        let mut made = sound();
        made.submit_batch("l", Some(batch("batch_2", [3, 0, 1, 2, 0])));
        let items = [("succeeded", Some(jobs[1])), ("failed", None), ("failed", None)];
        made.final_batch(batch("batch_2", [3, 0, 1, 2, 0]), &items);
        made.final_job(succeeded("job_3"));
        let batches = &mut made.edit().state.projects[0].batches;
        for (batch, key) in batches.iter_mut().zip(keys) {
            batch.items[0].key = Some(key.to_owned());
        }
        batches[0].items[0].job = Some(jobs[0].to_owned());
        found(&made)
    };
    assert_eq!(twins(["a", "a"], ["job_1", "job_1"]), []);
    assert_eq!(twins(["a", "b"], ["job_1", "job_1"]), [Invariant::I10]);
    assert_eq!(twins(["a", "a"], ["job_1", "job_3"]), [Invariant::I2]);
}
