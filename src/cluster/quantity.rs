//! Kubernetes' quantities: `64Mi`, `1.5G`, `1e3`.

/// The smallest whole number that is not less than the quantity; `None` for what is no quantity, or negative.
pub(super) fn parse(text: &str) -> Option<u128> {
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
    let power = |base: u128, exponent| base.checked_pow(exponent).map(|factor| (factor, 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_u128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, factor) } else { (factor, 1) })
        }
    }
}
