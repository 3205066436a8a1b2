//! Lengths of time as Go writes them: `1h30m`, `1.5s`, `-2m`.
//!
//! Guarantees:
//! - what Go's `time.ParseDuration` takes is taken and nothing else, and why not is told in its words
//!   (`durations_are_read_as_go_reads_them`).

use jiff::SignedDuration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADuration {
    /// It has no such form, or is longer than 292 years.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number has no unit.
    #[error("time: missing unit in duration {0:?}")]
    NoUnit(String),
    /// A number has one that Go does not know.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// Which.
        unit: String,
        /// All of the text.
        text: String,
    },
}

/// Digits of a fraction that count: an hour has fewer nanoseconds.
const FRACTION_DIGITS: usize = 13;

/// The length of time that a text says.
///
/// # Errors
/// When it says none.
pub fn read(text: &str) -> Result<SignedDuration, NotADuration> {
    let invalid = || NotADuration::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0_i128;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let is_of_number = |c: char| c == '.' || c.is_ascii_digit();
        let (unit, after) = after.split_at(after.find(is_of_number).unwrap_or(after.len()));
        nanos += part((whole, fraction), nanos_of(unit, text)?).ok_or_else(invalid)?;
        if i128::from(i64::MAX) + i128::from(negative) < nanos {
            return Err(invalid());
        }
        rest = after;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).map_err(|_| invalid())?;
    Ok(SignedDuration::from_nanos(nanos))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn nanos_of(unit: &str, text: &str) -> Result<i128, NotADuration> {
    Ok(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(NotADuration::NoUnit(text.to_owned())),
        _ => {
            return Err(NotADuration::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() });
        }
    })
}

/// So many units, and a fraction of one.
fn part((whole, fraction): (&str, &str), unit: i128) -> Option<i128> {
    let number = |digits: &str| -> Option<i128> {
        if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok().map(i128::from) }
    };
    let whole = number(whole)? * unit;
    let fraction = fraction.get(..FRACTION_DIGITS).unwrap_or(fraction);
    let mut scale = 1_i128;
    for _ in 0..fraction.len() {
        scale *= 10;
    }
    Some(whole + number(fraction)? * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("5m0s", 300_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("-1.5\u{b5}s", -1_500),
            ("+2\u{3bc}s", 2_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.100000000000000000000h", 360_000_000_000),
            ("2543010h", 2_543_010 * 3_600 * 1_000_000_000),
        ] {
            assert_eq!(read(text), Ok(SignedDuration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "-", ".", "-.s", "s", ".s", "1h-2m", "PT5M", "1 h", "3000000h"] {
            assert!(read(text).is_err(), "{text}");
        }
        for (text, why) in [
            ("soon", "time: invalid duration \"soon\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1m30", "time: missing unit in duration \"1m30\""),
            ("7d", "time: unknown unit \"d\" in duration \"7d\""),
            ("1 minute", "time: unknown unit \" minute\" in duration \"1 minute\""),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), why);
        }
    }
}
