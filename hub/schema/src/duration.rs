//! Durations as Go writes and reads them: `1h2m3.5s`.
//!
//! Guarantees:
//! - texts are those of Go's `time` (`durations_are_written_as_go_writes_them`, `durations_are_read_as_go_reads_them`);
//! - what is written is read as the same (`what_is_written_is_read`).

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use jiff::SignedDuration;

/// Nanoseconds, as `time.Duration` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

/// It is none, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time: {why}duration {text:?}")]
pub struct NotADuration {
    why: String,
    text: String,
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MINUTE: u64 = 60 * NANOS_PER_SECOND;
const NANOS_PER_HOUR: u64 = 60 * NANOS_PER_MINUTE;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", NANOS_PER_MINUTE),
    ("h", NANOS_PER_HOUR),
];

impl GoDuration {
    /// Of so many nanoseconds.
    #[must_use]
    pub const fn of_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

/// The length of time that a text says.
///
/// # Errors
/// When it says none.
pub fn read(text: &str) -> Result<SignedDuration, NotADuration> {
    Ok(SignedDuration::from_nanos(text.parse::<GoDuration>()?.nanos()))
}

impl Display for GoDuration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let nanos = self.0.unsigned_abs();
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}\u{b5}s", decimal(nanos, 3)),
            1_000_000..NANOS_PER_SECOND => write!(f, "{}ms", decimal(nanos, 6)),
            NANOS_PER_SECOND.. => {
                let (hours, minutes) =
                    (nanos / NANOS_PER_HOUR, nanos % NANOS_PER_HOUR / NANOS_PER_MINUTE);
                if 0 < hours {
                    write!(f, "{hours}h")?;
                }
                if NANOS_PER_MINUTE <= nanos {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{}s", decimal(nanos % NANOS_PER_MINUTE, 9))
            }
        }
    }
}

/// So many of what has ten to that power of nanoseconds, and no more decimals than it takes.
fn decimal(nanos: u64, power: u32) -> String {
    let unit = 10_u64.pow(power);
    let (whole, rest) = (nanos / unit, nanos % unit);
    let text = format!("{whole}.{rest:0width$}", width = power as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl FromStr for GoDuration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let wrong = |why: &str| NotADuration { why: why.to_owned(), text: text.to_owned() };
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        let mut nanos: u64 = 0;
        loop {
            let (whole, behind) = digits(rest);
            let (decimals, unit) = behind.strip_prefix('.').map_or(("", behind), digits);
            let end = unit.find(|sign: char| sign.is_ascii_digit() || sign == '.');
            let (unit, more) = unit.split_at(end.unwrap_or(unit.len()));
            if whole.is_empty() && decimals.is_empty() {
                return Err(wrong("invalid "));
            }
            let whole = if whole.is_empty() { Some(0) } else { whole.parse().ok() };
            let whole = whole.filter(|whole| *whole <= 1 << 63).ok_or_else(|| wrong("invalid "))?;
            if unit.is_empty() {
                return Err(wrong("missing unit in "));
            }
            let known = UNITS.iter().find(|(name, _)| *name == unit);
            let (_, unit) = *known.ok_or_else(|| wrong(&format!("unknown unit {unit:?} in ")))?;
            let part = of(whole, decimals, unit).ok_or_else(|| wrong("invalid "))?;
            nanos = nanos.checked_add(part).ok_or_else(|| wrong("invalid "))?;
            if more.is_empty() {
                break;
            }
            rest = more;
        }
        let signed =
            if negative { 0_i64.checked_sub_unsigned(nanos) } else { i64::try_from(nanos).ok() };
        signed.map(Self).ok_or_else(|| wrong("invalid "))
    }
}

/// The digits that a text begins with, and what comes behind them.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|sign: char| !sign.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// Nanoseconds of a decimal of some unit; what is less than one is nothing.
fn of(whole: u64, decimals: &str, unit: u64) -> Option<u64> {
    // As Go counts them: as many as fit into a whole number, and then by a float.
    let (mut part, mut scale) = (0_i64, 1.0);
    for digit in decimals.bytes() {
        let more = part.checked_mul(10).and_then(|ten| ten.checked_add((digit - b'0').into()));
        let Some(more) = more else { break };
        (part, scale) = (more, scale * 10.0);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "less than a unit, and no less than nothing"
    )]
    let part = (part as f64 * (unit as f64 / scale)) as u64;
    whole.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (15_050_000_000, "15.05s"),
            (60_000_000_000, "1m0s"),
            (70_001_000_000, "1m10.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (-90_000_000_000, "-1m30s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(GoDuration::of_nanos(nanos).to_string(), text);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("-5.s", -5_000_000_000),
            (".5s", 500_000_000),
            ("+1h30m", 5_400_000_000_000),
            ("3us4\u{b5}s5\u{3bc}s", 12_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(text.parse(), Ok(GoDuration(nanos)), "{text}");
        }
        for (text, why) in [
            ("", "time: invalid duration \"\""),
            ("soon", "time: invalid duration \"soon\""),
            (".s", "time: invalid duration \".s\""),
            ("1.2.3s", "time: missing unit in duration \"1.2.3s\""),
            ("1..2s", "time: missing unit in duration \"1..2s\""),
            ("99999999999999999999", "time: invalid duration \"99999999999999999999\""),
            ("9223372036854775809", "time: invalid duration \"9223372036854775809\""),
            ("9223372036854775808", "time: missing unit in duration \"9223372036854775808\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for nanos in (0..63).flat_map(|bit| [(1_i64 << bit) - 1, -(1_i64 << bit)]) {
            let duration = GoDuration(nanos);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
