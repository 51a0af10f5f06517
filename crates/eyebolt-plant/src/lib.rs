//! Overload in virtual time: clients that retry, workers that take longer for larger images, and a law between them. The law
//! of Eyebolt is the very code that the server runs (`eyebolt-admission`); beside it stand what others do: no limit, a
//! token bucket for each tenant, and Gradient2 (Netflix' concurrency-limits).
//!
//! The clients are closed loops: they time out, come back, and give up. A refusal costs the server a little, so that whoever
//! makes enough of them slows it down.

mod events;
mod laws;
mod plant;
mod report;
mod scenario;

pub use laws::LawName;
pub use plant::run;
pub use report::Report;
pub use scenario::{Arrivals, Scenario, Trouble};
