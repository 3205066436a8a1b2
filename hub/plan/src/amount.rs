//! Quantities as the whole numbers that a record carries, rounded up as Kubernetes does. What is beyond them is the
//! largest: no device has as much, and who says "as good as none" by it means that.
//!
//! Guarantees:
//! - a quantity that the API takes has a number (`quantities_become_whole_numbers_rounded_up`).

/// Digits behind the point: the API keeps nine.
const FRACTION_DIGITS_MAX: usize = 18;
/// Powers of ten beyond this say no more.
const EXPONENT_MAX: i32 = 64;

/// Value of a quantity in whole units (bytes), rounded up; `None` when it is none, or negative.
pub(crate) fn whole(quantity: &str) -> Option<u64> {
    Some(u64::try_from(scaled(quantity, 0)?).unwrap_or(u64::MAX))
}

/// Value of a quantity in thousandths (of a core), rounded up.
pub(crate) fn milli(quantity: &str) -> Option<u32> {
    Some(u32::try_from(scaled(quantity, 3)?).unwrap_or(u32::MAX))
}

/// `quantity` times 10^`places`, rounded up.
fn scaled(quantity: &str, places: i32) -> Option<u128> {
    let end = quantity
        .bytes()
        .position(|b| !matches!(b, b'0'..=b'9' | b'.' | b'+'))
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at_checked(end)?;
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let written = format!("{whole}{fraction}");
    let digits = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || FRACTION_DIGITS_MAX < fraction.len() {
        return None;
    }
    let (binary, mut power) = unit(suffix)?;
    power += places - i32::try_from(fraction.len()).ok()?;
    // Whatever is too large for these is too large for what is asked for.
    let value = written.parse::<u128>().unwrap_or(u128::MAX).saturating_mul(1 << binary);
    let factor = 10_u128.saturating_pow(power.unsigned_abs());
    Some(if power < 0 { value.div_ceil(factor) } else { value.saturating_mul(factor) })
}

/// Power of two and power of ten that a suffix stands for.
fn unit(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            (0, exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_whole_numbers_rounded_up() {
        for (quantity, bytes) in [
            ("64Mi", Some(64 << 20)),
            ("1k", Some(1000)),
            ("1.5Gi", Some(3 << 29)),
            ("100m", Some(1)),
            ("1e3", Some(1000)),
            ("8Ei", Some(8 << 60)),
            ("16Ei", Some(u64::MAX)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("-1", None),
            ("", None),
            (".", None),
            ("1Q", None),
            ("é", None),
            ("99999999999999999999", Some(u64::MAX)),
            ("1e999", Some(u64::MAX)),
            ("0e999", Some(0)),
            ("1e-999", Some(1)),
            ("1.+2", None),
        ] {
            assert_eq!(whole(quantity), bytes, "{quantity:?}");
        }
        for (quantity, thousandths) in [
            ("500m", Some(500)),
            ("2", Some(2000)),
            ("0.1", Some(100)),
            ("1u", Some(1)),
            ("1099511627776", Some(u32::MAX)),
        ] {
            assert_eq!(milli(quantity), thousandths, "{quantity:?}");
        }
    }
}
