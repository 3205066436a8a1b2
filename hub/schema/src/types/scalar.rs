//! The leaves with a form of their own: floats, bytes, times, quantities. Errors are in Go's words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{DateTime, date};
use serde_json::{Number, Value};

use super::amount;
use crate::duration::{GoDuration, NotADuration};
use crate::time;

/// Checks base64 and drops the line ends that Go's decoder skips.
pub(super) fn bytes(text: &mut String) -> Result<(), String> {
    if text.contains(['\r', '\n']) {
        text.retain(|c| c != '\r' && c != '\n');
    }
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let place = match error {
                base64::DecodeError::InvalidByte(place, _)
                | base64::DecodeError::InvalidLastSymbol(place, _) => place,
                base64::DecodeError::InvalidLength(length) => length - length % 4,
                base64::DecodeError::InvalidPadding => text.len(),
            };
            Err(format!("illegal base64 data at input byte {place}"))
        }
    }
}

/// Go writes a whole number without a fraction, whatever it was read from.
pub(super) fn float(number: &mut Number) {
    // Of what is larger, not every whole number is one of these.
    const EXACT_INTEGERS_MAX: f64 = 9_007_199_254_740_992.0;
    let whole =
        number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT_INTEGERS_MAX);
    if let Some(whole) = whole.filter(|_| number.is_f64())
        && let Ok(whole) = format!("{whole:.0}").parse::<i64>()
    {
        *number = whole.into();
    }
}

/// Go's zero time, which it writes as null.
const ZERO: DateTime = date(1, 1, 1).at(0, 0, 0, 0);

/// RFC 3339 at any offset becomes UTC, at whole seconds or microseconds. Says whether it is Go's zero
/// time.
pub(super) fn moment(text: &mut String, micro: bool) -> Result<bool, String> {
    let layout =
        if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let moment = time::read_rfc3339(text).ok_or_else(|| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as RFC 3339")
    })?;
    *text = time::write_rfc3339(moment, micro);
    Ok(moment == ZERO)
}

/// A duration in the form in which Go writes it.
pub(super) fn duration(text: &mut String) -> Result<(), String> {
    let read: GoDuration = text.parse().map_err(|why: NotADuration| why.to_string())?;
    *text = read.to_string();
    Ok(())
}

/// A quantity may be text or a number.
pub(super) fn quantity(value: &mut Value) -> Result<(), String> {
    let canonical = match value {
        Value::String(text) => amount::canonical(text.trim()),
        Value::Number(number) => amount::canonical(&number.to_string()),
        _ => Err(amount::NotAQuantity),
    };
    *value = Value::String(canonical.map_err(|e| e.to_string())?);
    Ok(())
}
