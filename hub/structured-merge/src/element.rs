//! What tells an element of a list apart from the others.

use serde_json::Value;

use crate::atom::ListAtom;
use crate::path::PathElement;
use crate::scalar;

/// The step to an element; the message says why there is none.
pub(crate) fn step(list: &ListAtom<'_>, item: &Value) -> Result<PathElement, String> {
    if list.atomic {
        return Err("invalid indexing of non-associative list".to_owned());
    }
    if list.keys.is_empty() { value(item) } else { keys(list, item) }
}

fn value(item: &Value) -> Result<PathElement, String> {
    Err(match item {
        Value::Object(_) => "associative list without keys has an element that's a map type",
        Value::Array(_) => "not supported: associative list with lists as elements",
        Value::Null => "associative list without keys has an element that's an explicit null",
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Ok(PathElement::Value(item.clone()));
        }
    }
    .to_owned())
}

fn keys(list: &ListAtom<'_>, item: &Value) -> Result<PathElement, String> {
    let Value::Object(map) = item else {
        let what = if item.is_null() { "a null element" } else { "non-map elements" };
        return Err(format!("associative list with keys may not have {what}"));
    };
    let element = list.element.resolve().map;
    let mut keys = Vec::with_capacity(list.keys.len());
    for key in list.keys {
        let default = || element.as_ref().and_then(|element| element.default_of(key));
        if let Some(value) = map.get(&**key).or_else(default) {
            keys.push((key.to_string(), value.clone()));
        }
    }
    if keys.is_empty() {
        let names: Vec<String> =
            list.keys.iter().map(|key| scalar::shown(&Value::from(&**key))).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and \
             doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(PathElement::Key(keys.into()))
}
