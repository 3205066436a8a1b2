//! What a schema does not know goes, and nulls that mean nothing.
//!
//! Guarantees:
//! - what goes, and what it is called, is what kube-apiserver says (`what_is_unknown_goes`);
//! - what goes of an object takes no more memory than the object, however long its names are
//!   (`long_names_are_not_copied_for_each_element`);
//! - a null stays where a value may be null, or where a default takes its place (`nulls`).

use freewheel_hub_schema::path::Path;
use serde_json::{Map, Value};

use crate::schema::Schema;

/// Fields of every object, which a schema need not name.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Unknown fields that are told: more than anybody is.
const UNKNOWN_MAX: usize = 1_000;

/// Takes out of an object of the API what its schema does not know; answers the paths, sorted.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    node(object, Some(schema), true, &Path::root(""), &mut unknown);
    unknown.sort();
    unknown
}

/// The same of a value that stands inside of one.
pub fn prune_inside(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    node(value, Some(schema), schema.embedded, &Path::root("."), &mut unknown);
    unknown
}

fn node(
    value: &mut Value,
    schema: Option<&Schema>,
    whole: bool,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) {
    if let Some(schema) = schema.filter(|schema| schema.open) {
        return open(value, schema, whole, path, unknown);
    }
    match value {
        Value::Object(map) => object(map, schema, whole, path, unknown),
        Value::Array(items) => {
            let of = schema.and_then(|schema| schema.items.as_deref());
            for (index, item) in items.iter_mut().enumerate() {
                inside(item, of, &path.index(index), unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn inside(value: &mut Value, schema: Option<&Schema>, path: &Path<'_>, unknown: &mut Vec<String>) {
    node(value, schema, schema.is_some_and(|schema| schema.embedded), path, unknown);
}

fn object(
    map: &mut Map<String, Value>,
    schema: Option<&Schema>,
    whole: bool,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) {
    map.retain(|key, value| {
        if schema.is_some() && whole && META.contains(&key.as_str()) {
            return true;
        }
        let here = path.field(key);
        let property = schema.and_then(|schema| schema.properties.get(key.as_str()));
        if property.is_some() {
            inside(value, property, &here, unknown);
            return true;
        }
        if let Some(schema) = schema.filter(|schema| schema.additional.is_said()) {
            inside(value, schema.additional.each(), &here, unknown);
            return true;
        }
        if unknown.len() < UNKNOWN_MAX {
            unknown.push(here.text());
        }
        false
    });
}

/// Of what keeps unknown fields, those that it knows are looked at.
fn open(
    value: &mut Value,
    schema: &Schema,
    whole: bool,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if whole && META.contains(&key.as_str()) {
                    continue;
                }
                let here = path.field(key);
                if let Some(property) = schema.properties.get(key.as_str()) {
                    inside(value, Some(property), &here, unknown);
                } else if schema.additional.is_said() {
                    inside(value, schema.additional.each(), &here, unknown);
                }
            }
        }
        Value::Array(items) => {
            let Some(of) = schema.items.as_deref() else { return };
            for (index, item) in items.iter_mut().enumerate() {
                open(item, of, of.embedded, &path.index(index), unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Takes out nulls where no value may be null and no default is.
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|key, value| {
            let Some(of) = schema.field(key) else { return true };
            if value.is_null() && !of.nullable && of.default.is_none() {
                return false;
            }
            drop_nulls(of, value);
            true
        }),
        Value::Array(items) => {
            if let Some(of) = schema.items.as_deref() {
                items.iter_mut().for_each(|item| drop_nulls(of, item));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::read(
            &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "n": {"type": "string", "nullable": true},
                "d": {"type": "string", "default": "x"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "any": {"type": "object", "additionalProperties": true},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"shut": {"type": "object", "properties": {"a": {"type": "string"}}}}},
                "raw": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "properties": {"spec": {"type": "object"}}},
            }}}}),
        )
    }

    #[test]
    fn what_is_unknown_goes() {
        let mut object = json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"anything": 1}, "top": 1,
            "spec": {
                "a": "x", "z": 1, "list": [{"a": "x", "b": 1}, {"b": {}}], "map": {"k": {"b": 1}},
                "any": {"k": {"gone": 1}, "j": 1}, "open": {"x": {"y": 1}, "shut": {"a": "x", "b": 1}},
                "raw": {"apiVersion": "v1", "kind": "P", "metadata": {"name": "x"}, "spec": {"a": 1}, "data": 1},
            },
        });
        let unknown = prune(&schema(), &mut object);
        assert_eq!(
            unknown,
            [
                "spec.any.k.gone",
                "spec.list[0].b",
                "spec.list[1].b",
                "spec.map.k.b",
                "spec.open.shut.b",
                "spec.raw.data",
                "spec.raw.spec.a",
                "spec.z",
                "top",
            ]
        );
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1", "kind": "K", "metadata": {"anything": 1},
                "spec": {
                    "a": "x", "list": [{"a": "x"}, {}], "map": {"k": {}}, "any": {"k": {}, "j": 1},
                    "open": {"x": {"y": 1}, "shut": {"a": "x"}},
                    "raw": {"apiVersion": "v1", "kind": "P", "metadata": {"name": "x"}, "spec": {}},
                },
            })
        );
    }

    #[test]
    fn long_names_are_not_copied_for_each_element() {
        let schema =
            Schema::read(&json!({"type": "object", "properties": {"spec": {"type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "object"}}}}}));
        let long = "x".repeat(1 << 20);
        let object = |item: Value| {
            let spec = Value::from_iter([(long.clone(), Value::from(vec![item; 20_000]))]);
            Value::from_iter([("spec", spec)])
        };
        let begun = std::time::Instant::now();
        let mut right = object(json!({}));
        assert_eq!(prune(&schema, &mut right), Vec::<String>::new());
        let unknown = prune(&schema, &mut object(json!({"a": 1})));
        assert!(unknown.iter().map(String::len).sum::<usize>() < 2 << 20);
        assert_eq!(crate::lists::check(&schema, &right, ""), []);
        assert_eq!(crate::embedded::coerce(&schema, &mut right), Ok(Vec::new()));
        assert_eq!(crate::embedded::check(&schema, &right, ""), []);
        assert_eq!(crate::check::check(&schema, &right, ""), []);
        assert!(begun.elapsed().as_secs() < 3, "{:?}", begun.elapsed());
        assert_eq!(unknown.len(), UNKNOWN_MAX);
    }

    #[test]
    fn nulls() {
        let mut object =
            json!({"spec": {"a": null, "n": null, "d": null, "list": null, "open": {"x": null}}});
        drop_nulls(&schema(), &mut object);
        assert_eq!(object, json!({"spec": {"n": null, "d": null, "open": {"x": null}}}));
    }
}
