//! How long to wait after something failed: longer each time, and never the same as others who wait.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of what is within its limits")]

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// The time to wait after so many failures in a row, at least what the server asked for.
pub(super) fn after(failures: u32, retry_after: Option<Duration>) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let own = spread(doubled.min(LONGEST), 0.5);
    // Thousands of nodes were told the same.
    own.max(retry_after.map(|asked| asked + spread(FIRST.max(asked / 10), 1.0)).unwrap_or_default())
}

/// This time, shorter or longer by at most this share of it.
pub(super) fn spread(time: Duration, share: f64) -> Duration {
    time.mul_f64(1.0 + share * (2.0 * random() - 1.0))
}

/// A whole number of this range.
pub(super) fn between(range: &RangeInclusive<u32>) -> u32 {
    let width = range.end().saturating_sub(*range.start());
    range.start() + (f64::from(width) * random()).round() as u32
}

/// Between 0 and 1. The standard library's hash keys are random, which is random enough for this.
fn random() -> f64 {
    f64::from((RandomState::new().hash_one(()) >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let waits: Vec<Duration> = (0..40).map(|failures| after(failures, None)).collect();
        assert!(waits[1] <= FIRST.mul_f64(1.5) && waits[1] >= FIRST / 2);
        assert!(waits.iter().all(|wait| *wait <= LONGEST.mul_f64(1.5)));
        assert!(waits[8..].iter().all(|wait| *wait >= LONGEST / 2));
        assert!(waits[10] != waits[11] || waits[11] != waits[12], "every node would ask at once");
    }

    #[test]
    fn what_the_server_asks_for_is_the_least() {
        for _ in 0..100 {
            let wait = after(1, Some(Duration::from_secs(20)));
            assert!(wait >= Duration::from_secs(20) && wait <= Duration::from_secs(24), "{wait:?}");
        }
    }
}
