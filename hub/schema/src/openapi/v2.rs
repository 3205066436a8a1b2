//! The v3 documents told as one Swagger 2.0 document, for clients that know nothing newer.
//!
//! Guarantees:
//! - kinds that come at run time cost what is said of them, and nothing of what is said of the others
//!   (`what_is_shared_is_told_once`).

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::document::Document;
use super::members::Members;
use super::prose::Prose;
use super::{components, paths};
use crate::kind::Kind;

/// A document, and where in it the paths and definitions are.
pub(crate) struct V2 {
    pub(super) document: Document,
    paths: Entries,
    definitions: Entries,
}

/// Entries of an object in a text.
struct Entries {
    names: BTreeSet<String>,
    range: Range<usize>,
}

impl V2 {
    /// What is said of these, by their groups and versions; and what another one says, too.
    pub(super) fn over<'a>(
        shared: Option<&Self>,
        groups: impl IntoIterator<Item = (String, Vec<&'a Kind>)>,
        prose: &Prose,
    ) -> Self {
        let (mut paths, mut definitions) = (Members::default(), Members::default());
        let is_new = |of: fn(&Self) -> &Entries, name: &str| {
            shared.is_none_or(|shared| !of(shared).names.contains(name))
        };
        for (group, kinds) in groups {
            paths::each(&group, &kinds, |path, item| {
                if is_new(|shared| &shared.paths, &path) {
                    paths.put(path, &path_item(item));
                }
            });
            components::each(&kinds, prose, |name, schema| {
                if is_new(|shared| &shared.definitions, &name) {
                    definitions.put(name, &definition(schema));
                }
            });
        }
        let info = json!({"title": "Freewheel", "version": env!("CARGO_PKG_VERSION")});
        let mut text = format!(r#"{{"swagger":"2.0","info":{info},"paths":{{"#);
        let paths = Entries::write(paths, shared.map(|one| one.paths.of(&one.document)), &mut text);
        text.push_str(r#"},"definitions":{"#);
        let of_shared = shared.map(|one| one.definitions.of(&one.document));
        let definitions = Entries::write(definitions, of_shared, &mut text);
        text.push_str("}}");
        Self { document: Document::of_text(text), paths, definitions }
    }
}

impl Entries {
    /// Writes these behind those that are written already.
    fn write(entries: Members, shared: Option<&str>, text: &mut String) -> Self {
        let start = text.len();
        text.push_str(shared.unwrap_or_default());
        let names = entries.write(start, text);
        Self { names, range: start..text.len() }
    }

    fn of<'a>(&self, document: &'a Document) -> &'a str {
        // Both are of one writing.
        let bytes = document.body.get(self.range.clone()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// A schema that has a name.
fn definition(schema: Value) -> Value {
    if schema.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(true)) {
        return schema_of(schema);
    }
    // kubectl takes what is named for all that there may be.
    let kinds = "x-kubernetes-group-version-kind";
    let mut out = json!({"type": "object"});
    if let Some(of) = schema.get(kinds) {
        out[kinds] = of.clone();
    }
    out
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
            leave_open(&mut map);
            Value::Object(map.into_iter().map(|(key, value)| renamed(key, value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(schema_of).collect()),
        other => other,
    }
}

/// What may be null or anything, v2 has no words for: clients take what is said of the rest for all.
fn leave_open(map: &mut Map<String, Value>) {
    let is = |map: &Map<String, Value>, key: &str| map.get(key) == Some(&Value::Bool(true));
    let may_be_null = |schema: &Value| schema.get("nullable") == Some(&Value::Bool(true));
    let (nullable, open) = (is(map, "nullable"), is(map, "x-kubernetes-preserve-unknown-fields"));
    if nullable || open {
        map.remove("items");
        map.remove("properties");
    }
    map.remove("nullable");
    let untyped = match map.get("type").and_then(Value::as_str) {
        Some("array") => !map.contains_key("items"),
        Some("object") => open,
        _ => false,
    };
    if nullable || untyped {
        map.remove("type");
    }
    let null: BTreeSet<String> = match map.get("properties") {
        Some(Value::Object(fields)) => {
            fields.iter().filter(|(_, of)| may_be_null(of)).map(|(name, _)| name.clone()).collect()
        }
        _ => BTreeSet::new(),
    };
    let each_may_be_null = map.get("additionalProperties").is_some_and(may_be_null);
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|name| name.as_str().is_none_or(|name| !null.contains(name)));
        if required.is_empty() || each_may_be_null {
            map.remove("required");
        }
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
