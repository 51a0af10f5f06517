use super::*;
use crate::checker::made::{Made, batch, canceled, interim, processing, succeeded};

const SHAKY: &str = "endpoint/torture/shaky";
const HOOK: &str = "hook/torture/1";

fn found(made: &Made) -> Vec<String> {
    let record = made.record();
    let operations = Operations::of(&record.events);
    let violations = check(&operations, &record, &Wishes::of(&operations, &record));
    assert!(violations.iter().all(|violation| violation.invariant == Invariant::I6));
    violations.into_iter().map(|violation| violation.what).collect()
}

/// One job, told to an endpoint, to the address that its request named, and on the stream.
fn sound() -> Made {
    let mut made = Made::new();
    made.with_hook(Some(HOOK)).submit("k", "p", Some(interim("job_1")));
    made.with_hook(None).read(processing("job_1"));
    made.receipt(SHAKY, "job_1", Said::Failed);
    made.receipt(SHAKY, "job_1", Said::Taken);
    made.receipt(HOOK, "job_1", Said::Late);
    made.receipt(HOOK, "job_1", Said::Taken);
    made.told("job_1", 7);
    made.read(succeeded("job_1"));
    made.final_job(succeeded("job_1"));
    made.endpoint("shaky", "enabled");
    made.fault(Fault::Quiet);
    made.fault(Fault::Told);
    made
}

/// The sound history with its receipts changed.
fn with_receipts(change: impl Fn(&mut Receipt)) -> Made {
    let mut made = sound();
    made.edit().receipts.iter_mut().for_each(change);
    made
}

fn only_one(found: &[String], what: &str) {
    assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
}

#[test]
fn a_sound_history_violates_nothing() {
    assert_eq!(found(&sound()), [] as [String; 0]);
}

#[test]
fn a_message_that_comes_again_after_it_was_taken_is_the_same_message() {
    let mut made = sound();
    made.receipt(SHAKY, "job_1", Said::Taken);
    assert_eq!(found(&made), [] as [String; 0]);
}

#[test]
fn an_id_that_is_not_stable() {
    let mut made = sound();
    let again = &mut made.edit().receipts[1];
    (again.id, again.message.id) = ("evt_other".to_owned(), "evt_other".to_owned());
    only_one(&found(&made), "job_1: its end was told under 2 ids");
    let mut made = sound();
    made.edit().receipts[1].id = "evt_other".to_owned();
    let found = found(&made);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("another event than its body") && found[1].contains("under 2 ids"));
}

#[test]
fn an_id_that_the_stream_does_not_have() {
    let mut made = sound();
    if let Heard::Event { message, .. } = &mut made.edit().told[0].what {
        message.id = "evt_other".to_owned();
    }
    only_one(&found(&made), "job_1: its end was told under 2 ids");
}

#[test]
fn other_bytes_at_another_attempt() {
    let mut made = sound();
    made.edit().receipts[1].message.sha256 = "other".to_owned();
    only_one(&found(&made), "in several bytes under one id");
}

#[test]
fn an_end_that_nobody_took() {
    for said in [Said::Failed, Said::Busy, Said::Late, Said::Nothing, Said::Cut] {
        let mut made = sound();
        made.edit().receipts[1].said = said;
        only_one(&found(&made), "job_1: endpoint/torture/shaky did not take");
        let mut made = sound();
        made.edit().receipts[3].said = said;
        only_one(&found(&made), "job_1: hook/torture/1 did not take");
    }
}

#[test]
fn an_end_that_was_never_sent() {
    let mut made = sound();
    made.edit().receipts.truncate(2);
    only_one(&found(&made), "job_1: hook/torture/1 did not take");
    made.edit().receipts.clear();
    assert_eq!(found(&made).len(), 2);
}

#[test]
fn a_signature_a_time_and_a_text_that_are_not_right() {
    only_one(&found(&with_receipts(|one| one.signed &= one.attempt != 1 || one.to != HOOK)), "signature");
    let late = with_receipts(|one| one.sent_at -= if one.to == HOOK && one.attempt == 1 { 999 } else { 0 });
    only_one(&found(&late), "timestamp");
    for change in [
        |message: &mut Message| message.kind = "job.failed".to_owned(),
        |message: &mut Message| message.status = "failed".to_owned(),
        |message: &mut Message| message.finished_at = None,
    ] {
        let mut made = sound();
        change(&mut made.edit().receipts[0].message);
        only_one(&found(&made), "it did not end so");
    }
}

#[test]
fn a_job_that_has_not_ended() {
    let mut made = sound();
    made.read(processing("job_1"));
    assert_eq!(found(&made).len(), 4, "each message came before an answer that shows it running");
    let mut made = sound();
    made.receipt(SHAKY, "job_2", Said::Taken);
    made.final_job(processing("job_2"));
    only_one(&found(&made), "it tells of what has not ended");
}

#[test]
fn another_projects_job() {
    let mut made = sound();
    made.receipt("endpoint/neighbour/shaky", "job_1", Said::Taken);
    only_one(&found(&made), "another project's");
}

#[test]
fn an_address_that_the_jobs_request_did_not_name() {
    let mut made = sound();
    made.receipt("hook/torture/2", "job_1", Said::Taken);
    only_one(&found(&made), "did not name this address");
    // Two requests race for a key: the second one named an address, and has no job.
    let mut made = sound();
    made.with_hook(Some("hook/torture/2")).submit("k", "q", Some(crate::checker::made::reused()));
    assert_eq!(found(&made), [] as [String; 0]);
    made.receipt("hook/torture/2", "job_1", Said::Taken);
    only_one(&found(&made), "did not name this address");
}

#[test]
fn a_batch_is_told_of_to_endpoints_and_its_items_are_not() {
    let mut made = sound();
    made.submit_batch("b", Some(batch("batch_1", [1, 1, 0, 0, 0])));
    made.final_job(succeeded("job_2"));
    made.final_batch(batch("batch_1", [1, 0, 1, 0, 0]), &[("succeeded", Some("job_2"))]);
    made.told("job_2", 8);
    made.told("batch_1", 9);
    only_one(&found(&made), "batch_1: endpoint/torture/shaky did not take");
    made.receipt(SHAKY, "batch_1", Said::Taken);
    assert_eq!(found(&made), [] as [String; 0]);
    made.read_batch(batch("batch_1", [1, 1, 0, 0, 0]));
    only_one(&found(&made), "had not ended yet");
}

#[test]
fn an_endpoint_that_is_gone_is_told_nothing_more_and_the_log_says_so() {
    let mut made = sound();
    made.receipt("endpoint/torture/gone", "job_1", Said::Gone);
    made.endpoint("gone", "gone");
    only_one(&found(&made), "no log tells");
    made.edit().state.disabled.insert("we_gone".to_owned());
    assert_eq!(found(&made), [] as [String; 0]);
    made.edit().receipts.pop();
    only_one(&found(&made), "never said that it is gone");
    let mut made = sound();
    made.edit().state.projects[0].endpoints[0].status = "failing".to_owned();
    only_one(&found(&made), "never said that it is gone");
}

#[test]
fn an_endpoint_that_said_it_is_gone_and_is_told_on() {
    let mut made = sound();
    made.receipt(SHAKY, "job_1", Said::Gone);
    only_one(&found(&made), "and is on");
}

#[test]
fn a_stream_that_misses_an_end_or_tells_it_twice() {
    let mut made = sound();
    made.edit().told.clear();
    only_one(&found(&made), "job_1: the stream of torture does not tell its end");
    let mut made = sound();
    made.told("job_1", 8);
    only_one(&found(&made), "an end comes twice");
}

#[test]
fn a_stream_whose_places_do_not_grow() {
    let mut made = sound();
    made.final_job(canceled("job_2"));
    for to in [SHAKY, HOOK] {
        made.receipt(to, "job_2", Said::Taken);
    }
    made.edit().receipts.pop();
    made.told("job_2", 7);
    only_one(&found(&made), "its places do not grow");
}

#[test]
fn a_stream_of_another_project() {
    let mut made = sound();
    made.told("job_1", 8);
    made.edit().told[1].project = "neighbour".to_owned();
    only_one(&found(&made), "the stream of neighbour: it tells of what is another project's");
}

#[test]
fn a_stream_that_cannot_be_gone_on_with() {
    let refused = |status| {
        let mut made = sound();
        made.told("job_1", 8);
        made.edit().told[1].what = Heard::Refused { status, after: Some(7) };
        found(&made)
    };
    for status in [400, 404, 410] {
        only_one(&refused(status), "it can't be gone on with");
    }
    for status in [429, 503] {
        assert_eq!(refused(status), [] as [String; 0]);
    }
}

#[test]
fn messages_that_are_still_on_their_way_when_the_time_is_over() {
    let mut made = sound();
    made.edit().events.pop();
    only_one(&found(&made), "still on its way");
}

/// The job ended without a part, was run again, and both ends were told to all.
fn ended_twice() -> Made {
    let mut made = sound();
    made.retry("job_1", None);
    made.edit().state.projects[0].jobs[0].finished_at = Some("1970-01-02T00:00:09Z".to_owned());
    for to in [SHAKY, HOOK] {
        made.receipt(to, "job_1", Said::Taken);
    }
    made.told("job_1", 8);
    let Record { receipts, told, .. } = made.edit();
    let second = |message: &mut Message| {
        (message.id, message.sha256, message.round) = ("evt_2".to_owned(), "told again".to_owned(), 2);
    };
    for receipt in receipts.iter_mut().rev().take(2) {
        second(&mut receipt.message);
        receipt.id = "evt_2".to_owned();
    }
    if let Some(Heard::Event { message, .. }) = told.last_mut().map(|told| &mut told.what) {
        second(message);
    }
    made
}

#[test]
fn a_job_that_was_run_again_has_two_ends_and_each_is_told() {
    assert_eq!(found(&ended_twice()), [] as [String; 0]);
    let mut made = ended_twice();
    made.edit().receipts.pop();
    only_one(&found(&made), "hook/torture/1 did not take the message of its end");
    let mut made = ended_twice();
    made.edit().told.remove(0);
    only_one(&found(&made), "of its ends one is missing");
    let mut made = ended_twice();
    if let Heard::Event { message, .. } = &mut made.edit().told[1].what {
        message.round = 3;
    }
    assert!(found(&made).iter().any(|what| what.contains("of its ends one is missing")));
}

#[test]
fn a_second_end_that_nobody_wished() {
    let mut made = ended_twice();
    made.edit().events.retain(|event| {
        !matches!(&event.what, crate::history::What::Invoke { action: Action::Retry { .. }, .. })
    });
    let found = found(&made);
    assert!(found.iter().any(|what| what.contains("it did not end so")), "{found:?}");
}
