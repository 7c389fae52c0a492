//! Durations as Go writes them: `1m30s`, `1.5h`, `250ms`.

use std::time::Duration;

use jiff::SignedDuration;

/// Longer than any sensible setting, short enough for every clock.
const MAX_DURATION: Duration = Duration::from_hours(366 * 24);

/// Parses a duration longer than nothing.
pub(super) fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|parsed: SignedDuration| Duration::try_from(parsed).ok());
    duration
        .filter(|duration| !duration.is_zero() && *duration <= MAX_DURATION)
        .ok_or_else(|| "give a duration longer than 0 and up to a year, such as 2s, 500ms or 1m30s".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        let cases = [
            ("2s", 2_000),
            ("1m30s", 90_000),
            ("1h2m3s4ms", 3_723_004),
            ("1.5h", 5_400_000),
            ("1500000us", 1_500),
            ("250ms", 250),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_positive(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "0s", "2", "s", "-1s", "1.2.3s", "9999h", "inf", "1e3s", "0.1ns"] {
            let error = parse_positive(text).unwrap_err();
            assert!(error.starts_with("give a duration"), "{text}");
        }
    }
}
