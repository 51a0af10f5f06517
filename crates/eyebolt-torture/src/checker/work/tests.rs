use super::*;
use crate::checker::made::{Made, batch, corrupt, replayed, reused, succeeded, unavailable};

fn found(made: &Made) -> Vec<String> {
    let record = made.record();
    let operations = Operations::of(&record.events);
    let setup = crate::checker::setup(&record.events);
    let violations = Counts::of(&operations, &record).check(&setup);
    assert!(violations.iter().all(|violation| violation.invariant == Invariant::I16));
    violations.into_iter().map(|violation| violation.what).collect()
}

fn busy() -> Made {
    let mut made = Made::new();
    made.submit("k", "p", None);
    made.submit("k", "p", Some(succeeded("job_1")));
    made.with_kind(Kind::Corrupt).submit("c", "q", Some(corrupt("job_2")));
    made.with_kind(Kind::Sound).with_purpose(Purpose::OtherPayload).submit("k", "r", Some(reused()));
    for _ in 0..MIN_REPLAYS {
        made.with_purpose(Purpose::Replay).submit("k", "p", Some(replayed("job_1")));
    }
    for place in PLACES {
        made.fault(Fault::Hit { server: 0, failpoint: format!("{place}:1:kill") });
    }
    for _ in 0..MIN_STOPS {
        made.fault(Fault::Stop { server: 0, ms: 3000 });
    }
    made.fault(Fault::ClientCrash { client: 1 });
    made.effect("job_1", 1);
    for (said, _) in ANSWERS {
        made.receipt("endpoint/torture/shaky", "job_1", said);
    }
    for place in 0..MIN_RESUMED {
        made.told("job_1", place);
        made.edit().told[place as usize].connection = place;
    }
    made.edit().state.disabled.insert("we_1".to_owned());
    made.final_batch(batch("batch_1", [0; 5]), &[]);
    made.final_batch(batch("batch_2", [1, 0, 0, 0, 1]), &[("canceled", None)]);
    made.final_job(succeeded("job_1"));
    made.ended_again("job_4");
    made
}

#[test]
fn i16_receivers_that_made_no_trouble_and_streams_that_nobody_cut() {
    let mut made = busy();
    made.edit().receipts.retain(|receipt| receipt.said == Said::Taken);
    made.edit().told.truncate(1);
    made.edit().state.disabled.clear();
    let found = found(&made);
    for what in
        ["no message was answered 500", "no message was cut off", "messages that came again", "endpoints"]
    {
        assert!(found.iter().any(|found| found.starts_with(what)), "{what}: {found:?}");
    }
    assert!(found.iter().any(|found| found.starts_with("connections that told an end: 1,")), "{found:?}");
}

#[test]
fn a_busy_run_is_enough() {
    assert_eq!(found(&busy()), [] as [String; 0]);
}

#[test]
fn i16_a_server_that_refuses_everything() {
    let mut made = Made::new();
    for key in 0..100 {
        made.submit(&key.to_string(), "p", Some(unavailable()));
    }
    let found = found(&made);
    assert!(found.iter().any(|what| what.starts_with("keys with the right outcome: 0,")), "{found:?}");
    assert!(found.iter().any(|what| what.starts_with("kills") || what.starts_with("stops")), "{found:?}");
}

#[test]
fn i16_a_failpoint_that_is_never_reached() {
    let mut made = busy();
    let first = format!("{}:1:kill", PLACES[0]);
    let is_first = |event: &crate::history::Event| matches!(&event.what, crate::history::What::Nemesis(Fault::Hit { failpoint, .. }) if *failpoint == first);
    made.edit().events.retain(|event| !is_first(event));
    assert_eq!(found(&made), [format!("failpoint {} was never reached", PLACES[0])]);
}

#[test]
fn i16_a_corrupt_image_that_succeeds_is_no_right_outcome() {
    let mut made = busy();
    made.with_kind(Kind::Corrupt).with_purpose(Purpose::Fresh).submit("d", "s", Some(succeeded("job_3")));
    let found = found(&made);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("keys with the right outcome: 2, at least 3"), "{found:?}");
}
