use std::{collections::HashMap, time::Duration};

use eyebolt_admission::CostModel;
use eyebolt_types::Feature;

/// What takes time: a feature of a model, or (none) everything beside: reading, decoding, commits.
pub(super) type Work = Option<(Feature, Option<String>)>;

/// What is thought of work that was never seen, seconds and seconds a megapixel: about a second core of 2020 for one model.
const FIRST: (f64, f64) = (0.03, 0.01);

/// Kinds of work that are remembered at most. Models come and go; there are few at a time.
const MOST: usize = 1000;

/// How long work takes, as far as it was seen.
#[derive(Debug, Default)]
pub(super) struct Costs(HashMap<Work, CostModel>);

impl Costs {
    /// Seconds of a worker.
    pub(super) fn predict(&self, steps: &[(Feature, Option<String>)], megapixels: f64) -> f64 {
        let steps = steps.iter().map(|step| self.one(&Some(step.clone()), megapixels));
        steps.sum::<f64>() + self.one(&None, megapixels)
    }

    pub(super) fn learn(&mut self, work: Work, megapixels: f64, took: Duration) {
        if self.0.len() >= MOST && !self.0.contains_key(&work) {
            self.0.clear();
        }
        self.0.entry(work).or_insert_with(first).learn(megapixels, took);
    }

    /// What was learned of each kind of work.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Work, &CostModel)> {
        self.0.iter()
    }

    fn one(&self, work: &Work, megapixels: f64) -> f64 {
        self.0.get(work).copied().unwrap_or_else(first).predict(megapixels)
    }
}

fn first() -> CostModel {
    CostModel::new(FIRST.0, FIRST.1)
}
