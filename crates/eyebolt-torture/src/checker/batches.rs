//! Promises about batches: I10 (accepted = succeeded + failed + canceled + expired, each item once), and for their keys
//! and ids what holds for those of jobs: I1, I2, I3, I7, I9, I14.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Invariant, Record, Violation, jobs,
    operations::{Operation, Operations},
    wishes::Wishes,
};
use crate::{
    batch::ItemKind,
    history::{Action, BatchSubmission},
    observed::{Answer, BatchView, Standing},
    settle::BatchState,
};

/// A key of a batch, with all its requests.
struct Key<'a, 'b> {
    name: String,
    submission: &'a BatchSubmission,
    requests: Vec<&'b Operation<'a>>,
}

pub(super) fn check(operations: &Operations<'_>, record: &Record, wishes: &Wishes<'_>) -> Vec<Violation> {
    let (keys, shown) = (keys(operations), shown(record));
    let mut violations: Vec<_> = keys.iter().flat_map(|key| key.check(&shown)).collect();
    let known: BTreeSet<_> = keys.iter().filter_map(Key::batch).collect();
    let unresolved = keys.iter().filter(|key| key.batch().is_none()).count();
    let without: Vec<_> = shown.keys().filter(|id| !known.contains(*id)).collect();
    if without.len() > unresolved {
        let one = |id: &&&str| Violation::new(Invariant::I2, format!("{id}: no key leads to it"), Vec::new());
        violations.extend(without.iter().map(one));
    }
    let mut sights: BTreeMap<&str, Vec<(i64, i64, &BatchView)>> = BTreeMap::new();
    for operation in &operations.all {
        let Some((until, batch)) =
            operation.answered.and_then(|(at, answer)| Some((at, answer.batch.as_ref()?)))
        else {
            continue;
        };
        // What a replay shows is old.
        let from = if operation.answer().is_some_and(|answer| answer.replayed) {
            i64::MIN
        } else {
            operation.invoked_at
        };
        sights.entry(&batch.id).or_default().push((from, until, batch));
    }
    for (id, mut seen) in sights {
        seen.extend(shown.get(id).map(|state| (i64::MAX, i64::MAX, &state.view)));
        violations.extend(seen.iter().filter_map(|(_, _, batch)| sum(batch)));
        violations.extend(went_back(id, &seen, wishes));
    }
    violations.extend(record.state.projects.iter().flat_map(|project| shared_jobs(&project.batches)));
    violations.extend(shown.values().flat_map(|state| ended(state, record)));
    violations.extend(shown.values().filter_map(|state| shared_results(state, record)));
    violations
}

/// All batches of the final state.
fn shown(record: &Record) -> BTreeMap<&str, &BatchState> {
    let batches = record.state.projects.iter().flat_map(|project| &project.batches);
    batches.map(|state| (state.view.id.as_str(), state)).collect()
}

/// Jobs of items: no key leads to one of them alone.
pub(super) fn jobs_of_items(state: &crate::settle::FinalState) -> BTreeSet<&str> {
    let batches = state.projects.iter().flat_map(|project| &project.batches);
    batches.flat_map(|batch| &batch.items).filter_map(|item| item.job.as_deref()).collect()
}

fn keys<'a, 'b>(operations: &'b Operations<'a>) -> Vec<Key<'a, 'b>> {
    let mut keys: BTreeMap<_, Key<'a, 'b>> = BTreeMap::new();
    for operation in &operations.all {
        let Action::Batch(submission) = operation.action else { continue };
        let name = (operation.project, submission.key.as_str());
        let key = keys.entry(name).or_insert_with(|| Key {
            name: format!("key {} of {}", name.1, name.0),
            submission,
            requests: Vec::new(),
        });
        key.requests.push(operation);
    }
    keys.into_values().collect()
}

impl<'a> Key<'a, '_> {
    fn accepted(&self) -> impl Iterator<Item = (&Operation<'a>, &'a Answer)> {
        let answered = self.requests.iter().filter_map(|one| Some((*one, one.answer()?)));
        answered.filter(|(_, answer)| answer.is_success())
    }

    fn batch(&self) -> Option<&'a str> {
        self.accepted().find_map(|(_, answer)| Some(answer.batch.as_ref()?.id.as_str()))
    }

    fn violation(&self, invariant: Invariant, what: &str) -> Violation {
        let lines = self.requests.iter().map(|operation| operation.line()).collect();
        Violation::new(invariant, format!("{}: {what}", self.name), lines)
    }

    fn check(&self, shown: &BTreeMap<&str, &BatchState>) -> Vec<Violation> {
        let answers: BTreeSet<_> =
            self.accepted().map(|(_, answer)| (answer.status, &answer.body_sha256)).collect();
        let ids: BTreeSet<_> =
            self.accepted().filter_map(|(_, answer)| answer.batch.as_ref()).map(|batch| &batch.id).collect();
        let mut violations = Vec::new();
        if ids.len() > 1 {
            violations.push(self.violation(Invariant::I2, "it stands for more than one batch"));
        } else if answers.len() > 1 {
            violations.push(self.violation(Invariant::I3, "two answers differ"));
        }
        let known_at = self.accepted().filter_map(|(operation, _)| Some(operation.answered?.0)).min();
        let later = |operation: &&&Operation<'_>| known_at.is_some_and(|known| operation.invoked_at > known);
        let unmarked = self.requests.iter().filter(later).filter_map(|operation| operation.answer());
        if unmarked.filter(|answer| answer.standing() != Standing::Again).any(|answer| !answer.replayed) {
            violations.push(self.violation(Invariant::I3, "asked after its answer, it was not replayed"));
        }
        match self.batch().map(|id| shown.get(id)) {
            None => violations.push(self.violation(Invariant::I14, "its outcome never became known")),
            Some(None) => violations.push(self.violation(Invariant::I1, "its batch is gone")),
            Some(Some(state)) => violations.extend(self.items(state)),
        }
        violations
    }

    /// What was sent is there: each item once, and each as it must be.
    fn items(&self, state: &BatchState) -> Option<Violation> {
        let sent = self.submission.items.iter();
        let wrong = state.items.len() != self.submission.items.len()
            || state.view.total as usize != self.submission.items.len()
            || sent.zip(&state.items).any(|((custom_id, kind), item)| {
                let right = match kind {
                    ItemKind::Sound => item.status != "failed" || item.job.is_some(),
                    ItemKind::Corrupt => item.status != "succeeded",
                    ItemKind::Alien => item.status == "failed" && item.job.is_none(),
                    ItemKind::Troubled => {
                        item.status != "failed" && item.status != "succeeded" || item.job.is_some()
                    }
                };
                *custom_id != item.custom_id || !right
            });
        wrong.then(|| {
            let mut violation = self.violation(Invariant::I10, "its items are not those that were sent");
            violation.evidence.insert(0, format!("sent {:?}, found {state:?}", self.submission.items));
            violation
        })
    }
}

/// Every item stands somewhere, at every moment.
fn sum(batch: &BatchView) -> Option<Violation> {
    let parts = batch.open() + batch.ended();
    (parts != batch.total).then(|| {
        let what = format!("{}: {} items are accepted, {parts} stand somewhere", batch.id, batch.total);
        Violation::new(Invariant::I10, what, vec![format!("{batch:?}")])
    })
}

/// What has ended stays so, unless somebody wished that what failed be run again. Sights are from one time until another; two
/// that cross each other have no order.
fn went_back(id: &str, seen: &[(i64, i64, &BatchView)], wishes: &Wishes<'_>) -> Option<Violation> {
    let before = |first: &(i64, i64, &BatchView), second: &(i64, i64, &BatchView)| {
        let wished = wishes.between(id, (first.0, second.1));
        let (first, second) = (first.2, second.2);
        let fewer = second.succeeded < first.succeeded
            || (second.failed < first.failed && !wished)
            || second.canceled < first.canceled
            || second.expired < first.expired
            || second.total != first.total
            || second.round < first.round;
        // Only a wish opens another round.
        let same_round = first.round == second.round;
        fewer || (!same_round && !wished) || (same_round && first.is_terminal() && first != second)
    };
    let (first, second) = seen.iter().find_map(|first| {
        let later = seen.iter().filter(|second| first.1 < second.0);
        later.into_iter().find(|second| before(first, second)).map(|second| (first, second))
    })?;
    let evidence = vec![format!("{first:?}"), format!("{second:?}")];
    Some(Violation::new(Invariant::I9, format!("{id}: what had ended changed"), evidence))
}

/// In the end every item has ended, its job as it did, and the counts are those of the items.
fn ended(state: &BatchState, record: &Record) -> Vec<Violation> {
    let (batch, shown_jobs) = (&state.view, jobs::shown(record));
    let mut violations = Vec::new();
    if !batch.is_terminal() || batch.open() > 0 {
        let what = format!("{}: it does not end", batch.id);
        violations.push(Violation::new(Invariant::I7, what, vec![format!("{batch:?}")]));
    }
    let count = |status: &str| state.items.iter().filter(|item| item.status == status).count() as u64;
    let counted = [count("succeeded"), count("failed"), count("canceled"), count("expired")];
    if counted != [batch.succeeded, batch.failed, batch.canceled, batch.expired] {
        let what = format!("{}: its items ended {counted:?}, which its counts do not say", batch.id);
        violations.push(Violation::new(Invariant::I10, what, vec![format!("{batch:?}")]));
    }
    for item in &state.items {
        let Some(job) = &item.job else { continue };
        let right = shown_jobs.get(job.as_str()).is_some_and(|shown| shown.status == item.status);
        if !right {
            let what = format!("{} of {}: its job did not end as it did", item.custom_id, batch.id);
            let evidence = vec![format!("{item:?}"), format!("{:?}", shown_jobs.get(job.as_str()))];
            violations.push(Violation::new(Invariant::I10, what, evidence));
        }
    }
    violations
}

/// Each item's results are its own: they tell of its file.
fn shared_results(state: &BatchState, record: &Record) -> Option<Violation> {
    let (jobs, mut known) = (jobs::shown(record), BTreeMap::new());
    let found = state.items.iter().filter(|item| item.status == "succeeded").find_map(|item| {
        let results = jobs.get(item.job.as_deref()?)?.results_sha256.as_deref()?;
        known.insert(results, item).map(|other| (item, other))
    });
    let (item, other) = found?;
    let what = format!("{} and {} of {}: one result", item.custom_id, other.custom_id, state.view.id);
    Some(Violation::new(Invariant::I10, what, vec![format!("{item:?}"), format!("{other:?}")]))
}

/// An item is one job, and a job of one item, or of those of one key. And a key has one job.
fn shared_jobs(batches: &[BatchState]) -> Vec<Violation> {
    let (mut owners, mut keys, mut violations) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for state in batches {
        for item in &state.items {
            let (Some(job), batch) = (&item.job, &state.view.id) else { continue };
            let other = owners.insert(job, (batch, item));
            if let Some(other) = other.filter(|(_, other)| other.key.is_none() || other.key != item.key) {
                let what = format!("{job}: two items have it");
                let evidence = vec![format!("{other:?}"), format!("{:?}", (batch, item))];
                violations.push(Violation::new(Invariant::I10, what, evidence));
            }
            let Some(key) = &item.key else { continue };
            if let Some(other) = keys.insert(key, job).filter(|other| *other != job) {
                let what = format!("key {key} of an item: it stands for more than one job");
                violations.push(Violation::new(Invariant::I2, what, vec![other.clone(), job.clone()]));
            }
        }
    }
    violations
}
