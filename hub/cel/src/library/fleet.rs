//! What Open Cluster Management adds to the language: for expressions of the fleet alone.

use std::sync::Arc;

use cel::Value;
use cel::objects::Key;
use serde_json::{Number, Value as Json};

use super::function::{Table, one, one_text};
use crate::value::free;
use crate::weight::EACH;

pub(super) const FUNCTIONS: Table = &[
    ("parseJSON", |values, allowance| {
        let text = one_text(values)?;
        // Two bytes of a list are a value, and a field of a map is longer.
        if !allowance.room(text.len().saturating_mul(EACH / 2)) {
            return Err("too much work".to_owned());
        }
        let failed = |error: serde_json::Error| format!("failed to parse json: {error}");
        serde_json::from_str(text).map(|json| free(&with_doubles(json))).map_err(failed)
    }),
    ("hasConditions", |values, _| {
        let Value::Map(status) = one(values)? else { return Ok(Value::Bool(false)) };
        let key = Key::String(Arc::new("conditions".to_owned()));
        let some = matches!(status.map.get(&key), Some(Value::List(list)) if !list.is_empty());
        Ok(Value::Bool(some))
    }),
];

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
