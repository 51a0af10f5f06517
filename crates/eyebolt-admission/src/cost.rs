use std::time::Duration;

/// Older observations count for less: a half-life of 138 of them.
const FORGETTING: f64 = 0.995;

/// How fast the correction follows what is measured.
const FOLLOWING: f64 = 0.02;

/// The correction's range.
const CORRECTION: (f64, f64) = (0.25, 8.0);

/// Nothing is predicted to take less, seconds: work that costs nothing could not be bounded.
const LEAST: f64 = 0.000_5;

/// A request that took more than so many times what was predicted says something about the machine, not about sizes.
const OUTLIER: f64 = 8.0;

/// Predicts for one feature and model how long a request holds a worker, from its megapixels:
/// `correction × (base + slope × megapixels)`. The line is fitted by recursive least squares with forgetting; the correction
/// follows a machine that becomes slower or faster as a whole within a hundred requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostModel {
    base: f64,
    slope: f64,
    correction: f64,
    /// The inverse of the weighted sums, as least squares keep it; symmetric.
    inverse: [f64; 3],
}

impl CostModel {
    /// Begins with this line, in seconds and seconds a megapixel.
    pub fn new(base: f64, slope: f64) -> Self {
        Self { base, slope, correction: 1.0, inverse: [1.0, 0.0, 1.0] }
    }

    /// Seconds that a request of so many megapixels will hold a worker.
    pub fn predict(&self, megapixels: f64) -> f64 {
        (self.correction * self.line(megapixels)).max(LEAST)
    }

    /// What it has learned: seconds, seconds a megapixel, and the correction of both.
    pub fn learned(&self) -> (f64, f64, f64) {
        (self.base, self.slope, self.correction)
    }

    fn line(&self, megapixels: f64) -> f64 {
        (self.base + self.slope * megapixels).max(LEAST)
    }

    /// Learns how long a request of so many megapixels took.
    pub fn learn(&mut self, megapixels: f64, took: Duration) {
        if !megapixels.is_finite() {
            return;
        }
        let line = self.line(megapixels);
        let ratio = took.as_secs_f64() / line;
        self.correction += FOLLOWING * (ratio.min(2.0 * CORRECTION.1) - self.correction);
        self.correction = self.correction.clamp(CORRECTION.0, CORRECTION.1);
        self.fit(megapixels, line * ratio.min(OUTLIER));
    }

    fn fit(&mut self, x: f64, y: f64) {
        let [p, q, r] = self.inverse;
        let (gain_base, gain_slope) = (p + q * x, q + r * x);
        let scale = FORGETTING + gain_base + gain_slope * x;
        let error = y - (self.base + self.slope * x);
        self.base = (self.base + gain_base / scale * error).max(0.0);
        self.slope = (self.slope + gain_slope / scale * error).max(0.0);
        let shrunk = [
            (p - gain_base * gain_base / scale) / FORGETTING,
            (q - gain_base * gain_slope / scale) / FORGETTING,
            (r - gain_slope * gain_slope / scale) / FORGETTING,
        ];
        // Requests of one size say nothing about the slope: without a bound the uncertainty would grow for ever.
        if shrunk[0] < 1e6 && shrunk[2] < 1e6 {
            self.inverse = shrunk;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes from 0.3 to 40 megapixels, in an order that looks random.
    fn sizes(count: usize) -> impl Iterator<Item = f64> {
        (0..count).map(|n| 0.3 + ((n * 7919) % 397) as f64 / 10.0)
    }

    fn taught(model: &mut CostModel, base: f64, slope: f64, count: usize) {
        for megapixels in sizes(count) {
            model.learn(megapixels, Duration::from_secs_f64(base + slope * megapixels));
        }
    }

    fn assert_near(model: &CostModel, base: f64, slope: f64, within: f64) {
        for megapixels in [0.3, 2.0, 12.0, 40.0] {
            let (told, true_cost) = (model.predict(megapixels), base + slope * megapixels);
            let off = (told / true_cost - 1.0).abs();
            assert!(off < within, "{megapixels} MP: {told} instead of {true_cost}");
        }
    }

    #[test]
    fn it_learns_a_line_that_it_began_far_from() {
        let mut model = CostModel::new(0.5, 0.5);
        taught(&mut model, 0.008, 0.012, 1000);
        assert_near(&model, 0.008, 0.012, 0.1);
    }

    #[test]
    fn it_follows_a_machine_that_becomes_half_as_fast() {
        let mut model = CostModel::new(0.008, 0.012);
        taught(&mut model, 0.008, 0.012, 500);
        taught(&mut model, 0.016, 0.024, 600);
        assert_near(&model, 0.016, 0.024, 0.1);
    }

    #[test]
    fn sizes_that_never_change_do_no_harm() {
        let mut model = CostModel::new(0.008, 0.012);
        for _ in 0..20_000 {
            model.learn(2.0, Duration::from_millis(32));
        }
        assert!((model.predict(2.0) / 0.032 - 1.0).abs() < 0.02);
        taught(&mut model, 0.008, 0.012, 1000);
        assert_near(&model, 0.008, 0.012, 0.1);
    }

    #[test]
    fn one_that_hung_for_an_hour_is_soon_forgotten() {
        let mut model = CostModel::new(0.008, 0.012);
        taught(&mut model, 0.008, 0.012, 500);
        model.learn(2.0, Duration::from_hours(1));
        model.learn(f64::NAN, Duration::from_secs(1));
        assert!(model.predict(2.0) < 0.032 * 1.6, "{}", model.predict(2.0));
        taught(&mut model, 0.008, 0.012, 600);
        assert_near(&model, 0.008, 0.012, 0.1);
    }
}
