//! Image in, result out: header probe, safety checks, decode under a memory budget, quality, digests, models.
//! Knows pixels and models; knows neither HTTP nor SQL.

pub mod annotate;
pub mod backend;
pub mod barcodes;
pub mod bench;
mod compute;
pub mod decode;
pub mod digest;
mod engine;
mod error;
mod features;
mod inspect;
mod luma;
pub mod memory;
pub mod models;
mod picture;
mod plan;
mod preprocess;
pub mod probe;
pub mod quality;
mod sitting;
pub mod text;
mod turns;
mod view;

pub use engine::{BackendChoice, Engine, EngineSettings, Findings, StepReport};
pub use error::{BackendError, EngineError, ImageError};
pub use picture::Picture;
pub use plan::Plan;
pub use sitting::{Order, Sat, Sitting};
pub use turns::{Closed, Turn, Turns};
