//! Durations as Go writes them: `1m30s`, `1.5h`, `250ms`.

use std::time::Duration;

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Longer than any sensible setting, short enough for every clock.
const MOST_SECONDS: f64 = 366.0 * 86_400.0;

/// Parses a duration longer than nothing.
pub(super) fn parse_positive(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).filter(|s| *s > 0.0 && *s <= MOST_SECONDS);
    let duration = seconds.map(Duration::from_secs_f64).filter(|d| !d.is_zero());
    duration
        .ok_or_else(|| "give a duration longer than 0 and up to a year, such as 2s, 500ms or 1m30s".into())
}

fn seconds(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c))?);
        let unit_end = tail.find(is_number).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    Some(sum)
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
            (".5s", 500),
            ("1500000us", 1_500),
            ("250ms", 250),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_positive(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", "0s", "2", "s", "-1s", "+1s", "1 s", "2sec", "1.2.3s", "9999h", "inf", "1e3s", "0.1ns"]
        {
            let error = parse_positive(text).unwrap_err();
            assert!(error.starts_with("give a duration"), "{text}");
        }
    }
}
