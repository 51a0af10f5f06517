//! Promises about idempotency keys: I2 (one job a key), I3 (replays), I4 (other payloads), I14 (unknown outcomes).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Invariant, Violation, batches,
    operations::{Keyed, Operation, Operations},
    wishes::Wishes,
};
use crate::{
    history::Purpose,
    observed::{Answer, Standing},
    settle::FinalState,
};

/// One key with all its requests.
struct Key<'a, 'b> {
    name: String,
    requests: &'b [Keyed<'a, 'b>],
}

pub(super) fn check(operations: &Operations<'_>, state: &FinalState, wishes: &Wishes<'_>) -> Vec<Violation> {
    let keys = operations.by_key();
    let mut violations = Vec::new();
    for ((project, key), requests) in &keys {
        let key = Key { name: format!("key {key} of {project}"), requests };
        violations.extend(key.one_job());
        violations.extend(key.one_payload());
        violations.extend(key.refused_for_nothing());
        for payload in key.payloads() {
            violations.extend(key.one_answer(payload, wishes));
            violations.extend(key.replays(payload, wishes));
            violations.extend(key.resolved(payload));
        }
    }
    let unresolved = violations.iter().filter(|violation| violation.invariant == Invariant::I14).count();
    violations.extend(jobs_without_key(&keys, state, unresolved));
    violations.extend(keys_sharing_a_job(&keys));
    violations
}

impl<'a, 'b> Key<'a, 'b> {
    fn payloads(&self) -> BTreeSet<&'a str> {
        self.requests.iter().map(|(_, submission)| submission.fingerprint.as_str()).collect()
    }

    fn of(&self, payload: &str) -> impl Iterator<Item = &'b Operation<'a>> {
        self.requests
            .iter()
            .filter(move |(_, submission)| submission.fingerprint == payload)
            .map(|(operation, _)| *operation)
    }

    fn violation(&self, invariant: Invariant, what: &str, evidence: &[&Operation<'_>]) -> Violation {
        let lines = evidence.iter().map(|operation| operation.line()).collect();
        Violation::new(invariant, format!("{}: {what}", self.name), lines)
    }

    fn one_job(&self) -> Option<Violation> {
        let mut jobs = BTreeMap::new();
        for (operation, _) in self.requests {
            if let Some(job) = operation.job_of_key() {
                jobs.entry(job).or_insert(*operation);
            }
        }
        let evidence: Vec<_> = jobs.values().copied().collect();
        (jobs.len() > 1).then(|| self.violation(Invariant::I2, "it stands for more than one job", &evidence))
    }

    fn one_payload(&self) -> Option<Violation> {
        let mut accepted = BTreeMap::new();
        for (operation, submission) in self.requests {
            if operation.answer().is_some_and(Answer::is_success) {
                accepted.entry(submission.fingerprint.as_str()).or_insert(*operation);
            }
        }
        let evidence: Vec<_> = accepted.values().copied().collect();
        (accepted.len() > 1)
            .then(|| self.violation(Invariant::I4, "more than one payload was accepted", &evidence))
    }

    /// An answer "used for something else" is wrong where there is nothing else.
    fn refused_for_nothing(&self) -> Option<Violation> {
        let (refused, _) =
            self.requests.iter().find(|(operation, _)| operation.standing() == Standing::Reused)?;
        let lonely = self.payloads().len() == 1;
        // Who crashed or lost the answer may have been accepted.
        let nothing = self.requests.iter().all(|(operation, _)| operation.standing() == Standing::Reused);
        (lonely || nothing).then(|| {
            self.violation(Invariant::I4, "refused as reused, but it stands for nothing else", &[refused])
        })
    }

    /// All final answers are the same; of a job that was run again, all of one end.
    fn one_answer(&self, payload: &str, wishes: &Wishes<'_>) -> Option<Violation> {
        let finals = self.of(payload).filter(|operation| operation.standing() == Standing::Final);
        let seen = |operation: &Operation<'a>| {
            operation.answer().map(|answer| (answer.status, &answer.body_sha256, &answer.content_type))
        };
        let again = self.wished(payload, wishes);
        let mut ends: BTreeMap<_, &Operation<'_>> = BTreeMap::new();
        for operation in finals {
            let job = operation.answer().and_then(|answer| answer.job.as_ref()).filter(|_| again);
            let first = ends.entry(job.map(|job| &job.finished_at)).or_insert(operation);
            if seen(first) != seen(operation) {
                let both = [*first, operation];
                return Some(self.violation(Invariant::I3, "two final answers differ", &both));
            }
        }
        None
    }

    /// Whether somebody wished its job to be run again.
    fn wished(&self, payload: &str, wishes: &Wishes<'_>) -> bool {
        self.of(payload).filter_map(Operation::job_of_key).any(|job| wishes.any(job))
    }

    /// Who asks after the final answer gets it again, and is told so.
    fn replays(&self, payload: &str, wishes: &Wishes<'_>) -> Option<Violation> {
        let finals = self.of(payload).filter(|operation| operation.standing() == Standing::Final);
        let (known_at, first) =
            finals.filter_map(|one| Some((one.answered?.0, one))).min_by_key(|(at, _)| *at)?;
        // While the job runs again there is no final answer; then it is another one.
        let open = |operation: &&Operation<'_>| {
            let (from, until) = (first.invoked_at, operation.answered.map_or(i64::MAX, |(at, _)| at));
            first.job_of_key().is_some_and(|job| wishes.again(job, (from, until)))
        };
        let later = self.of(payload).filter(|operation| operation.invoked_at > known_at && !open(operation));
        let wrong = later.into_iter().find(|operation| match operation.standing() {
            Standing::Again => false,
            Standing::Final => operation.answer().is_some_and(|answer| !answer.replayed),
            Standing::Interim | Standing::Reused | Standing::Refused => true,
        })?;
        Some(self.violation(
            Invariant::I3,
            "asked after its final answer, it was not replayed",
            &[first, wrong],
        ))
    }

    /// Whoever wanted the outcome learned it.
    fn resolved(&self, payload: &str) -> Option<Violation> {
        let wanted = self.requests.iter().any(|(_, submission)| {
            submission.fingerprint == payload
                && !matches!(submission.purpose, Purpose::Replay | Purpose::OtherPayload)
        });
        let ended = self.of(payload).any(|operation| {
            matches!(operation.standing(), Standing::Final | Standing::Reused | Standing::Refused)
        });
        let last: Vec<_> = self.of(payload).collect();
        let last = &last[last.len().saturating_sub(3)..];
        (wanted && !ended).then(|| self.violation(Invariant::I14, "its outcome never became known", last))
    }
}

/// Jobs that no key leads to: the effect of a request whose retry made another one. As many may be the jobs of keys
/// whose outcome is unknown.
fn jobs_without_key(
    keys: &BTreeMap<(&str, &str), Vec<Keyed<'_, '_>>>,
    state: &FinalState,
    unresolved: usize,
) -> Vec<Violation> {
    let requests = keys.values().flatten();
    let mut known: BTreeSet<_> = requests.filter_map(|(operation, _)| operation.job_of_key()).collect();
    known.extend(batches::jobs_of_items(state));
    let mut found = Vec::new();
    for project in &state.projects {
        for job in project.jobs.iter().filter(|job| !known.contains(job.id.as_str())) {
            let what = format!("{} of {}: no key leads to it", job.id, project.name);
            found.push(Violation::new(Invariant::I2, what, vec![format!("{job:?}")]));
        }
    }
    if found.len() > unresolved { found } else { Vec::new() }
}

fn keys_sharing_a_job(keys: &BTreeMap<(&str, &str), Vec<Keyed<'_, '_>>>) -> Vec<Violation> {
    let mut owners: BTreeMap<&str, BTreeMap<_, &Operation<'_>>> = BTreeMap::new();
    for (key, requests) in keys {
        for (operation, _) in requests {
            if let Some(job) = operation.job_of_key() {
                owners.entry(job).or_default().entry(key).or_insert(operation);
            }
        }
    }
    let shared = owners.into_iter().filter(|(_, keys)| keys.len() > 1);
    shared
        .map(|(job, keys)| {
            let lines = keys.values().map(|operation| operation.line()).collect();
            Violation::new(Invariant::I2, format!("{job}: it answers more than one key"), lines)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::made::{Made, canceled, interim, piped, plan, replayed, reused, succeeded, unavailable},
        plan::OnError,
    };

    fn found(made: &Made) -> Vec<Invariant> {
        let record = made.record();
        let operations = Operations::of(&record.events);
        let violations = check(&operations, &record.state, &Wishes::of(&operations, &record));
        violations.into_iter().map(|violation| violation.invariant).collect()
    }

    /// A key that was accepted, asked again in the middle, answered and replayed.
    fn sound() -> Made {
        let mut made = Made::new();
        made.submit("k", "p", Some(interim("job_1")));
        made.submit("k", "p", None);
        made.submit("k", "p", Some(unavailable()));
        made.submit("k", "p", Some(succeeded("job_1")));
        made.submit("k", "p", Some(replayed("job_1")));
        made.final_job(succeeded("job_1"));
        made
    }

    #[test]
    fn a_sound_history_violates_nothing() {
        assert_eq!(found(&sound()), []);
        let mut made = sound();
        made.with_purpose(Purpose::OtherPayload).submit("k", "other", Some(reused()));
        made.submit("c", "q", Some(canceled("job_2")));
        made.final_job(canceled("job_2"));
        assert_eq!(found(&made), []);
    }

    #[test]
    fn i2_two_jobs_of_one_key() {
        let mut made = Made::new();
        made.at_once(|made| {
            made.submit("k", "p", Some(succeeded("job_1")));
            made.submit("k", "p", Some(succeeded("job_2")));
        });
        made.final_job(succeeded("job_1"));
        made.final_job(succeeded("job_2"));
        // Their bodies differ, too.
        assert_eq!(found(&made), [Invariant::I2, Invariant::I3]);
    }

    #[test]
    fn i2_a_job_that_only_the_server_knows() {
        let mut made = sound();
        made.final_job(succeeded("job_2"));
        assert_eq!(found(&made), [Invariant::I2]);
    }

    #[test]
    fn i2_a_job_of_two_keys() {
        let mut made = sound();
        made.submit("another", "q", Some(succeeded("job_1")));
        assert_eq!(found(&made), [Invariant::I2]);
    }

    #[test]
    fn i3_a_replay_of_other_bytes() {
        let mut made = sound();
        let mut other = replayed("job_1");
        other.body_sha256 = "other".to_owned();
        made.submit("k", "p", Some(other));
        assert_eq!(found(&made), [Invariant::I3]);
    }

    #[test]
    fn i3_a_finished_key_that_is_not_replayed() {
        let mut made = sound();
        made.submit("k", "p", Some(interim("job_1")));
        assert_eq!(found(&made), [Invariant::I3]);
        let mut made = sound();
        made.submit("k", "p", Some(succeeded("job_1")));
        assert_eq!(found(&made), [Invariant::I3], "the replay must be marked");
    }

    #[test]
    fn i3_twins_that_waited_together_need_no_mark() {
        let mut made = Made::new();
        made.at_once(|made| {
            made.submit("k", "p", Some(succeeded("job_1")));
            made.submit("k", "p", Some(succeeded("job_1")));
        });
        made.final_job(succeeded("job_1"));
        assert_eq!(found(&made), []);
    }

    #[test]
    fn i3_the_answer_is_another_one_after_a_wish_to_run_again_and_not_before() {
        let first = || piped("job_1", ("succeeded", "skipped"), "01");
        let second = || Answer { replayed: true, ..piped("job_1", ("succeeded", "succeeded"), "09") };
        let with = |wish: bool| {
            let mut made = Made::new();
            made.with_plan(Some(plan(OnError::Skip))).submit("k", "p", Some(first()));
            if wish {
                made.retry("job_1", None);
            }
            made.submit("k", "p", Some(interim("job_1")));
            made.submit("k", "p", Some(second()));
            made.final_job(second());
            made
        };
        assert_eq!(found(&with(true)), []);
        assert_eq!(found(&with(false)), [Invariant::I3]);
        let mut made = with(true);
        made.submit("k", "p", Some(Answer { body_sha256: "other".to_owned(), ..second() }));
        assert_eq!(found(&made), [Invariant::I3], "one end has one answer");
    }

    #[test]
    fn i4_a_second_payload_that_is_accepted() {
        let mut made = sound();
        made.submit("k", "other", Some(succeeded("job_1")));
        assert_eq!(found(&made), [Invariant::I4]);
    }

    #[test]
    fn i4_refused_as_reused_without_a_first_use() {
        let mut made = Made::new();
        made.submit("k", "p", Some(reused()));
        assert_eq!(found(&made), [Invariant::I4]);
        let mut made = Made::new();
        made.submit("k", "p", Some(reused()));
        made.submit("k", "other", Some(reused()));
        assert_eq!(found(&made), [Invariant::I4]);
    }

    #[test]
    fn i14_an_outcome_that_never_became_known() {
        let mut made = Made::new();
        made.submit("k", "p", None);
        made.submit("k", "p", Some(interim("job_1")));
        made.final_job(succeeded("job_1"));
        assert_eq!(found(&made), [Invariant::I14]);
    }

    #[test]
    fn i14_a_job_of_an_unknown_outcome_is_no_second_job() {
        let mut made = Made::new();
        made.submit("k", "p", None);
        made.final_job(succeeded("job_1"));
        assert_eq!(found(&made), [Invariant::I14]);
    }

    #[test]
    fn nobody_waits_for_a_replay_that_got_lost() {
        let mut made = sound();
        made.with_purpose(Purpose::Replay).submit("k", "p", None);
        assert_eq!(found(&made), []);
    }
}
