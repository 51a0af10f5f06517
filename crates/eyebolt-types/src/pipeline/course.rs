use super::{Crop, OnError};
use crate::{AnalyzeRequest, Feature};

/// A pipeline that was checked, as it is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// In the order of the pipeline.
    pub stages: Vec<Stage>,
    /// Their places in an order in which each comes after what it needs.
    pub order: Vec<usize>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name.
    pub id: String,
    /// How it is done.
    pub way: Way,
    /// How it is done where that fails for good.
    pub fallback: Option<Way>,
    /// What happens where it fails for good.
    pub on_error: OnError,
    /// Places of the steps that must have succeeded before, that of `each` included.
    pub needs: Vec<usize>,
    /// Once for each of these things.
    pub each: Option<Each>,
    /// How their parts are cut out.
    pub crop: Crop,
    /// Attempts at most; none: as the server says.
    pub max_attempts: Option<u32>,
    /// Seconds for one attempt.
    pub timeout: Option<f32>,
}

/// Which things a step is done for.
#[derive(Debug, Clone, PartialEq)]
pub struct Each {
    /// The place of the step that finds them.
    pub of: usize,
    /// Only these labels; none: all.
    pub labels: Option<Vec<String>>,
    /// Only things as sure as this.
    pub min_confidence: f32,
    /// Only things whose shorter side has so many pixels.
    pub min_size: u32,
    /// At most so many.
    pub max_items: u32,
}

/// One feature with its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// What is asked.
    pub feature: Feature,
    /// The snapshot that answers, where a model does.
    pub model: Option<String>,
    /// The same as a request for this feature alone; its model is the snapshot.
    pub request: AnalyzeRequest,
}

impl Stage {
    /// Units that it costs at most.
    pub fn bound(&self) -> u64 {
        self.each.as_ref().map_or(1, |each| each.max_items.into())
    }

    /// How it may be done, in the order in which that is tried.
    pub fn ways(&self) -> impl Iterator<Item = &Way> {
        [Some(&self.way), self.fallback.as_ref()].into_iter().flatten()
    }
}

impl Course {
    /// Units that it costs at most.
    pub fn bound(&self) -> u64 {
        self.stages.iter().map(Stage::bound).sum()
    }

    /// Whether a step looks at parts of the image.
    pub fn has_regions(&self) -> bool {
        self.stages.iter().any(|stage| stage.each.is_some())
    }

    /// The place of a step, by its name.
    pub fn position(&self, id: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.id == id)
    }

    /// This step and those that need it, directly or not.
    pub fn with_dependents(&self, position: usize) -> Vec<usize> {
        let mut found = vec![position];
        for &next in &self.order {
            if !found.contains(&next) && self.stages[next].needs.iter().any(|need| found.contains(need)) {
                found.push(next);
            }
        }
        found
    }
}
