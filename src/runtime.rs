//! How long the program waits, and which thread may block on what.
//!
//! | thread | may block on | never |
//! | --- | --- | --- |
//! | `serve` runtime (main thread) | nothing | parses objects, touches a file of the node |
//! | `clients` runtime | parsing one object | touches a volume |
//! | `collect` | its [`Deadline`] | waits for the API server |
//! | probes | a mount, indefinitely | holds a lock meanwhile |
//! | `host-files` ([`BlockingWorker`]) | a file of the node, indefinitely | |

pub(crate) mod backoff;
mod blocking_worker;
mod clients;
mod deadline;

use std::time::{Duration, SystemTime};

pub use blocking_worker::{BlockingWorker, Job, JobLost, SingleJob};
pub use clients::{Clients, catch_panic};
pub use deadline::{CancelHandle, Cutoff, Deadline};

/// How far the clocks of a cluster may be apart.
const MAX_CLOCK_SKEW: Duration = Duration::from_mins(2);

/// How long ago a time was; `None` for one that is still to come, of which nothing is known but that a clock is wrong.
pub fn age(time: SystemTime, now: SystemTime) -> Option<Duration> {
    match now.duration_since(time) {
        Ok(age) => Some(age),
        Err(ahead) => (ahead.duration() <= MAX_CLOCK_SKEW).then_some(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_has_no_age_beyond_what_clocks_differ() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24);
        let minutes = Duration::from_mins;
        assert_eq!(age(now - minutes(3), now), Some(minutes(3)));
        assert_eq!(age(now, now), Some(Duration::ZERO));
        assert_eq!(age(now + minutes(2), now), Some(Duration::ZERO));
        assert_eq!(age(now + minutes(2) + Duration::from_nanos(1), now), None);
    }
}
