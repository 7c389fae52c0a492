//! Exponential backoff with full jitter, so that neither a node nor all nodes together keep a failing server busy.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of what is within its limits")]

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A pause is anything up to a window, which doubles with each failure.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    first_window: Duration,
    max_window: Duration,
}

impl Backoff {
    pub(crate) fn new(first_window: Duration, max_window: Duration) -> Self {
        Self { failures: 0, first_window, max_window }
    }

    /// The window after one more failure.
    pub(crate) fn next_window(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.first_window.saturating_mul(factor).min(self.max_window)
    }

    /// The pause after one more failure, at least what the server asked for.
    pub(crate) fn next_pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let pause = up_to(self.next_window());
        // Thousands of nodes were told the same.
        pause.max(retry_after.map_or(Duration::ZERO, |asked| asked + up_to(self.first_window.max(asked / 5))))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

/// Any time up to this one.
pub(crate) fn up_to(window: Duration) -> Duration {
    window.mul_f64(random())
}

/// This time, a fifth shorter or longer at most.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.8 + 0.4 * random())
}

/// A whole number of this range.
pub(crate) fn between(range: &RangeInclusive<u32>) -> u32 {
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
    fn pauses_are_anywhere_in_a_window_that_doubles_up_to_its_limit() {
        let (first, max) = (Duration::from_secs(1), Duration::from_secs(10));
        let windows = [1, 2, 4, 8, 10, 10].map(Duration::from_secs);
        let mut sums = [Duration::ZERO; 6];
        for _ in 0..1000 {
            let mut backoff = Backoff::new(first, max);
            for (sum, window) in sums.iter_mut().zip(windows) {
                let pause = backoff.next_pause(None);
                assert!(pause <= window);
                *sum += pause;
            }
        }
        for (sum, window) in sums.iter().zip(windows) {
            let mean = (*sum / 1000).div_duration_f64(window);
            assert!((0.4..0.6).contains(&mean), "{mean}");
        }
    }

    #[test]
    fn what_the_server_asks_for_is_the_least() {
        for _ in 0..100 {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(150));
            let pause = backoff.next_pause(Some(Duration::from_secs(20))).as_secs_f64();
            assert!((20.0..=24.0).contains(&pause), "{pause}");
        }
    }
}
