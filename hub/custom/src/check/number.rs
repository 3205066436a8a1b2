//! Rules for numbers.

use freewheel_hub_schema::path::Path;
use serde_json::Value;

use super::words::{Mistake, Outcome};
use crate::schema::{Schema, Type};

pub(super) fn check(schema: &Schema, value: &Value, path: &Path<'_>) -> Outcome {
    let mut all = Outcome::default();
    let rules = &schema.rules;
    let whole = value.as_i64();
    let number = value.as_f64().unwrap_or_default();
    if schema.is == Some(Type::Integer)
        && rules.format.as_deref() == Some("int32")
        && whole.is_some_and(|whole| i32::try_from(whole).is_err())
    {
        let path = path.text();
        let text = format!("Checked value must be of type integer with format int32 in {path}");
        all.add(Mistake::nowhere(&text));
    }
    if let Some(factor) = rules.multiple_of {
        let right = match whole {
            Some(whole) => truncated(factor) != 0 && whole % truncated(factor) == 0,
            None => {
                let times = if factor < 1.0 { 1.0 / factor * number } else { number / factor };
                times.fract() == 0.0
            }
        };
        if !right {
            let text = format!("should be a multiple of {}", shown(factor, whole.is_some()));
            all.add(Mistake::rule(path, value, &text));
        }
    }
    let against = |bound: f64| match whole {
        Some(whole) => whole.cmp(&truncated(bound)),
        None => number.total_cmp(&bound),
    };
    if let Some((least, exclusive)) = rules.minimum {
        let order = against(least);
        if order.is_lt() || (exclusive && order.is_eq()) {
            let than = if exclusive { "greater than" } else { "greater than or equal to" };
            let text = format!("should be {than} {}", shown(least, whole.is_some()));
            all.add(Mistake::rule(path, value, &text));
        }
    }
    if let Some((most, exclusive)) = rules.maximum {
        let order = against(most);
        if order.is_gt() || (exclusive && order.is_eq()) {
            let than = if exclusive { "less than" } else { "less than or equal to" };
            let text = format!("should be {than} {}", shown(most, whole.is_some()));
            all.add(Mistake::rule(path, value, &text));
        }
    }
    all.matched += 1;
    all
}

/// As Go makes an integer of a bound that a whole number is compared with.
#[expect(clippy::cast_possible_truncation, reason = "Go truncates here, and a cast saturates")]
fn truncated(bound: f64) -> i64 {
    bound as i64
}

/// A bound as Go prints it.
fn shown(bound: f64, whole: bool) -> String {
    if whole {
        return truncated(bound).to_string();
    }
    let exponent = if bound == 0.0 { 0.0 } else { bound.abs().log10().floor() };
    if !(-4.0..6.0).contains(&exponent) {
        // 1e+06, 1e-05
        let text = format!("{bound:e}");
        let Some((digits, power)) = text.split_once('e') else { return text };
        return match power.strip_prefix('-') {
            Some(power) => format!("{digits}e-{power:0>2}"),
            None => format!("{digits}e+{power:0>2}"),
        };
    }
    bound.to_string()
}
