use std::time::Duration;

/// Tenants that wait before they come back, more each time, and give up in the end.
pub(crate) const POLITE: usize = 8;

/// The one that does neither.
pub(crate) const RUDE: usize = POLITE;

pub(crate) const WORKERS: usize = 2;

/// Service time: seconds, and seconds a megapixel.
pub(crate) const BASE: f64 = 0.008;
pub(crate) const SLOPE: f64 = 0.012;

/// Median and spread of megapixels (lognormal), and the largest.
pub(crate) const MEDIAN: f64 = 2.0;
pub(crate) const SPREAD: f64 = 0.8;
pub(crate) const LARGEST: f64 = 40.0;

/// Requests a second that both workers can serve: with these sizes one takes 41 ms.
pub(crate) const CAPACITY: f64 = 48.6;

/// Who sends how much, as a part of what can be served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// All polite tenants alike, together so much.
    Even(f64),
    /// Polite tenants half of what can be served, the rude one the rest of so much.
    Rude(f64),
    /// Polite tenants 0.7, and so much for 20 seconds.
    Storm(f64),
    /// Polite tenants half; the rude one nothing but images of 40 megapixels, so much.
    LargeImages(f64),
    /// Polite tenants half; one sends 10,000 requests within four minutes.
    Flood,
}

/// When the storm is.
pub(crate) const STORM: (f64, f64) = (30.0, 50.0);

impl Arrivals {
    /// Requests a second of a tenant at a time.
    pub(crate) fn rate(self, tenant: usize, seconds: f64) -> f64 {
        let polite = tenant < POLITE;
        let each = CAPACITY / POLITE as f64;
        match self {
            Self::Even(load) if polite => load * each,
            Self::Storm(load) if polite && (STORM.0..STORM.1).contains(&seconds) => load * each,
            Self::Storm(_) if polite => 0.7 * each,
            Self::Even(_) | Self::Storm(_) => 0.0,
            Self::Rude(_) | Self::LargeImages(_) | Self::Flood if polite => 0.5 * each,
            Self::Rude(load) => (load - 0.5).max(0.0) * CAPACITY,
            // One of 40 megapixels is worth twelve.
            Self::LargeImages(load) => load * CAPACITY / 12.0,
            Self::Flood => 10_000.0 / 240.0,
        }
    }
}

/// What goes wrong besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// From 40 s on everything takes twice as long.
    Slower,
    /// At 40 s a worker begins something that does not end for 40 s.
    Hung,
    /// The cost model begins with what takes so many times as long.
    Mistaken(f64),
    /// Clients wait for no longer than this.
    Impatient(Duration),
    /// At 40 s the clock is set by so many seconds.
    Clock(i32),
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scenario {
    /// Who sends how much.
    pub arrivals: Arrivals,
    /// What goes wrong besides.
    pub trouble: Option<Trouble>,
    /// For how long, in virtual time.
    pub time: Duration,
}

impl Scenario {
    /// A hundred seconds in which nothing goes wrong.
    pub fn new(arrivals: Arrivals) -> Self {
        Self { arrivals, trouble: None, time: Duration::from_secs(100) }
    }

    /// The same with trouble.
    #[must_use]
    pub fn with(self, trouble: Trouble) -> Self {
        Self { trouble: Some(trouble), ..self }
    }

    pub(crate) fn patience(&self) -> f64 {
        match self.trouble {
            Some(Trouble::Impatient(patience)) => patience.as_secs_f64(),
            _ => 5.0,
        }
    }

    /// How many times as long as usual everything takes.
    pub(crate) fn slowness(&self, seconds: f64) -> f64 {
        if self.trouble == Some(Trouble::Slower) && seconds >= 40.0 { 2.0 } else { 1.0 }
    }

    /// How far off the cost model begins.
    pub(crate) fn mistake(&self) -> f64 {
        match self.trouble {
            Some(Trouble::Mistaken(times)) => times,
            _ => 1.0,
        }
    }

    /// What the law's clock shows.
    pub(crate) fn clock(&self, now: Duration) -> Duration {
        // Room to be set back.
        let shown = now + Duration::from_secs(10_000);
        match self.trouble {
            Some(Trouble::Clock(step)) if now >= Duration::from_secs(40) => {
                let by = Duration::from_secs(u64::from(step.unsigned_abs()));
                if step < 0 { shown.saturating_sub(by) } else { shown + by }
            }
            _ => shown,
        }
    }
}
