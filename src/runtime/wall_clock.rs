//! Times that another clock than this process's has noted.

use std::time::{Duration, SystemTime};

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
