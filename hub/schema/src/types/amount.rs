//! The canonical text of a quantity, as resource.Quantity writes what it has read.
//!
//! ```text
//! 0.5 → 500m   1024Ki → 1Mi   1.5Gi → 1536Mi   0.1Gi → 107374182400m   1e20 → 100e18
//! ```
//!
//! Numbers of more than 38 digits are refused; Go would carry them.

/// In the words of kube-apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct NotAQuantity;

/// Go counts on at most this many digits for its quick path.
const GO_INT64_DIGITS: i64 = 18;

/// Nothing smaller than a nano.
const NANO_EXPONENT: i64 = -9;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Exponent,
    Binary,
}

/// A text taken apart.
struct Parsed<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
    format: Format,
}

/// What Go would write for `text`.
///
/// # Errors
/// When it is no quantity.
pub fn canonical(text: &str) -> Result<String, NotAQuantity> {
    let parsed = parse(text)?;
    let digits = format!("{}{}", parsed.whole, parsed.fraction);
    if is_kept(&parsed, &digits) {
        return Ok(text.to_owned());
    }
    let mut value = number(&digits)?;
    let mut format = parsed.format;
    let mut scale = -count(parsed.fraction);
    if format == Format::Binary {
        let factor = 1_i128 << parsed.exponent;
        value = match value.checked_mul(factor) {
            Some(value) => value,
            // Go caps binary quantities at the largest int64.
            None => {
                scale = 0;
                i128::from(i64::MAX)
            }
        };
    } else {
        scale += parsed.exponent;
    }
    if scale < NANO_EXPONENT {
        value = divide_up(value, NANO_EXPONENT - scale);
        scale = NANO_EXPONENT;
    }
    if value == 0 {
        return Ok("0".to_owned());
    }
    let sign = if parsed.negative { "-" } else { "" };
    if format == Format::Binary {
        if let Some(whole) = whole(value, scale).filter(|whole| 1024 <= *whole) {
            let (value, suffix) = binary(whole.min(i128::from(i64::MAX)));
            return Ok(format!("{sign}{value}{suffix}"));
        }
        // Small or broken numbers are shown without losing anything.
        format = Format::Decimal;
    }
    let (value, exponent) = by_thousands(value, scale)?;
    Ok(format!("{sign}{value}{}", suffix(format, exponent)))
}

fn parse(text: &str) -> Result<Parsed<'_>, NotAQuantity> {
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let seen_any = !whole.is_empty() || !fraction.is_empty();
    if text.is_empty() || (!seen_any && rest.is_empty()) {
        return Err(NotAQuantity);
    }
    let (exponent, format) = unit(rest).ok_or(NotAQuantity)?;
    let whole = whole.trim_start_matches('0');
    Ok(Parsed {
        negative,
        whole: if whole.is_empty() { "0" } else { whole },
        fraction,
        exponent,
        format,
    })
}

fn unit(suffix: &str) -> Option<(i64, Format)> {
    Some(match suffix {
        "n" => (-9, Format::Decimal),
        "u" => (-6, Format::Decimal),
        "m" => (-3, Format::Decimal),
        "" => (0, Format::Decimal),
        "k" => (3, Format::Decimal),
        "M" => (6, Format::Decimal),
        "G" => (9, Format::Decimal),
        "T" => (12, Format::Decimal),
        "P" => (15, Format::Decimal),
        "E" => (18, Format::Decimal),
        "Ki" => (10, Format::Binary),
        "Mi" => (20, Format::Binary),
        "Gi" => (30, Format::Binary),
        "Ti" => (40, Format::Binary),
        "Pi" => (50, Format::Binary),
        "Ei" => (60, Format::Binary),
        _ => {
            let power = suffix.strip_prefix(['e', 'E'])?;
            let power: i64 = power.parse().ok()?;
            // Go takes any power and computes for ever; these cover what an int64 can hold in nanos.
            if !(-40..=30).contains(&power) {
                return None;
            }
            (power, Format::Exponent)
        }
    })
}

/// Go keeps the text when its quick path finds it canonical enough.
fn is_kept(parsed: &Parsed<'_>, digits: &str) -> bool {
    let Ok(value) = digits.parse::<i64>() else { return false };
    match parsed.format {
        Format::Binary => {
            let precision = 15 - count(parsed.whole) - parsed.exponent * 3 / 10 - 1;
            let fits = value.checked_mul(1 << parsed.exponent).is_some();
            parsed.fraction.is_empty() && 0 <= precision && fits && value & 7 != 0
        }
        Format::Decimal | Format::Exponent => {
            let scale = parsed.exponent - count(parsed.fraction);
            let quick = count(digits) <= GO_INT64_DIGITS && NANO_EXPONENT <= scale;
            let clean = !digits.ends_with("000") && !digits.starts_with('0');
            quick && scale % 3 == 0 && clean
        }
    }
}

fn count(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

fn number(digits: &str) -> Result<i128, NotAQuantity> {
    digits.parse().map_err(|_| NotAQuantity)
}

/// `value / 10^places`, away from zero.
fn divide_up(mut value: i128, places: i64) -> i128 {
    let mut rest = false;
    for _ in 0..places {
        rest |= value % 10 != 0;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    value + i128::from(rest)
}

/// `value × 10^scale` when that is a whole number.
fn whole(mut value: i128, scale: i64) -> Option<i128> {
    for _ in scale..0 {
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
    }
    Some(value)
}

fn binary(mut value: i128) -> (i128, &'static str) {
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let mut suffix = suffixes.next().unwrap_or_default();
    while 1024 <= value && value % 1024 == 0 {
        value /= 1024;
        suffix = suffixes.next().unwrap_or_default();
    }
    (value, suffix)
}

/// The shortest number whose exponent is a multiple of three and has a suffix.
fn by_thousands(mut value: i128, mut exponent: i64) -> Result<(i128, i64), NotAQuantity> {
    while value % 10 == 0 && value != 0 {
        value /= 10;
        exponent += 1;
    }
    while exponent % 3 != 0 || 18 < exponent {
        value = value.checked_mul(10).ok_or(NotAQuantity)?;
        exponent -= 1;
    }
    Ok((value, exponent))
}

fn suffix(format: Format, exponent: i64) -> String {
    if exponent == 0 {
        return String::new();
    }
    if format == Format::Exponent {
        return format!("e{exponent}");
    }
    let text = match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        _ => "E",
    };
    text.to_owned()
}
