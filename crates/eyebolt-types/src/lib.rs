//! The words of Eyebolt: ids, requests, answers, limits, model manifests and the error catalogue.
//!
//! Nothing here does I/O or knows HTTP, pixels or SQL. Every other crate speaks in these types, so that one
//! thing has one name in code, answers, logs and docs.

mod batch;
mod change;
mod class;
mod clock;
mod dedup;
pub mod error;
mod event;
mod feature;
mod geometry;
pub mod id;
mod image;
mod job;
pub mod manifest;
mod problem;
mod quota;
pub mod request;
pub mod result;
mod scope;

pub use batch::{BatchCounts, BatchEvent, BatchLinks, BatchStatus};
pub use change::Change;
pub use class::Class;
pub use clock::{Clock, Steady};
pub use dedup::{Dedup, DedupPolicy, DedupStatus, DuplicateKind};
pub use error::ErrorCode;
pub use event::{EndpointEvent, Event, EventData, EventType, JobEvent};
pub use feature::{Detail, Feature};
pub use geometry::{BoundingBox, Point, Polygon};
pub use image::{ImageFormat, ImageLimits, Orientation};
pub use job::{
    Degraded, Input, Job, JobStatus, Links, Looked, Mode, Step, StepStatus, UnknownName, Usage, Warning,
};
pub use manifest::{ModelId, ModelManifest};
pub use problem::{FieldError, Problem};
pub use quota::{Counting, LimitOverrides, LimitScope, Limits, MAX_LIMIT, Policy};
pub use request::AnalyzeRequest;
pub use result::Results;
pub use scope::Scope;
