//! What Open Cluster Management adds to the language: for expressions of the fleet alone.

use std::borrow::Cow;
use std::sync::Arc;

use cel::Value;
use cel::objects::Key;
use serde_json::{Number, Value as Json};

use super::function::{Table, one, one_text};
use crate::value::free;
use crate::weight::EACH;

/// Those of them that stand behind a value.
pub(super) const BEHIND_A_VALUE: [&str; 1] = ["parseJSON"];

pub(super) const FUNCTIONS: Table = &[
    ("parseJSON", |values, allowance| {
        let text = one_text(values)?;
        // Two bytes of a list are a value, and a field of a map is longer.
        if !allowance.room(text.len().saturating_mul(EACH / 2)) {
            return Err("too much work".to_owned());
        }
        let failed = |error: serde_json::Error| format!("failed to parse json: {error}");
        serde_json::from_str(&with_whole_letters(text))
            .map(|json| free(&with_doubles(json)))
            .map_err(failed)
    }),
    ("hasConditions", |values, _| {
        let Value::Map(status) = one(values)? else { return Ok(Value::Bool(false)) };
        let key = Key::String(Arc::new("conditions".to_owned()));
        let some = matches!(status.map.get(&key), Some(Value::List(list)) if !list.is_empty());
        Ok(Value::Bool(some))
    }),
];

/// Half of a letter alone (`\ud800`) is a letter in Go that stands for none.
fn with_whole_letters(text: &str) -> Cow<'_, str> {
    let half = |at: &str| {
        let digits = at.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok().filter(|half| (0xd800..0xe000).contains(half))
    };
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        whole.push_str(before);
        let read = match (half(escape), escape.get(6..).and_then(half)) {
            (None, _) => escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end),
            (Some(..0xdc00), Some(0xdc00..)) => 12,
            (Some(_), _) => {
                whole.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
        };
        whole.push_str(&escape[..read]);
        rest = &escape[read..];
    }
    if whole.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(whole + rest) }
}

/// Numbers of JSON are none but doubles in Go.
fn with_doubles(json: Json) -> Json {
    match json {
        Json::Number(number) => {
            let double = number.as_f64().and_then(Number::from_f64);
            double.map_or(Json::Number(number), Json::Number)
        }
        Json::Array(items) => Json::Array(items.into_iter().map(with_doubles).collect()),
        Json::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, with_doubles(value))).collect()
        }
        plain @ (Json::Null | Json::Bool(_) | Json::String(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_letter_is_none() {
        for (text, whole) in [
            (r#""a""#, r#""a""#),
            (r#""\ud83d\ude00 \n""#, r#""\ud83d\ude00 \n""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude00\ud83d\ud83d\ude00x""#, r#""\ufffd\ufffd\ud83d\ude00x""#),
            (r#""\\ud83d \u0041""#, r#""\\ud83d \u0041""#),
            (r#""\u12"#, r#""\u12"#),
            ("\\", "\\"),
            ("\\\u{e9}\\ud8", "\\\u{e9}\\ud8"),
        ] {
            assert_eq!(with_whole_letters(text), whole, "{text}");
        }
    }
}
