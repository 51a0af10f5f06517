//! Who may come in: state machines without a clock and without I/O. The server drives them with real time, `eyebolt-plant`
//! with virtual time.
//!
//! - [`Gcra`]: what was agreed, as a rate.
//! - [`CostModel`]: how long a request will hold a worker, told from its size.
//! - [`Capacity`]: what the machine can do, shared fairly.
//! - [`Strikes`]: who comes back before it was told to.
//! - [`Runaway`]: who sends the same thing again and again.
//!
//! Times are [`Duration`](std::time::Duration)s since an instant that the caller chooses and keeps.

mod bound;
mod capacity;
mod cost;
mod gcra;
mod lane;
mod runaway;
mod shares;
mod strikes;

pub use bound::Bound;
pub use capacity::{Ask, Capacity, CapacitySettings, Refusal, Ticket, Verdict};
pub use cost::CostModel;
pub use gcra::{Decision, Gcra, Quota};
pub use runaway::{Detained, Ending, Episode, Noticed, Runaway, RunawayCause, RunawayLimits, Sight};
pub use strikes::Strikes;
