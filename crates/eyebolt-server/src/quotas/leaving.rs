//! What a batch leaves to calls that somebody waits for. It would take whatever refills, the moment it does, and those calls would
//! be over the limit for as long as the batch runs.

use eyebolt_store::{Cap, Caps, Principal};
use eyebolt_types::Policy;

use super::{Quotas, limit::scale, standing::Told};

/// A batch leaves one part in so many of each limit.
const PARTS: u64 = 5;

impl Quotas {
    /// Whether this much can be taken of what is counted by time, and a fifth of each limit stays. What would never leave that
    /// much is let in where the limit is untouched, and what is more than all of it always: taking it tells so.
    pub(crate) async fn leaves_enough(&self, caller: &Principal, wanted: &[(Policy, u64)]) -> bool {
        if self.settings().shadow {
            return true;
        }
        let told = Told::default();
        // Taking nothing refuses nothing, and asks how all limits stand.
        _ = self.take(caller, &[], &told).await;
        told.get().unwrap_or_default().iter().all(|stands| {
            let units = wanted.iter().find(|(policy, _)| *policy == stands.policy);
            let units = units.map_or(0, |(policy, units)| units.div_ceil(scale(*policy)));
            enough(stands.limit, stands.remaining, units)
        })
    }

    /// [`Quotas::caps`] for an item of a batch.
    pub(crate) fn caps_leaving(&self, caller: &Principal) -> Option<Caps> {
        self.caps(caller).map(leaving)
    }
}

/// The same limits less the places that a batch leaves free: of jobs at once a fifth, one at least, but not the only one. The units
/// of a month are the project's to spend as it likes.
pub(crate) fn leaving(Caps { project, key }: Caps) -> Caps {
    let less =
        |cap: Cap| Cap { concurrent_jobs: cap.concurrent_jobs.map(|limit| limit - kept(limit, 1)), ..cap };
    Caps { project: less(project), key: less(key) }
}

fn enough(limit: u64, remaining: u64, units: u64) -> bool {
    let left = remaining.checked_sub(units);
    units == 0 || units > limit || left.is_some_and(|left| left >= kept(limit, units))
}

/// What stays of a limit beside so many units.
fn kept(limit: u64, units: u64) -> u64 {
    (limit / PARTS).max(1).min(limit.saturating_sub(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_stays_and_nothing_waits_for_ever() {
        assert_eq!([0, 1, 2, 3, 10, 100].map(|limit| kept(limit, 1)), [0, 0, 1, 1, 2, 20]);
        for limit in 1..200 {
            for units in 1..=limit {
                assert!(enough(limit, limit, units), "an untouched {limit} lets {units} in");
                let least = (units..=limit).find(|remaining| enough(limit, *remaining, units)).unwrap();
                assert_eq!(least - units, kept(limit, units));
            }
            assert!(enough(limit, 0, limit + 1) && enough(limit, 0, 0));
        }
    }

    #[test]
    fn the_month_is_nobodys_to_keep() {
        let cap = Cap { concurrent_jobs: Some(10), units_per_month: Some(50), recount: true };
        let caps = leaving(Caps { project: cap, key: Cap::default() });
        assert_eq!(caps.project, Cap { concurrent_jobs: Some(8), ..cap });
        assert_eq!(caps.key, Cap::default());
    }
}
