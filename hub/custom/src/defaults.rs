//! Defaults of a schema.
//!
//! Guarantees:
//! - a default comes where a field is not there, or is null and may not be, also inside of a default
//!   (`defaults_come_where_nothing_is`).

use serde_json::Value;

use crate::schema::Schema;

/// Fills in defaults.
pub fn fill_in(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, of) in &schema.properties {
                let Some(default) = &of.default else { continue };
                if map.get(&**name).is_none_or(|value| value.is_null() && !of.nullable) {
                    map.insert(name.to_string(), default.clone());
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(of) = schema.field(key) {
                    element(of, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = schema.items.as_deref() {
                items.iter_mut().for_each(|item| element(of, item));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn element(schema: &Schema, value: &mut Value) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
    fill_in(schema, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_come_where_nothing_is() {
        let schema = Schema::read(&json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "n": {"type": "string", "nullable": true, "default": "x"},
            "o": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 7}}},
            "list": {"type": "array", "items": {"type": "integer", "default": 1}},
            "map": {"type": "object", "additionalProperties": {"type": "object",
                "properties": {"c": {"type": "boolean", "default": true}}}},
        }}));
        let mut value = json!({"a": null, "n": null, "list": [2, null], "map": {"k": {}}});
        fill_in(&schema, &mut value);
        assert_eq!(
            value,
            json!({
                "a": "x", "n": null, "o": {"b": 7}, "list": [2, 1], "map": {"k": {"c": true}},
            })
        );
    }
}
