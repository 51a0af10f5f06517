//! Random numbers for jitter.

/// 0 to 1.
pub(crate) fn roll() -> f64 {
    let mut bytes = [0; 4];
    // Without random numbers everybody waits as long as may be.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 1.0;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
