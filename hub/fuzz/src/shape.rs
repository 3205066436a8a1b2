//! Schemas as custom resources have them, and values of them, by decisions of bytes.

use serde_json::{Map, Value, json};

use crate::choices::Choices;

/// Levels of a schema.
const LEVELS: usize = 3;
/// Elements of a list, and fields of an object.
const MEMBERS: usize = 4;
const NAMES: [&str; MEMBERS] = ["a", "b", "c", "d"];

/// The schema of a kind.
pub(crate) fn schema(choices: &mut Choices<'_>) -> Value {
    json!({"type": "object", "properties": {"spec": object(choices, LEVELS, &[])}})
}

/// A struct; these fields are texts without which it has no place in its list.
fn object(choices: &mut Choices<'_>, levels: usize, keys: &[&str]) -> Value {
    let mut properties = Map::new();
    for name in NAMES {
        let inner = match keys.iter().position(|key| *key == name) {
            // The first one has to be said, or else no element could be told from another.
            Some(0) => json!({"type": "string"}),
            Some(_) => json!({"type": "string", "default": "x"}),
            None => any(choices, levels.saturating_sub(1)),
        };
        properties.insert(name.to_owned(), inner);
    }
    let mut out = json!({"type": "object", "properties": properties});
    if !keys.is_empty() {
        out["required"] = json!(keys);
    }
    if choices.once_in(4) {
        out["x-kubernetes-map-type"] = json!("atomic");
    }
    out
}

fn any(choices: &mut Choices<'_>, levels: usize) -> Value {
    match choices.of(if levels == 0 { 4 } else { 10 }) {
        0 => json!({"type": "string"}),
        1 => json!({"type": "integer"}),
        2 => json!({"type": "boolean", "nullable": true}),
        3 => json!({"type": "string", "default": "x"}),
        4 => json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
        5 => {
            let keys: &[&str] = if choices.once_in(2) { &["a", "b"] } else { &["a"] };
            let mut items = object(choices, levels, keys);
            if let Some(items) = items.as_object_mut() {
                items.remove("x-kubernetes-map-type");
            }
            json!({
                "type": "array", "items": items,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            })
        }
        6 => json!({"type": "array", "items": any(choices, levels - 1)}),
        7 => json!({"type": "object", "additionalProperties": any(choices, levels - 1)}),
        8 => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        9.. => object(choices, levels, &[]),
    }
}

/// A value of a schema. Where nothing may be, nothing or null may be there.
pub(crate) fn value(schema: &Value, choices: &mut Choices<'_>) -> Value {
    let is = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match is("type") {
        "object" if schema.get("properties").is_some() => fields(schema, choices),
        "object" => {
            let each = schema.get("additionalProperties").cloned();
            let free = || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            let many = choices.of(MEMBERS);
            let one = |name: &&str| {
                let of = if choices.is_over() {
                    json!({"type": "string"})
                } else {
                    each.clone().unwrap_or_else(free)
                };
                ((*name).to_owned(), value(&of, choices))
            };
            NAMES.iter().take(many).map(one).collect()
        }
        "array" => list(schema, choices),
        "integer" => choices.of(3).into(),
        "boolean" if choices.once_in(4) => Value::Null,
        "boolean" => choices.once_in(2).into(),
        _ => choices.one(&["x", "y", "", "z"], "x").into(),
    }
}

fn fields(schema: &Value, choices: &mut Choices<'_>) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    let mut out = Map::new();
    for (name, of) in properties.into_iter().flatten() {
        let is_key = required.is_some_and(|keys| keys.iter().any(|key| key == name));
        // Keys are there more often.
        match (choices.of(8), is_key) {
            (0..4, false) | (0, true) => {}
            (7.., _) => drop(out.insert(name.clone(), Value::Null)),
            (4..7, false) | (1..7, true) => drop(out.insert(name.clone(), value(of, choices))),
        }
    }
    Value::Object(out)
}

/// A list; elements of one that tells them apart are there once.
fn list(schema: &Value, choices: &mut Choices<'_>) -> Value {
    let many = choices.of(MEMBERS);
    let items = schema.get("items").cloned().unwrap_or_default();
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let is_set = schema.get("x-kubernetes-list-type") == Some(&json!("set"));
    let same = |a: &Value, b: &Value| match keys {
        Some(keys) => keys.iter().filter_map(Value::as_str).all(|key| a.get(key) == b.get(key)),
        None => is_set && a == b,
    };
    let mut out: Vec<Value> = Vec::new();
    for _ in 0..many {
        let one = value(&items, choices);
        if !out.iter().any(|before| same(before, &one)) {
            out.push(one);
        }
    }
    out.into()
}
