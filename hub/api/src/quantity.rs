//! Amounts of cpu, memory and the like, as Go's `resource.Quantity` reads and writes them.
//!
//! ```text
//! text ─parse─▶ nano units (i128) + the suffix's family ─canonical─▶ text
//! ```
//!
//! Guarantees: parsing is linear and bounded; nothing is lost down to 10⁻⁹, and less is rounded up;
//! magnitudes are capped at 2⁶³−1; the canonical text of a canonical text is itself.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Longest text that is read.
const MAX_TEXT: usize = 256;
const NANO: i128 = 1_000_000_000;
/// 2⁶³−1 in nano units.
const CAP: i128 = (i64::MAX as i128) * NANO;

/// An exact amount and how it likes to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Family of suffixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `Ki`, `Mi`, `Gi`, …
    Binary,
    /// `e3`, `E6`
    Exponent,
    /// `m`, `k`, `M`, … and none.
    #[default]
    Decimal,
}

/// Why a text is no [`Quantity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAQuantity {
    /// The shape is wrong.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Shape,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// The number is none.
    #[error("unable to parse numeric part of quantity")]
    Number,
}

const BINARY: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        if text.is_empty() || text.len() > MAX_TEXT || !text.is_ascii() {
            return Err(NotAQuantity::Shape);
        }
        let (negative, unsigned) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(if number.is_empty() { NotAQuantity::Shape } else { NotAQuantity::Number });
        }
        let (scale, mut format) = read_suffix(suffix)?;
        let magnitude = match scale {
            Scale::Two(power) => nano_of(whole, fraction, 0, power),
            Scale::Ten(power) => nano_of(whole, fraction, power, 0),
        };
        let magnitude = magnitude.min(CAP);
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
        match value.checked_mul(10).and_then(|v| v.checked_add(i128::from(*digit))) {
            Some(next) if next <= CAP.saturating_mul(1_000_000) => value = next,
            // More than the cap however small the scale: only a long fraction gets here.
            _ => return long(&digits, shift, factor),
        }
    }
    rest |= digits[keep..].iter().any(|d| *d != 0);
    let dropped = i32::try_from(digits.len() - keep).unwrap_or(i32::MAX);
    scale(value, shift.saturating_add(dropped), factor, rest)
}

/// The same for numbers with more digits than fit: reads only what matters.
fn long(digits: &[u8], shift: i32, factor: i128) -> i128 {
    const KEPT: usize = 30;
    let kept = digits.len().min(KEPT);
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
            match out.checked_mul(10) {
                Some(next) if next <= CAP => out = next,
                _ => return CAP,
            }
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

impl Quantity {
    /// A whole amount.
    #[must_use]
    pub const fn from_units(units: i64, format: Format) -> Self {
        Self { nano: units as i128 * NANO, format }
    }

    /// An amount in thousandths.
    #[must_use]
    pub const fn from_milli(milli: i64) -> Self {
        Self { nano: milli as i128 * 1_000_000, format: Format::Decimal }
    }

    /// Its family of suffixes.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded up, at most `i64::MAX`.
    #[must_use]
    pub fn value(&self) -> i64 {
        saturate(round_up(self.nano, NANO) / NANO)
    }

    /// Thousandths, rounded up, at most `i64::MAX`.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        saturate(round_up(self.nano, 1_000_000) / 1_000_000)
    }

    /// Billionths.
    #[must_use]
    pub const fn nano_value(&self) -> i128 {
        self.nano
    }

    /// Below zero.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Nothing.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// Rounded up to thousandths, as resource lists of pods and nodes are.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        Self { nano: round_up(self.nano, 1_000_000), ..self }
    }

    /// The sum, in this one's family.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { nano: (self.nano + other.nano).clamp(-CAP, CAP), ..self }
    }

    /// The difference, in this one's family.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { nano: (self.nano - other.nano).clamp(-CAP, CAP), ..self }
    }
}

fn round_up(nano: i128, unit: i128) -> i128 {
    let cut = nano / unit * unit;
    match nano.cmp(&cut) {
        Ordering::Equal => cut,
        Ordering::Greater => cut + unit,
        Ordering::Less => cut - unit,
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    /// The canonical text: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let binary = self.format == Format::Binary
            && self.nano % NANO == 0
            && (self.nano / NANO).unsigned_abs() >= 1024;
        if binary {
            let mut units = self.nano / NANO;
            let mut suffix = "";
            for (name, _) in BINARY {
                if units % 1024 != 0 {
                    break;
                }
                units /= 1024;
                suffix = name;
            }
            return write!(f, "{units}{suffix}");
        }
        let mut amount = self.nano;
        let mut power = -9;
        while amount % 1000 == 0 && power < 18 {
            amount /= 1000;
            power += 3;
        }
        if self.format == Format::Exponent {
            return if power == 0 { write!(f, "{amount}") } else { write!(f, "{amount}e{power}") };
        }
        let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(name, _)| name);
        write!(f, "{amount}{suffix}")
    }
}

/// The canonical text of a quantity.
///
/// # Errors
/// When `text` is none.
pub fn canonical(text: &str) -> Result<String, NotAQuantity> {
    Ok(text.trim().parse::<Quantity>()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        assert_eq!(canonical(expected).as_deref(), Ok(expected), "{expected}");
    }

    #[test]
    fn canonical_texts_are_those_of_go() {
        check("0", "0");
        check("0.5", "500m");
        check("100m", "100m");
        check("1000m", "1");
        check("1.5", "1500m");
        check("1500m", "1500m");
        check("0.1", "100m");
        check("1024", "1024");
        check("1024Ki", "1Mi");
        check("1.5Gi", "1536Mi");
        check("0.5Gi", "512Mi");
        check("100Ki", "100Ki");
        check("1023", "1023");
        check("2048Mi", "2Gi");
        check("0.5Ki", "512");
        check("0.25", "250m");
        check("128974848", "128974848");
        check("129e6", "129e6");
        check("129M", "129M");
        check("1000k", "1M");
        check("1e3", "1e3");
        check("12E3", "12e3");
        check("1E", "1E");
        check("-5", "-5");
        check("+5", "5");
        check(".5", "500m");
        check("5.", "5");
        check("1u", "1u");
        check("0.0000000001", "1n");
        check("0.3Ki", "307200m");
        check("1Ei", "1Ei");
        check("16Ei", "9223372036854775807");
        check("100E", "9223372036854775807");
        check("999999999999999999999999999999999999999999", "9223372036854775807");
        check("1e-12", "1e-9");
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "",
            "lots",
            "1 Gi",
            "1.2.3",
            "Gi",
            "-",
            "1Kii",
            "1gi",
            "--1",
            "1e",
            "é",
            "1e99999999999",
        ] {
            assert!(canonical(text).is_err(), "{text}");
        }
        assert_eq!("lots".parse::<Quantity>(), Err(NotAQuantity::Shape));
        assert!("9".repeat(300).parse::<Quantity>().is_err());
    }

    #[test]
    fn amounts_compare_and_add_across_families() {
        let parse = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(parse("1"), parse("1000m"));
        assert!(parse("1Gi") > parse("1G"));
        assert_eq!(parse("1500m").value(), 2);
        assert_eq!(parse("-1500m").value(), -2);
        assert_eq!(parse("1.5Gi").value(), 1_610_612_736);
        assert_eq!(parse("0.1").milli_value(), 100);
        assert_eq!(parse("1u").milli_value(), 1);
        assert_eq!(parse("100u").rounded_to_milli().to_string(), "1m");
        assert_eq!(parse("1Gi").plus(parse("512Mi")).to_string(), "1536Mi");
        assert_eq!(parse("1").minus(parse("250m")).to_string(), "750m");
        assert_eq!(Quantity::from_units(2 << 30, Format::Binary).to_string(), "2Gi");
        assert_eq!(Quantity::from_milli(1500).to_string(), "1500m");
    }
}
