//! The v3 documents told as one Swagger 2.0 document, for clients that know nothing newer.

use serde_json::{Map, Value, json};

/// Merges documents of v3 into one of v2.
pub(super) fn from_v3(documents: impl Iterator<Item = Value>) -> Value {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for mut document in documents {
        for (path, item) in taken(&mut document["paths"]) {
            paths.insert(path, path_item(item));
        }
        for (name, schema) in taken(&mut document["components"]["schemas"]) {
            definitions.insert(name, schema_of(schema));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Freewheel", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "definitions": definitions,
    })
}

fn taken(value: &mut Value) -> Map<String, Value> {
    if let Value::Object(map) = value.take() { map } else { Map::new() }
}

/// v2 has no `oneOf`, and a reference stands alone or beside its description.
fn schema_of(value: Value) -> Value {
    match value {
        Value::Object(mut map) => {
            if map.contains_key("type") || map.contains_key("x-kubernetes-int-or-string") {
                // v2 has no words for these, and who reads v2 needs none.
                for logic in ["allOf", "anyOf", "oneOf", "not"] {
                    map.remove(logic);
                }
            }
            if map.remove("oneOf").is_some() {
                map.insert("type".to_owned(), "string".into());
            }
            if let Some(Value::Array(all)) = map.remove("allOf")
                && let Some(Value::Object(one)) = all.into_iter().next()
            {
                map.extend(one);
            }
            map.remove("default");
            Value::Object(map.into_iter().map(|(key, value)| renamed(key, value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(schema_of).collect()),
        other => other,
    }
}

fn renamed(key: String, value: Value) -> (String, Value) {
    let value = match (&*key, value) {
        ("$ref", Value::String(target)) => {
            Value::String(target.replace("#/components/schemas/", "#/definitions/"))
        }
        // Names of fields, none of which is a keyword here.
        ("properties", Value::Object(fields)) => {
            fields.into_iter().map(|(name, schema)| (name, schema_of(schema))).collect()
        }
        (_, value) => schema_of(value),
    };
    (key, value)
}

fn path_item(item: Value) -> Value {
    let Value::Object(map) = item else { return item };
    let each = map.into_iter().map(|(method, value)| match value {
        Value::Array(parameters) => (method, parameters.into_iter().map(parameter).collect()),
        operation => (method, of_operation(operation)),
    });
    each.collect()
}

fn parameter(mut value: Value) -> Value {
    for (key, fact) in taken(&mut value["schema"]) {
        value[&key] = fact;
    }
    if let Value::Object(map) = &mut value {
        map.remove("schema");
    }
    value
}

fn of_operation(mut operation: Value) -> Value {
    let mut parameters = Vec::new();
    if let Value::Array(of_method) = operation["parameters"].take() {
        parameters.extend(of_method.into_iter().map(parameter));
    }
    let body = taken(&mut operation["requestBody"]);
    if let Some(Value::Object(content)) = body.get("content") {
        operation["consumes"] = content.keys().cloned().collect();
        if let Some(schema) = first_schema(content) {
            parameters.insert(0, json!({"name": "body", "in": "body", "schema": schema}));
        }
    }
    operation["parameters"] = Value::Array(parameters);
    let mut responses = taken(&mut operation["responses"]);
    for response in responses.values_mut() {
        if let Value::Object(content) = response["content"].take() {
            operation["produces"] = content.keys().cloned().collect();
            response["schema"] = first_schema(&content).unwrap_or_default();
        }
        if let Value::Object(map) = response {
            map.remove("content");
        }
    }
    operation["responses"] = Value::Object(responses);
    if let Value::Object(map) = &mut operation {
        map.remove("requestBody");
    }
    operation
}

fn first_schema(content: &Map<String, Value>) -> Option<Value> {
    content.values().next()?.get("schema").cloned().map(schema_of)
}
