//! Who wished that something be run again, and when: only then may what had ended begin anew.

use std::collections::BTreeMap;

use super::{Record, operations::Operations};
use crate::{history::Action, plan::Plan};

/// A wish that was served at some moment between two times, if at all.
#[derive(Debug, Clone, Copy)]
struct Wish {
    from: i64,
    /// When it was answered; for ever, where no answer came.
    until: i64,
    /// It is a request of its own, not the key once more, which runs nothing again that succeeded.
    outright: bool,
}

/// All wishes, by the job or batch that they are about.
#[derive(Default)]
pub(super) struct Wishes<'a> {
    all: BTreeMap<&'a str, Vec<Wish>>,
    /// Pipelines, by their jobs.
    plans: BTreeMap<&'a str, &'a Plan>,
}

impl<'a> Wishes<'a> {
    pub(super) fn of(operations: &Operations<'a>, record: &'a Record) -> Self {
        let mut wishes = Self::default();
        for operation in &operations.all {
            let until = operation.answered.map_or(i64::MAX, |(at, _)| at);
            let wish = Wish { from: operation.invoked_at, until, outright: true };
            match operation.action {
                Action::Retry { job, .. } => wishes.add(job, wish),
                Action::RetryBatch { batch } => wishes.add(batch, wish),
                _ => {}
            }
        }
        wishes.add_items(record);
        wishes.add_keys(operations);
        wishes
    }

    /// The items of a batch are run again with it, when their turn comes.
    fn add_items(&mut self, record: &'a Record) {
        for state in record.state.projects.iter().flat_map(|project| &project.batches) {
            let of_batch = self.all.get(state.view.id.as_str()).cloned().unwrap_or_default();
            for job in state.items.iter().filter_map(|item| item.job.as_deref()) {
                for wish in &of_batch {
                    self.add(job, Wish { until: i64::MAX, ..*wish });
                }
            }
        }
    }

    /// Whoever sends the key of a job again that failed for a passing reason wishes so too: of pipelines alone some end so.
    fn add_keys(&mut self, operations: &Operations<'a>) {
        for requests in operations.by_key().into_values() {
            let plan = requests.iter().find_map(|(_, submission)| submission.plan.as_ref());
            let job = requests.iter().find_map(|(operation, _)| operation.job_of_key());
            let Some((plan, job)) = plan.zip(job) else { continue };
            self.plans.insert(job, plan);
            for (operation, _) in &requests {
                let until = operation.answered.map_or(i64::MAX, |(at, _)| at);
                self.add(job, Wish { from: operation.invoked_at, until, outright: false });
            }
        }
    }

    fn add(&mut self, id: &'a str, wish: Wish) {
        self.all.entry(id).or_default().push(wish);
    }

    /// Pipelines, by their jobs.
    pub(super) fn plans(&self) -> &BTreeMap<&'a str, &'a Plan> {
        &self.plans
    }

    /// Whether somebody wished it at all.
    pub(super) fn any(&self, id: &str) -> bool {
        self.all.contains_key(id)
    }

    /// Whether a wish may have been served between two times.
    pub(super) fn between(&self, id: &str, time: (i64, i64)) -> bool {
        self.served(id, time).next().is_some()
    }

    /// Whether one may have been that runs again even what succeeded without something.
    pub(super) fn again(&self, id: &str, time: (i64, i64)) -> bool {
        self.served(id, time).any(|wish| wish.outright)
    }

    /// Whether there is a wish of its own for each further of these ends, in their order: two at once make one run.
    pub(super) fn explain(&self, id: &str, ends: &[i64]) -> bool {
        let mut left = self.all.get(id).cloned().unwrap_or_default();
        left.sort_by_key(|wish| wish.until);
        // The one that was answered first serves no later end.
        ends.windows(2).all(|pair| {
            let place = left.iter().position(|wish| wish.from <= pair[1] && wish.until >= pair[0]);
            place.map(|place| left.remove(place)).is_some()
        })
    }

    fn served(&self, id: &str, (from, until): (i64, i64)) -> impl Iterator<Item = &Wish> {
        let wishes = self.all.get(id).into_iter().flatten();
        wishes.filter(move |wish| wish.from <= until && wish.until >= from)
    }
}
