//! Values: from JSON, and back to it.
//!
//! Guarantees:
//! - an object that an expression makes says the types of its fields by their path, or is refused
//!   (`objects_that_are_made_say_their_path`).

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::Value;
use cel::objects::{Key, Map};
use serde_json::{Number, Value as Json};

/// The key under which an object that an expression makes says its type.
pub(crate) const TYPE_KEY: &str = "@type";

/// A value of which nothing is known.
#[must_use]
pub fn free(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(free).collect())),
        Json::Object(fields) => {
            map(fields.iter().map(|(key, value)| (key.clone(), free(value))).collect())
        }
    }
}

/// A map of these fields.
#[must_use]
pub fn map(fields: HashMap<String, Value>) -> Value {
    let key = |(key, value)| (Key::String(Arc::new(key)), value);
    Value::Map(Map { map: Arc::new(fields.into_iter().map(key).collect()) })
}

/// The type of a value, as messages name it.
#[must_use]
pub fn of_type(value: &Value) -> String {
    match value {
        Value::Map(map) => match type_said(map) {
            Some(made) => made.to_owned(),
            None => "map".to_owned(),
        },
        Value::Null => "null_type".to_owned(),
        Value::Float(_) => "double".to_owned(),
        other => other.type_of().to_string(),
    }
}

/// What an object that was made says that it is.
fn type_said(map: &Map) -> Option<&str> {
    let key = Key::String(Arc::new(TYPE_KEY.to_owned()));
    let Some(Value::String(text)) = map.map.get(&key) else { return None };
    Some(text)
}

/// What a value is in JSON. Objects in it that were made have to be of the types that their places have, counted from
/// `path`.
///
/// # Errors
/// Why it is nothing in JSON.
pub fn json(value: &Value, path: &str) -> Result<Json, String> {
    let mismatch = |made: &str| {
        format!(
            "type mismatch: unexpected type name {made:?}, expected {path:?}, which matches field name path from root Object type"
        )
    };
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => of_float(*number)?,
        Value::String(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes.as_slice())),
        Value::Duration(span) => Json::String(format!("{}s", span.num_seconds())),
        Value::Timestamp(moment) => Json::String(moment.to_rfc3339()),
        Value::List(items) => {
            Json::Array(items.iter().map(|item| json(item, path)).collect::<Result<_, _>>()?)
        }
        Value::Map(map) => {
            let made = type_said(map);
            if let Some(made) = made.filter(|made| *made != path) {
                return Err(mismatch(made));
            }
            let mut out = serde_json::Map::new();
            for (key, value) in map.map.iter() {
                let Key::String(key) = key else {
                    return Err(format!("map key {key:?} is not of type string"));
                };
                if **key == TYPE_KEY {
                    continue;
                }
                let at = if made.is_some() { format!("{path}.{key}") } else { path.to_owned() };
                out.insert(key.to_string(), json(value, &at)?);
            }
            Json::Object(out)
        }
        Value::Function(..) | Value::Opaque(_) | Value::Struct(_) => {
            return Err(format!("a value of type {} is nothing in JSON", value.type_of()));
        }
    })
}

/// As Go writes it: what is whole has no fraction.
fn of_float(number: f64) -> Result<Json, String> {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is whole, and within what is exact"
        )]
        return Ok((number as i64).into());
    }
    Number::from_f64(number).map(Json::Number).ok_or_else(|| format!("{number} is nothing in JSON"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Expression, Known, Meter, UNITS_MAX};

    fn made(text: &str) -> Result<Json, String> {
        let known = Known { makes_objects: true, ..Known::default() };
        let expression = Expression::read(text, &known).map_err(|why| why.to_string())?;
        let value =
            Meter::of(UNITS_MAX).run(&expression, |_| {}).map_err(|why| format!("{why:?}"))?;
        json(&value, "Object")
    }

    #[test]
    fn objects_that_are_made_say_their_path() {
        assert_eq!(
            made(
                "Object{spec: Object.spec{replicas: 3, ports: [Object.spec.ports{port: 80}], ?none: optional.none()}}"
            ),
            Ok(json!({"spec": {"replicas": 3, "ports": [{"port": 80}]}}))
        );
        assert_eq!(
            made("Object{metadata: Object.metadata{labels: {'a': 'b'}}, f: 1.5, w: 2.0}"),
            Ok(json!({"metadata": {"labels": {"a": "b"}}, "f": 1.5, "w": 2}))
        );
        let wrong = made("Object{spec: Object.wrong{}}").unwrap_err();
        assert!(
            wrong.contains("unexpected type name \"Object.wrong\", expected \"Object.spec\""),
            "{wrong}"
        );
        assert!(made("Other{a: 1}").unwrap_err().contains("undeclared reference to 'Other'"));
        assert!(
            made("JSONPatch{op: 'add', paht: '/a'}")
                .unwrap_err()
                .contains("undefined field 'paht'")
        );
        assert!(Expression::read("Object{}", &Known::default()).is_err());
        assert!(made("Object{a: {1: 2}}").is_err());
    }
}
