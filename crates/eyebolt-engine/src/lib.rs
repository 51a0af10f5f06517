//! Image in, result out: header probe, safety checks, decode under a memory budget, quality, digests, models.
//! Knows pixels and models; knows neither HTTP nor SQL.

pub mod backend;
pub mod decode;
mod error;
mod inspect;
pub mod memory;
mod picture;
pub mod probe;

pub use error::{BackendError, EngineError, ImageError};
pub use picture::Picture;
