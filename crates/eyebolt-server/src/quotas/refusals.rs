//! How often somebody was over a limit, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use eyebolt_types::Policy;

/// By policy; refused, and only counted.
#[derive(Debug, Default)]
pub(super) struct Counted([[AtomicU64; 2]; Policy::ALL.len()]);

/// The same as it stood once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusals([[u64; 2]; Policy::ALL.len()]);

impl Counted {
    pub(super) fn add(&self, policy: Policy, shadow: bool) {
        self.0[policy as usize][usize::from(shadow)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Refusals {
        Refusals(std::array::from_fn(|policy| {
            self.0[policy].each_ref().map(|one| one.load(Ordering::Relaxed))
        }))
    }
}

impl Refusals {
    /// Policy, whether in shadow mode, and how often.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Policy, bool, u64)> {
        let rows = |policy: Policy| {
            [false, true].map(|shadow| (policy, shadow, self.0[policy as usize][usize::from(shadow)]))
        };
        Policy::ALL.into_iter().flat_map(rows)
    }
}
