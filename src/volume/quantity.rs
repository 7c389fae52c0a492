//! Kubernetes' quantities: `64Mi`, `1.5G`, `1e3`.

/// The smallest whole number that is not less than the quantity; `None` for what is no quantity, or negative.
pub(crate) fn parse_quantity(text: &str) -> Option<u128> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, divisor) = scale(suffix)?;
    let decimals = u32::try_from(fraction.len()).ok()?;
    let divisor = divisor.checked_mul(10_u128.checked_pow(decimals)?)?;
    Some(mantissa.checked_mul(factor)?.div_ceil(divisor))
}

/// A suffix as a factor and a divisor.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let power = |base: u128, suffixes: &[&str]| {
        let exponent = suffixes.iter().position(|known| *known == suffix)?;
        Some(base.pow(u32::try_from(exponent).ok()?))
    };
    let thousands = power(1000, &["", "k", "M", "G", "T", "P", "E"]);
    if let Some(factor) = thousands.or_else(|| power(1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])) {
        return Some((factor, 1));
    }
    if let Some(divisor) = power(1000, &["", "m", "u", "n"]) {
        return Some((1, divisor));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let factor = 10_u128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, factor) } else { (factor, 1) })
}

#[cfg(test)]
mod tests {
    use super::parse_quantity;

    #[test]
    fn reads_every_form() {
        let cases: [(&str, Option<u128>); 20] = [
            ("0", Some(0)),
            ("64Mi", Some(67_108_864)),
            ("1Ei", Some(1 << 60)),
            ("1.5Gi", Some(1_610_612_736)),
            ("1.5G", Some(1_500_000_000)),
            (".5k", Some(500)),
            ("5.", Some(5)),
            ("1500m", Some(2)),
            ("1n", Some(1)),
            ("100e6", Some(100_000_000)),
            ("1E3", Some(1000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("15e-1", Some(2)),
            ("", None),
            (".", None),
            ("-1", None),
            ("1.2.3", None),
            ("1 Gi", None),
            ("1KiB", None),
            ("1e999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_quantity(text), expected, "{text}");
        }
    }
}
