//! Whether and when a failed attempt is made again: exponential back-off with full jitter (Brooker, *Exponential
//! Backoff and Jitter*, 2015) and a cap, by error code.

use std::time::Duration;

use eyebolt_types::ErrorCode;

/// How attempts at one step are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// Attempts at most, the first one included.
    pub(crate) max_attempts: u32,
}

impl RetryPolicy {
    /// How long to wait after so many attempts have failed with this code; `None`: it is final. `random`: 0 to 1.
    pub(crate) fn delay(self, code: ErrorCode, attempts: u32, random: f64) -> Option<Duration> {
        if !code.row().retryable || attempts >= self.max_attempts {
            return None;
        }
        let (base, cap) = pace(code);
        let ceiling = base.saturating_mul(2u32.saturating_pow(attempts.saturating_sub(1))).min(cap);
        Some(ceiling.mul_f64(random.clamp(0.0, 1.0)))
    }
}

/// The first ceiling and the last one.
fn pace(code: ErrorCode) -> (Duration, Duration) {
    match code {
        // It loads, or its file is being replaced.
        ErrorCode::ModelUnavailable => (Duration::from_secs(2), Duration::from_secs(30)),
        ErrorCode::StorageUnavailable | ErrorCode::StorageFull => {
            (Duration::from_secs(1), Duration::from_secs(30))
        }
        // Whatever it was, it passes at once or not at all.
        _ => (Duration::from_millis(200), Duration::from_secs(5)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy { max_attempts: 3 };

    #[test]
    fn what_is_final_is_never_tried_again() {
        for code in ErrorCode::ALL.iter().filter(|code| !code.row().retryable) {
            assert_eq!(POLICY.delay(*code, 1, 0.5), None, "{code}");
        }
        assert_eq!(POLICY.delay(ErrorCode::ModelFailed, 3, 0.5), None, "the last attempt");
        assert_eq!(POLICY.delay(ErrorCode::ModelFailed, 1, 1.0), Some(Duration::from_millis(200)));
        assert_eq!(POLICY.delay(ErrorCode::ModelFailed, 2, 1.0), Some(Duration::from_millis(400)));
    }

    proptest! {
        #[test]
        fn a_delay_is_never_above_the_cap(attempts in 1u32..10_000, random in 0.0f64..=1.0) {
            let policy = RetryPolicy { max_attempts: u32::MAX };
            let delay = policy.delay(ErrorCode::ModelUnavailable, attempts, random).unwrap();
            prop_assert!(delay <= Duration::from_secs(30));
        }
    }
}
