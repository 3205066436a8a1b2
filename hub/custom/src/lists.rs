//! Lists that are sets or maps: nothing is in them twice.
//!
//! Guarantees:
//! - the second of a kind is told by its place, whatever its type (`nothing_is_there_twice`).

use std::collections::HashMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::field_errors::FieldErrors;
use freewheel_hub_schema::path::Path;
use serde_json::{Map, Value};

use crate::schema::{List, Schema};

/// What is there twice in a value that stands at `path`, empty for a whole object.
#[must_use]
pub fn check(schema: &Schema, value: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = FieldErrors::default();
    node(schema, value, &Path::root(path), &mut errors);
    errors.into_vec()
}

fn node(schema: &Schema, value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match value {
        Value::Array(items) => {
            twice(&schema.list, items, path, errors);
            if let Some(of) = schema.items.as_deref() {
                for (index, item) in items.iter().enumerate() {
                    node(of, item, &path.index(index), errors);
                }
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(of) = schema.properties.get(key.as_str()) {
                    node(of, value, &path.field(key), errors);
                } else if let Some(of) = schema.additional.each() {
                    node(of, value, &path.key(key), errors);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn twice(list: &List, items: &[Value], path: &Path<'_>, errors: &mut FieldErrors) {
    let keyed: Vec<Value> = match list {
        List::Atomic => return,
        List::Set => items.to_vec(),
        List::Map(keys) => {
            let odd = items.iter().position(|item| !item.is_null() && !item.is_object());
            if let Some((index, item)) = odd.and_then(|index| Some((index, items.get(index)?))) {
                let text = "must be an object for an array of list-type map";
                return errors.push(FieldError::invalid(path.index(index), item, text));
            }
            items.iter().map(|item| key_of(keys, item)).collect()
        }
    };
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, key) in keyed.iter().enumerate() {
        let times = seen.entry(key.to_string()).or_default();
        *times += 1;
        // Of more than two, the first that is too much.
        if *times == 2 {
            errors.push_with(|| FieldError::duplicate(path.index(index), key));
        }
    }
}

fn key_of(keys: &[Box<str>], item: &Value) -> Value {
    let values = keys.iter().filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())));
    Value::Object(values.collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_there_twice() {
        let schema = Schema::read(&json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                "items": {"type": "object"}},
            "plain": {"type": "array", "items": {"type": "string"}},
            "deep": {"type": "object", "additionalProperties":
                {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}}},
        }}));
        let said = |value: Value| -> Vec<String> {
            let all = check(&schema, &value, "");
            all.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
        };
        assert_eq!(said(json!({"set": ["a", "b", "a", "a"]})), [r#"set[2]: Duplicate value: "a""#]);
        assert_eq!(
            said(json!({"map": [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}, {"a": 1}]})),
            [r#"map[1]: Duplicate value: {"a":1,"b":2}"#]
        );
        assert_eq!(
            said(json!({"map": ["x"]})),
            [r#"map[0]: Invalid value: "x": must be an object for an array of list-type map"#]
        );
        assert_eq!(said(json!({"plain": ["a", "a"]})), Vec::<String>::new());
        assert_eq!(said(json!({"deep": {"k": [1, 1]}})), ["deep[k][1]: Duplicate value: 1"]);
    }
}
