//! Image in, result out: header probe, safety checks, decode under a memory budget, quality, digests, models.
//! Knows pixels and models; knows neither HTTP nor SQL.

pub mod backend;
mod error;
mod picture;
pub mod quality;

pub use error::{BackendError, EngineError, ImageError};
pub use picture::Picture;
