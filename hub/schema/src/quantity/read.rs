//! From text to nano units: digits, a point, a suffix.

use std::str::FromStr;

use super::{BINARY, BINARY_CAP, CAP, DECIMAL, Format, NANO, NotAQuantity, Quantity};

/// Longest text that is read.
const TEXT_BYTES_MAX: usize = 256;

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
            return Err(NotAQuantity::Shape);
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // A suffix alone is nothing of it.
        if fraction.contains('.') || number == "." || unsigned.is_empty() {
            return Err(NotAQuantity::Number);
        }
        let (scale, mut format) = read_suffix(suffix)?;
        let magnitude = match scale {
            Scale::Two(power) => nano_of(whole, fraction, 0, power),
            Scale::Ten(power) => nano_of(whole, fraction, power, 0),
        };
        let cap = if format == Format::Binary { BINARY_CAP } else { CAP };
        let magnitude = magnitude.min(cap);
        // A fraction of one reads better in thousandths than in Ki.
        if format == Format::Binary && 0 < magnitude && magnitude < NANO {
            format = Format::Decimal;
        }
        Ok(Self { nano: if negative { -magnitude } else { magnitude }, format })
    }
}

enum Scale {
    Two(u32),
    Ten(i32),
}

fn read_suffix(suffix: &str) -> Result<(Scale, Format), NotAQuantity> {
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Two(*power), Format::Binary));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Ten(*power), Format::Decimal));
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']) {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAQuantity::Suffix);
        }
        let power = exponent.parse().map_err(|_| NotAQuantity::Suffix)?;
        return Ok((Scale::Ten(power), Format::Exponent));
    }
    let known = |c: char| "eEinumkKMGTP".contains(c);
    let rest = suffix.trim_start_matches(known);
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let shaped = rest.bytes().all(|b| b.is_ascii_digit());
    Err(if shaped { NotAQuantity::Suffix } else { NotAQuantity::Shape })
}

/// `whole.fraction × 10^ten × 2^two` in nano units, rounded up, at most the cap.
fn nano_of(whole: &str, fraction: &str, ten: i32, two: u32) -> i128 {
    let digits: Vec<u8> =
        whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').skip_while(|d| *d == 0).collect();
    if digits.is_empty() {
        return 0;
    }
    // The decimal point stands this far right of the last digit, counted in nano units.
    let fraction_len = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let shift = ten.saturating_sub(fraction_len).saturating_add(9);
    let factor = 1_i128 << two;
    let mut value: i128 = 0;
    let mut rest = false;
    // Digits that are worth less than one nano unit even after the binary factor round up.
    let keep =
        usize::try_from(i64::from(shift) + i64::try_from(digits.len()).unwrap_or(i64::MAX) + 20);
    let keep = keep.unwrap_or(0).min(digits.len());
    for digit in &digits[..keep] {
        let next = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(*digit)));
        let Some(next) = next.filter(|next| *next <= CAP) else {
            // More than the cap however small the scale: only a long fraction gets here.
            return long(&digits, shift, factor);
        };
        value = next;
    }
    rest |= digits[keep..].iter().any(|d| *d != 0);
    let dropped = i32::try_from(digits.len() - keep).unwrap_or(i32::MAX);
    scale(value, shift.saturating_add(dropped), factor, rest)
}

/// The same for numbers with more digits than fit: reads only what matters.
fn long(digits: &[u8], shift: i32, factor: i128) -> i128 {
    const DIGITS_KEPT: usize = 30;
    let kept = digits.len().min(DIGITS_KEPT);
    let value = digits[..kept].iter().fold(0_i128, |v, d| v * 10 + i128::from(*d));
    let rest = digits[kept..].iter().any(|d| *d != 0);
    let dropped = i32::try_from(digits.len() - kept).unwrap_or(i32::MAX);
    scale(value, shift.saturating_add(dropped), factor, rest)
}

fn scale(value: i128, shift: i32, factor: i128, rest: bool) -> i128 {
    if value == 0 {
        return i128::from(rest);
    }
    if shift >= 0 {
        let mut out = value;
        for _ in 0..shift {
            let Some(next) = out.checked_mul(10).filter(|next| *next <= CAP) else { return CAP };
            out = next;
        }
        return out.checked_mul(factor).map_or(CAP, |v| v.saturating_add(i128::from(rest)));
    }
    // Cancel tens before the factor, so that the product fits.
    let mut out = value;
    let mut left = shift;
    while left < 0 && out % 10 == 0 {
        out /= 10;
        left += 1;
    }
    let Some(product) = out.checked_mul(factor) else {
        return scale(out / 10, left + 1, factor, true);
    };
    let mut out = product;
    let mut rest = rest;
    for _ in left..0 {
        rest |= out % 10 != 0;
        out /= 10;
        if out == 0 {
            break;
        }
    }
    out.saturating_add(i128::from(rest))
}
