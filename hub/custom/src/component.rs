//! The schema of a custom resource as OpenAPI v3 tells it: that of its definition, with what every object has.
//!
//! Guarantees:
//! - what is embedded has a type and metadata, too (`objects_have_what_every_object_has`).

use serde_json::{Map, Value, json};

const OBJECT_META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The component of a kind with this schema.
#[must_use]
pub fn of(mut schema: Value) -> Value {
    embed(&mut schema);
    if let Value::Object(map) = &mut schema {
        add_common(map);
    }
    schema
}

fn add_common(map: &mut Map<String, Value>) {
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    let Value::Object(properties) = properties else { return };
    for (key, text) in [
        ("apiVersion", "The version of this representation of the object."),
        ("kind", "What kind of object it is."),
    ] {
        properties.insert(key.to_owned(), json!({"type": "string", "description": text}));
    }
    let meta = json!({"allOf": [{"$ref": OBJECT_META}], "description": "What every object has."});
    properties.insert("metadata".to_owned(), meta);
}

fn embed(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(embed);
    }
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(embed);
    }
    if map.get("x-kubernetes-embedded-resource") != Some(&Value::Bool(true)) {
        return;
    }
    add_common(map);
    let required = map.entry("required").or_insert_with(|| json!([]));
    let Value::Array(required) = required else { return };
    for key in ["kind", "apiVersion"] {
        if !required.iter().any(|one| one == key) {
            required.push(key.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_what_every_object_has() {
        let component = of(json!({"type": "object", "description": "Ours.", "properties": {
            "raw": {"type": "object", "x-kubernetes-embedded-resource": true},
            "spec": {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}},
        }}));
        assert_eq!(component["properties"]["metadata"]["allOf"][0]["$ref"], OBJECT_META);
        assert_eq!(component["properties"]["spec"]["properties"]["a"]["pattern"], "x");
        assert_eq!(component["properties"]["raw"]["required"], json!(["kind", "apiVersion"]));
        assert!(component["properties"]["raw"]["properties"]["metadata"].is_object());
        assert_eq!(component["description"], "Ours.");
    }
}
