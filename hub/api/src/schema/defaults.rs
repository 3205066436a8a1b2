//! Defaults that the table holds. Those that depend on other fields are the strategies' matter.

use serde_json::{Map, Value};

use super::table::{Shape, Type, find, table};

/// Fills in the defaults that the table holds, where a field is absent: `protocol: TCP`,
/// `leaseDurationSeconds: 60`. Zero values are no defaults; the canonical form has them already.
pub fn apply_defaults(value: &mut Value, group: &str, version: &str, kind: &str) {
    if let (Some(one), Value::Object(map)) = (find(group, version, kind), value) {
        object(map, one);
    }
}

fn object(map: &mut Map<String, Value>, one: &Type) {
    for field in &one.fields {
        match map.get_mut(field.name) {
            Some(value) => descend(value, &field.shape),
            None => {
                if let Some(default) = field.default_value().filter(|d| !is_zero(d)) {
                    map.insert(field.name.to_owned(), default);
                }
            }
        }
    }
}

fn descend(value: &mut Value, shape: &Shape) {
    match (shape, value) {
        (Shape::Object(id), Value::Object(map)) => object(map, table().at(*id)),
        (Shape::List(inner), Value::Array(items)) => {
            items.iter_mut().for_each(|item| descend(item, inner));
        }
        (Shape::Map(inner), Value::Object(map)) => {
            map.values_mut().for_each(|item| descend(item, inner));
        }
        _ => {}
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
