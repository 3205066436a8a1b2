//! Quantities as the whole numbers that a record carries, rounded up as Kubernetes does.

/// Value of a quantity in whole units (bytes), rounded up; `None` when it is none, negative or too large.
pub(crate) fn whole(quantity: &str) -> Option<u64> {
    u64::try_from(scaled(quantity, 0)?).ok()
}

/// Value of a quantity in thousandths (of a core), rounded up.
pub(crate) fn milli(quantity: &str) -> Option<u32> {
    u32::try_from(scaled(quantity, 3)?).ok()
}

/// `quantity` times 10^`places`, rounded up.
fn scaled(quantity: &str, places: i32) -> Option<i128> {
    let end = quantity
        .bytes()
        .position(|b| !matches!(b, b'0'..=b'9' | b'.' | b'+'))
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at_checked(end)?;
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || 18 < whole.len() + fraction.len() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (binary, mut power) = unit(suffix)?;
    power += places - i32::try_from(fraction.len()).ok()?;
    let value = digits.checked_shl(binary).filter(|v| v >> binary == digits)?;
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power < 0 {
        Some(value / factor + i128::from(value % factor != 0))
    } else {
        value.checked_mul(factor)
    }
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
            (0, (-18..=18).contains(&exponent).then_some(exponent)?)
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
            ("16Ei", None),
            ("-1", None),
            ("", None),
            (".", None),
            ("1Q", None),
            ("é", None),
            ("99999999999999999999", None),
            ("1e999", None),
        ] {
            assert_eq!(whole(quantity), bytes, "{quantity:?}");
        }
        for (quantity, thousandths) in
            [("500m", Some(500)), ("2", Some(2000)), ("0.1", Some(100)), ("1u", Some(1))]
        {
            assert_eq!(milli(quantity), thousandths, "{quantity:?}");
        }
    }
}
