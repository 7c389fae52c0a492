//! Figures as people read them: sizes, percentages and counts.

use std::fmt::{self, Display, Formatter};

/// From these percentages on a volume is nearly full, and full.
pub(crate) const NEARLY_FULL: f64 = 80.0;
pub(crate) const FULL: f64 = 90.0;

/// As Kubernetes writes them: powers of 1024.
const UNITS: [&str; 8] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

/// Bytes with two digits or more: `512`, `1.5Ki`, `182Mi`.
pub(crate) struct Size(pub(crate) u128);

impl Display for Size {
    #[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(out, "{}", self.0);
        }
        let (mut size, mut unit) = (self.0 as f64 / 1024.0, 0);
        // 1023.5 would be rounded to 1024.
        while size >= 1023.5 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        let digits = usize::from(size < 9.95);
        write!(out, "{size:.digits$}{}", UNITS[unit])
    }
}

/// Cut off after the first digit, never rounded up: 100.0% is full, and 80.0% is what `df --over=80` shows.
pub(crate) struct Percent(pub(crate) f64);

impl Display for Percent {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{:.1}%", (self.0 * 10.0).floor() / 10.0)
    }
}

/// A number of things whose plural ends in `s`.
pub(crate) struct Count<'a>(pub(crate) usize, pub(crate) &'a str);

impl Display for Count<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
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
            assert_eq!(Size(bytes).to_string(), text, "{bytes}");
        }
    }

    #[test]
    fn what_is_nearly_full_is_not_full() {
        let cases = [(0.0, "0.0%"), (79.99, "79.9%"), (80.0, "80.0%"), (99.999, "99.9%"), (100.0, "100.0%")];
        for (value, text) in cases {
            assert_eq!(Percent(value).to_string(), text);
        }
    }

    #[test]
    fn one_is_not_several() {
        assert_eq!([0, 1, 2].map(|n| Count(n, "mount").to_string()), ["0 mounts", "1 mount", "2 mounts"]);
    }
}
