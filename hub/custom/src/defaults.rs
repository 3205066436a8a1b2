//! Defaults of a schema.
//!
//! Guarantees:
//! - a default comes where a field is not there, or is null and may not be, also inside of a default
//!   (`defaults_come_where_nothing_is`);
//! - defaults make an object no larger than an object may be, however small it was
//!   (`defaults_make_no_object_too_large`).

use serde_json::Value;

use crate::schema::Schema;

/// Bytes of JSON that defaults may add to an object: as many as etcd lets one have. kube-apiserver has no such bound of its
/// own, and leaves it to etcd on a write, and to its memory on a read.
const ADDED_BYTES_MAX: usize = 3 << 19;

/// Fills in defaults.
///
/// # Errors
/// They would make the object too large; some of them are there.
pub fn fill_in(schema: &Schema, value: &mut Value) -> Result<(), String> {
    let mut left = ADDED_BYTES_MAX;
    inside(schema, value, &mut left)
}

fn inside(schema: &Schema, value: &mut Value, left: &mut usize) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            // Each name is looked for in each object.
            take(left, schema.properties.len() / 16)?;
            for (name, of) in &schema.properties {
                let Some(default) = &of.default else { continue };
                if map.get(&**name).is_none_or(|value| value.is_null() && !of.nullable) {
                    take(left, name.len() + bytes(default))?;
                    map.insert(name.to_string(), default.clone());
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(of) = schema.field(key) {
                    element(of, value, left)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = schema.items.as_deref() {
                items.iter_mut().try_for_each(|item| element(of, item, left))?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn element(schema: &Schema, value: &mut Value, left: &mut usize) -> Result<(), String> {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        take(left, bytes(default))?;
        *value = default.clone();
    }
    inside(schema, value, left)
}

fn take(left: &mut usize, bytes: usize) -> Result<(), String> {
    *left = left.checked_sub(bytes).ok_or_else(|| {
        format!(
            "the defaults of its CustomResourceDefinition would add more than {ADDED_BYTES_MAX} bytes to it; make them smaller, or the lists that they stand in shorter"
        )
    })?;
    Ok(())
}

/// Bytes of JSON that a value takes, and some for each of its parts.
fn bytes(value: &Value) -> usize {
    const VALUE_BYTES: usize = 4;
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(bytes).sum(),
            Value::Object(map) => map.iter().map(|(key, value)| key.len() + bytes(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
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
        fill_in(&schema, &mut value).unwrap();
        assert_eq!(
            value,
            json!({
                "a": "x", "n": null, "o": {"b": 7}, "list": [2, 1], "map": {"k": {"c": true}},
            })
        );
    }

    #[test]
    fn defaults_make_no_object_too_large() {
        let schema = |default: &str| {
            Schema::read(&json!({"type": "object", "properties": {"l": {"type": "array", "items":
                {"type": "object", "properties": {"d": {"type": "string", "default": default}}}}}}))
        };
        let mut value = json!({"l": vec![json!({}); 1_000]});
        let why = fill_in(&schema(&"D".repeat(100_000)), &mut value).unwrap_err();
        assert!(why.contains("more than 1572864 bytes"), "{why}");
        assert!(bytes(&value) < ADDED_BYTES_MAX + 10_000, "what comes after is not looked at");
        let mut value = json!({"l": vec![json!({}); 1_000]});
        fill_in(&schema(&"D".repeat(1_000)), &mut value).unwrap();
        let nested =
            (0..8).fold(json!({"type": "string", "default": "d".repeat(1_000)}), |of, _| {
                let fields: serde_json::Map<String, Value> =
                    (0..8).map(|at| (format!("f{at}"), of.clone())).take(2).collect();
                json!({"type": "object", "default": {}, "properties": fields})
            });
        fill_in(&Schema::read(&nested), &mut json!({})).unwrap();
        let wide = json!({"type": "object", "properties": {"a": nested, "l": {"type": "array", "items": nested}}});
        assert!(fill_in(&Schema::read(&wide), &mut json!({"l": vec![json!({}); 20]})).is_err());
    }
}
