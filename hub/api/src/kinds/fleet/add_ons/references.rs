//! Lists of configurations, in the form of each version.

use serde_json::{Map, Value};

use crate::kinds::accessors::text;
use crate::kinds::field_value::FieldValue;
use freewheel_hub_schema::error::FieldError;

/// Stands for "no default" in the newer form, as upstream has it.
pub(super) const NO_DEFAULT: &str = "__reserved_no_default__";

/// The fields of a map, where it is one.
pub(super) fn fields<'a>(object: &'a mut Value, of: &str) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(of)?.as_object_mut()
}

/// Makes one list of another, under another name; an empty one is none.
pub(super) fn rename(
    of: &mut Map<String, Value>,
    (from, to): (&str, &str),
    item: impl Fn(Value) -> Value,
) {
    let Some(list) = of.remove(from) else { return };
    match list {
        Value::Array(items) => {
            of.insert(to.to_owned(), items.into_iter().map(item).collect());
        }
        // It is no list, and is told of under the name by which it is looked at.
        other => drop(of.insert(to.to_owned(), other)),
    }
}

/// `{group, resource, defaultConfig: {namespace, name}}` as `{group, resource, namespace, name}`.
pub(super) fn flat(mut item: Value) -> Value {
    let Some(map) = item.as_object_mut() else { return item };
    match map.remove("defaultConfig") {
        Some(Value::Object(default)) => map.extend(default),
        _ => drop(map.insert("name".to_owned(), NO_DEFAULT.into())),
    }
    item
}

/// The way back.
pub(super) fn nested(mut item: Value) -> Value {
    let Some(map) = item.as_object_mut() else { return item };
    let parts = ["namespace", "name"].map(|key| Some((key.to_owned(), map.remove(key)?)));
    let default: Map<String, Value> = parts.into_iter().flatten().collect();
    let named = default.get("name").and_then(Value::as_str).unwrap_or_default();
    if !named.is_empty() && named != NO_DEFAULT {
        map.insert("defaultConfig".to_owned(), default.into());
    }
    item
}

/// Each reference names its configuration once more, as the older form does.
pub(super) fn name_desired(status: &mut Map<String, Value>) {
    let all = status.get_mut("configReferences").and_then(Value::as_array_mut);
    for reference in all.into_iter().flatten().filter_map(Value::as_object_mut) {
        let Some(desired) = reference.get("desiredConfig").cloned() else { continue };
        for key in ["namespace", "name"] {
            if let Some(part) = desired.get(key) {
                reference.insert(key.to_owned(), part.clone());
            }
        }
    }
}

/// Each reference names its configuration where it is desired alone.
pub(super) fn name_desired_alone(status: &mut Map<String, Value>) {
    let all = status.get_mut("configReferences").and_then(Value::as_array_mut);
    for reference in all.into_iter().flatten().filter_map(Value::as_object_mut) {
        for key in ["namespace", "name"] {
            reference.remove(key);
        }
    }
}

/// A list whose items are told apart by these keys names nothing twice.
pub(super) fn distinct(list: &FieldValue<'_>, keys: [&str; 2]) -> Vec<FieldError> {
    let mut seen = std::collections::BTreeSet::new();
    let of =
        |item: &FieldValue<'_>| keys.map(|key| text(item.value, &format!("/{key}")).to_owned());
    list.items().filter(|item| !seen.insert(of(item))).map(|item| item.duplicate()).collect()
}
