//! Amounts of cpu, memory and the like, as Go's `resource.Quantity` reads and writes them.
//!
//! ```text
//! text ─parse─▶ nano units (i128) + the suffix's family ─canonical─▶ text
//! ```
//!
//! Guarantees:
//! - nothing is lost down to 10⁻⁹, and less is rounded up; magnitudes are capped (binary ones at 2⁶³−1, as in Go); the
//!   canonical text of a canonical text is itself (`canonical_texts_are_those_of_go`);
//! - a text of any length or exponent is answered (`what_is_no_quantity_is_refused`,
//!   `hostile_texts_are_answered_and_never_panic`).

mod read;

use std::cmp::Ordering;
use std::fmt;

const NANO: i128 = 1_000_000_000;
/// 2⁶³−1 in nano units: more Ki, Mi, … than that are that many.
const BINARY_CAP: i128 = (i64::MAX as i128) * NANO;
/// 10²⁸ in nano units: sums of two still fit.
const CAP: i128 = 10_i128.pow(37);

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

impl Quantity {
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

    /// About so much.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "its name says so")]
    pub fn approximate(&self) -> f64 {
        self.nano as f64 / NANO as f64
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

    /// So many billionths.
    #[must_use]
    pub fn of_nano(nano: i128, format: Format) -> Self {
        Self { nano: nano.clamp(-CAP, CAP), format }
    }

    /// So many whole units.
    #[must_use]
    pub fn of(units: i128, format: Format) -> Self {
        Self::of_nano(units.saturating_mul(NANO), format)
    }

    /// So many thousandths.
    #[must_use]
    pub const fn of_milli(milli: i64, format: Format) -> Self {
        Self { nano: milli as i128 * 1_000_000, format }
    }

    /// Rounded up to thousandths, as resource lists of pods and nodes are.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        Self { nano: round_up(self.nano, 1_000_000), ..self }
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    /// Written as the first of both that is something.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nano: self.nano.saturating_add(other.nano), format }
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
        check("100E", "100E");
        check("999999999999999999999999999999999999999999", "10000000000E");
        check("1e-12", "1e-9");
    }

    #[test]
    fn amounts_are_written_as_go_writes_them() {
        for (nano, text) in [(0, "0"), (1, "1n"), (123_456_000, "123456u"), (250_000_000, "250m")] {
            assert_eq!(Quantity::of_nano(nano, Format::Decimal).to_string(), text);
        }
        for (bytes, text) in [(0, "0"), (1_000, "1k"), (7 << 10, "7Ki"), (3 << 30, "3Gi")] {
            assert_eq!(Quantity::of(bytes, Format::Binary).to_string(), text);
        }
        // More than there is of anything.
        let most = Quantity::of(u64::MAX.into(), Format::Binary);
        assert_eq!(most.to_string().parse(), Ok(most));
    }

    #[test]
    fn texts_that_go_reads_are_read_alike() {
        for line in include_str!("types/fixtures/quantities.txt").lines() {
            let (text, go) = line.split_once('=').unwrap();
            // Go keeps some texts as they were written: those are compared by value.
            match go {
                "!" => assert!(canonical(text).is_err(), "{text:?}"),
                _ => assert_eq!(canonical(text), canonical(go), "{text:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "lots", "1 Gi", "1.2.3", "-", "1Kii", "1gi", "--1", "1e", "é", "1e99999999999"]
        {
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
        assert_eq!((parse("1Gi") + parse("1073741824")).to_string(), "2Gi");
        assert_eq!((parse("0") + parse("1Gi")).to_string(), "1Gi");
        assert_eq!(Quantity::of_milli(1500, Format::Decimal), parse("1.5"));
    }
}
