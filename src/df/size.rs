//! Figures as people read them.

/// As Kubernetes writes them: powers of 1024.
const UNITS: [&str; 8] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

/// Bytes with two or more digits: `512`, `1.5Ki`, `182Mi`.
#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
pub(super) fn human(bytes: u128) -> String {
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // Not 1024: from here on it would be rounded to that.
    while size >= 1023.5 && units.len() > 0 {
        size /= 1024.0;
        unit = units.next();
    }
    let unit = unit.copied().unwrap_or_default();
    if size < 9.95 { format!("{size:.1}{unit}") } else { format!("{size:.0}{unit}") }
}

/// Cut off after the first digit, never rounded up: 100.0% is full, and 80.0% is what `--over=80` shows.
pub(super) fn percent(value: f64) -> String {
    format!("{:.1}%", (value * 10.0).floor() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_makes_them_short() {
        let cases = [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0Ki"),
            (1536, "1.5Ki"),
            (10 * 1024 - 1, "10Ki"),
            (190_770_176, "182Mi"),
            ((1 << 20) - 1, "1.0Mi"),
            (1023 << 20, "1023Mi"),
            (64 << 40, "64Ti"),
            (1 << 80, "1.0Yi"),
            (1 << 100, "1048576Yi"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn what_is_nearly_full_is_not_full() {
        let cases = [(0.0, "0.0%"), (79.99, "79.9%"), (80.0, "80.0%"), (99.999, "99.9%"), (100.0, "100.0%")];
        for (value, text) in cases {
            assert_eq!(percent(value), text);
        }
    }
}
