use std::time::Duration;

/// The queue delay that is aimed at, seconds.
const TARGET: f64 = 0.5;

/// The range of the bound, seconds. It never comes near 0: nothing measured can make an idle machine refuse.
const RANGE: (f64, f64) = (0.25, 2.0);

/// Delays needed to say anything.
const ENOUGH: usize = 5;

/// How much work may wait for each worker, seconds: trimmed so that the delay of what starts stays near its target. A PD
/// controller on the 90th percentile, in steps of a few percent.
#[derive(Debug, Clone)]
pub struct Bound {
    seconds: f64,
    error: f64,
    delays: Vec<f64>,
}

impl Default for Bound {
    fn default() -> Self {
        Self { seconds: TARGET, error: 0.0, delays: Vec::new() }
    }
}

impl Bound {
    /// Seconds of predicted work for each worker.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Something started after it had waited for so long.
    pub fn started(&mut self, delay: Duration) {
        self.delays.push(delay.as_secs_f64());
    }

    /// Trims; to be called every 100 ms. Frozen until enough has started.
    pub fn tick(&mut self) {
        if self.delays.len() < ENOUGH {
            return;
        }
        self.delays.sort_by(f64::total_cmp);
        let delay = self.delays[(self.delays.len() * 9 / 10).min(self.delays.len() - 1)];
        self.delays.clear();
        let error = ((TARGET - delay) / TARGET).clamp(-1.0, 1.0);
        let step = 1.0 + 0.05 * error + 0.10 * (error - self.error);
        self.seconds = (self.seconds * step).clamp(RANGE.0, RANGE.1);
        self.error = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_in_its_range_whatever_is_measured() {
        let mut bound = Bound::default();
        for (delay, end) in [(3600, RANGE.0), (0, RANGE.1), (3600, RANGE.0)] {
            for _ in 0..200 {
                (0..ENOUGH).for_each(|_| bound.started(Duration::from_secs(delay)));
                bound.tick();
                assert!((RANGE.0..=RANGE.1).contains(&bound.seconds()));
            }
            assert_eq!(bound.seconds(), end);
        }
    }

    #[test]
    fn it_is_frozen_while_little_starts() {
        let mut bound = Bound::default();
        for _ in 1..ENOUGH {
            bound.started(Duration::from_secs(10));
            bound.tick();
            assert_eq!(bound.seconds(), TARGET);
        }
        bound.started(Duration::from_secs(10));
        bound.tick();
        assert!(bound.seconds() < TARGET);
    }
}
