//! JSON values as structured merge orders, compares and prints them.
//!
//! ```text
//! numbers < strings < flags < lists < maps < null        1 and 1.0 are the same
//! ```

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Number, Value};

/// Numbers from here on have an exponent in Go's `%v`.
const EXPONENT_FROM: f64 = 1e21;

/// A total order of values of any type.
pub(crate) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let differs = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
            differs.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let differs = a
                .iter()
                .zip(b)
                .map(|((ka, a), (kb, b))| ka.cmp(kb).then_with(|| compare(a, b)))
                .find(|order| order.is_ne());
            differs.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        return a.cmp(&b);
    }
    let float = |n: &Number| n.as_f64().unwrap_or_default();
    float(a).partial_cmp(&float(b)).unwrap_or(Ordering::Equal)
}

/// Whether both say the same.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b).is_eq(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

/// JSON as Go's encoder writes it into a path element: without `.0`, and without what HTML minds.
pub(crate) fn json(value: &Value) -> String {
    let text = match value {
        Value::Number(number) => return number_json(number),
        value => value.to_string(),
    };
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 5);
    for one in text.chars() {
        match one {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // A text takes whatever is written to it.
                let _ = write!(out, "\\u{:04x}", u32::from(one));
            }
            other => out.push(other),
        }
    }
    out
}

fn number_json(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) if float.fract() == 0.0 && float.abs() < EXPONENT_FROM => format!("{float:.0}"),
        Some(float) => format!("{float}"),
        None => number.to_string(),
    }
}

/// A value in a path, as messages show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(","))
        }
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect()
        }
        Value::Bool(_) | Value::Number(_) => as_go(value),
    }
}

/// A value as Go's `%v` prints it.
pub(crate) fn as_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(set) => set.to_string(),
        Value::Number(number) => number_as_go(number.as_f64().unwrap_or_default()),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(as_go).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let all = map.iter().map(|(key, value)| format!("{key}:{}", as_go(value)));
            format!("map[{}]", all.collect::<Vec<_>>().join(" "))
        }
    }
}

/// Every number of a body is a float to Go, which has an exponent from a million on.
fn number_as_go(float: f64) -> String {
    let text = format!("{float:e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    match power.parse::<i32>() {
        Ok(-4..=5) | Err(_) => format!("{float}"),
        Ok(power) => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", power.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_go_does() {
        let all = json!([1, 1.5, 999_999, 1_000_000, 12_345_678, 0.00001, -2, "a", null, {"b": true, "a": []}]);
        assert_eq!(
            as_go(&all),
            "[1 1.5 999999 1e+06 1.2345678e+07 1e-05 -2 a <nil> map[a:[] b:true]]"
        );
        assert_eq!(json(&json!("a<b>&\"c")), r#""a\u003cb\u003e\u0026\"c""#);
        assert_eq!((json(&json!(80.0)), json(&json!(0.5))), ("80".to_owned(), "0.5".to_owned()));
        assert_eq!(shown(&json!({"a": ["x", null]})), r#"a=["x",null]"#);
    }

    #[test]
    fn numbers_are_equal_by_what_they_say() {
        assert!(equal(&json!({"a": [1]}), &json!({"a": [1.0]})));
        assert!(!equal(&json!({"a": 1}), &json!({"a": 1, "b": 1})));
        assert!(compare(&json!(2.5), &json!(10)).is_lt());
        assert!(compare(&json!(10), &json!("1")).is_lt());
    }
}
