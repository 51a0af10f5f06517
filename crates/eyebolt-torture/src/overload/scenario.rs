use rand::{RngExt, rngs::StdRng};

/// Tenants that wait before they come back, and give up in the end.
pub(super) const POLITE: usize = 8;

/// The one that does neither.
pub(super) const RUDE: usize = POLITE;

pub(super) const WORKERS: usize = 2;

/// Service time, as the fake backend has it: seconds, and seconds a megapixel.
const BASE: f64 = 0.008;
const SLOPE: f64 = 0.012;

/// Median, spread (lognormal) and end of megapixels.
const SIZES: (f64, f64, f64) = (2.0, 0.8, 40.0);

/// Requests a second that both workers can serve.
const CAPACITY: f64 = 48.6;

/// Who sends how much, as a part of what can be served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// All polite tenants together.
    polite: f64,
    rude: f64,
    /// The polite ones during the storm.
    storm: Option<f64>,
    pub(super) seconds: f64,
}

/// When the storm is, seconds.
pub(super) const STORM: (f64, f64) = (10.0, 20.0);

const fn scenario(name: &'static str, polite: f64, rude: f64) -> Scenario {
    Scenario { name, polite, rude, storm: None, seconds: 40.0 }
}

pub(super) const SCENARIOS: [Scenario; 6] = [
    scenario("rude tenant, 1.5 ×", 0.5, 1.0),
    scenario("rude tenant, 10 ×", 0.5, 9.5),
    scenario("all polite, 1.5 ×", 1.5, 0.0),
    scenario("all polite, 3 ×", 3.0, 0.0),
    scenario("all polite, 10 ×", 10.0, 0.0),
    Scenario { storm: Some(10.0), seconds: 80.0, ..scenario("storm, 10 × for 10 s", 0.7, 0.0) },
];

impl Scenario {
    /// Requests a second of a tenant at a time.
    pub(super) fn rate(&self, tenant: usize, seconds: f64) -> f64 {
        if tenant == RUDE {
            return self.rude * CAPACITY;
        }
        let storm = self.storm.filter(|_| (STORM.0..STORM.1).contains(&seconds));
        storm.unwrap_or(self.polite) * CAPACITY / POLITE as f64
    }

    pub(super) fn has_storm(&self) -> bool {
        self.storm.is_some()
    }
}

/// Seconds of a worker for an image.
pub(super) fn service(megapixels: f64) -> f64 {
    BASE + SLOPE * megapixels
}

/// The size of an image.
pub(super) fn megapixels(random: &mut StdRng) -> f64 {
    let (median, spread, largest) = SIZES;
    // Box and Muller.
    let (a, b) = (random.random_range(f64::MIN_POSITIVE..1.0), random.random_range(0.0..1.0));
    let normal = (-2.0 * f64::ln(a)).sqrt() * f64::cos(std::f64::consts::TAU * b);
    (median * f64::exp(spread * normal)).min(largest)
}
