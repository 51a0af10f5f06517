use std::{collections::HashMap, time::Duration};

use eyebolt_admission::CostModel;
use eyebolt_types::{AnalyzeRequest, Detail, Feature};

/// A feature of a model at a detail: what takes the same time for the same megapixels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Look {
    /// What is asked.
    pub(crate) feature: Feature,
    /// The snapshot that answers.
    pub(crate) model: Option<String>,
    /// How closely; none: always alike.
    pub(crate) detail: Option<Detail>,
}

/// The looks that a request takes. `snapshots`: what answers.
pub(crate) fn looks(request: &AnalyzeRequest, snapshots: &[(Feature, Option<String>)]) -> Vec<Look> {
    let look = |(feature, model): &(Feature, Option<String>)| Look {
        feature: *feature,
        model: model.clone(),
        detail: request.detail_of(*feature),
    };
    snapshots.iter().map(look).collect()
}

/// What takes time: a look, or (none) everything beside: reading, decoding, commits.
pub(super) type Work = Option<Look>;

/// What is thought of work that was never seen, seconds and seconds a megapixel: about a second core of 2020 for one model.
const FIRST: (f64, f64) = (0.03, 0.01);

/// Kinds of work that are remembered at most. Models come and go; there are few at a time.
const MOST: usize = 1000;

/// How long work takes, as far as it was seen.
#[derive(Debug, Default)]
pub(super) struct Costs(HashMap<Work, CostModel>);

impl Costs {
    /// Seconds of a worker.
    pub(super) fn predict(&self, looks: Vec<Look>, megapixels: f64) -> f64 {
        let steps = looks.into_iter().map(|look| self.one(&Some(look), megapixels));
        steps.sum::<f64>() + self.one(&None, megapixels)
    }

    /// The same of looks of which each is at so many parts, which share the megapixels.
    pub(super) fn predict_parts(&self, looks: Vec<(Look, u64)>, megapixels: f64) -> f64 {
        let steps = looks.into_iter().map(|(look, parts)| {
            let parts = parts.max(1) as f64;
            parts * self.one(&Some(look), megapixels / parts)
        });
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
