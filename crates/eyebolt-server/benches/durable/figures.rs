use std::time::Duration;

/// Of one table row.
pub(crate) struct Figure {
    /// A second.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
}

pub(crate) fn row(name: &str, figure: &Figure) {
    println!("| {name} | {:.0} | {:.1} | {:.1} |", figure.rate, figure.p50, figure.p99);
}

pub(crate) fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * part) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
