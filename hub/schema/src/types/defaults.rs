//! Defaults that a type's facts hold. Those that depend on other fields are the strategies' matter.

use serde_json::{Map, Value};

use super::facts::TypeFacts;
use super::table::Shape;
use super::typed::Typed;
use crate::error::ApiError;

/// Fills in the defaults that are known of its type, where a field is absent: `protocol: TCP`,
/// `leaseDurationSeconds: 60`; those of what is in a default, too.
///
/// # Errors
/// 413 when those of a schema that came at run time would make it larger than an object may be.
pub fn apply_defaults<'a>(value: &mut Value, typed: impl Into<Typed<'a>>) -> Result<(), ApiError> {
    let Typed { facts, form, .. } = typed.into();
    if let Some(form) = form {
        form.default(value).map_err(|why| {
            let kind = value["kind"].as_str().unwrap_or_default();
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            ApiError::new(413, "RequestEntityTooLarge", format!("{kind} {name:?}: {why}"))
        })?;
    } else if let (Some(one), Value::Object(map)) = (facts, value) {
        object(map, one);
    }
    Ok(())
}

fn object(map: &mut Map<String, Value>, one: TypeFacts<'_>) {
    for field in &one.fields {
        match map.get_mut(&*field.name) {
            Some(value) => descend(value, &field.shape, one),
            // The canonical form of Go's types has zero values already.
            None => {
                let Some(default) = field.default.as_ref().filter(|d| one.crd || !is_zero(d))
                else {
                    continue;
                };
                let mut default = default.clone();
                descend(&mut default, &field.shape, one);
                map.insert(field.name.to_string(), default);
            }
        }
    }
}

fn descend(value: &mut Value, shape: &Shape, owner: TypeFacts<'_>) {
    match (shape, value) {
        (Shape::Object(id) | Shape::Either(id, _), Value::Object(map)) => {
            object(map, owner.at(*id));
        }
        (Shape::List(inner), Value::Array(items)) => {
            items.iter_mut().for_each(|item| descend(item, inner, owner));
        }
        (Shape::Map(inner), Value::Object(map)) => {
            map.values_mut().for_each(|item| descend(item, inner, owner));
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
