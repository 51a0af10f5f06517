//! Pipelines: several steps on one image, some of them once for each thing that an earlier one found.
//!
//! A [`Pipeline`] is what a client writes. [`Course::freeze`] checks all of it and gives the [`Course`] that is run: every
//! model a snapshot, every name an index.

mod course;
mod crop;
mod found;
mod freeze;
mod graph;
mod parameters;
mod placing;
mod presets;
mod region;
mod spec;
#[cfg(test)]
mod tests;
mod warp;

pub use course::{Course, Each, Stage, Way};
pub use found::{JobResults, PipelineRef, StepFound, TaskCounts, TaskFound};
pub use freeze::Asked;
pub use presets::{PRESETS, Preset, preset};
pub use region::Region;
pub use spec::{
    Crop, Fallback, ForEach, MAX_ATTEMPTS, MAX_ITEMS, MAX_STEPS, MAX_TIMEOUT, MAX_UNITS, OnError, Pipeline,
    PipelineChoice, StepSpec,
};
pub use warp::Warp;
