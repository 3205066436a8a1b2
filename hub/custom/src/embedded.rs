//! Objects of the API inside of others (`x-kubernetes-embedded-resource`): they have a type, and metadata like any other.
//!
//! Guarantees:
//! - their metadata has the form that all metadata has, and is checked as such (`what_is_embedded_is_an_object`).

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::field_errors::FieldErrors;
use freewheel_hub_schema::path::Path;
use freewheel_hub_schema::truncated_text::{REPEATED_BYTES_MAX, shortened};
use freewheel_hub_schema::types::{TypeFacts, Typed, canonicalise};
use freewheel_hub_schema::{metadata, name};
use serde_json::{Value, json};

use crate::schema::Schema;

/// Unknown fields that are told: more than anybody is.
const UNKNOWN_MAX: usize = 1_000;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Brings the metadata of all that is embedded into form; answers the paths of what it had beyond that.
///
/// # Errors
/// Where something is of the wrong type.
pub fn coerce(schema: &Schema, value: &mut Value) -> Result<Vec<String>, String> {
    let mut unknown = Vec::new();
    walk(schema, value, &Path::root(""), &mut |object, path| {
        let Value::Object(map) = object else { return Ok(()) };
        for key in ["apiVersion", "kind"] {
            if map.get(key).is_some_and(|value| !value.is_string()) {
                let (value, at) = (shortened_text(&map[key]), path.field(key).text());
                return Err(format!("{at}: Invalid value: {value}: must be a string"));
            }
        }
        let Some(meta) = map.get_mut("metadata") else { return Ok(()) };
        let facts = TypeFacts::by_name(OBJECT_META);
        let typed = Typed { group: "", version: "v1", kind: "ObjectMeta", facts, form: None };
        let (shown, at) = (shortened_text(meta), path.field("metadata"));
        let found = canonicalise(meta, typed)
            .map_err(|error| format!("{}: Invalid value: {shown}: {}", at.text(), error.message))?;
        let room = UNKNOWN_MAX.saturating_sub(unknown.len());
        unknown.extend(found.unknown.iter().take(room).map(|field| at.field(field).text()));
        Ok(())
    })?;
    Ok(unknown)
}

/// Every mistake of what is embedded.
#[must_use]
pub fn check(schema: &Schema, value: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = FieldErrors::default();
    look(schema, value, &Path::root(path), &mut errors);
    errors.into_vec()
}

/// A value in a message.
fn shortened_text(value: &Value) -> String {
    shortened(value.to_string(), REPEATED_BYTES_MAX)
}

fn walk(
    schema: &Schema,
    value: &mut Value,
    path: &Path<'_>,
    seen: &mut impl FnMut(&mut Value, &Path<'_>) -> Result<(), String>,
) -> Result<(), String> {
    if schema.embedded && !path.is_empty() {
        seen(value, path)?;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if let Some(of) = schema.field(key) {
                    walk(of, value, &path.field(key), seen)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(of) = schema.items.as_deref() else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                walk(of, item, &path.index(index), seen)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn look(schema: &Schema, value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match value {
        _ if errors.is_full() => {}
        Value::Object(map) => {
            if schema.embedded && !path.is_empty() {
                errors.extend(one(value, path));
            }
            for (key, value) in map {
                if let Some(of) = schema.field(key) {
                    look(of, value, &path.field(key), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(of) = schema.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                look(of, item, &path.index(index), errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn one(object: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let (version_at, kind_at) = (path.field("apiVersion"), path.field("kind"));
    match text("apiVersion") {
        None => errors.push(FieldError::required(version_at, "")),
        Some("") => {
            errors.push(FieldError::invalid(version_at, &json!(""), "must not be empty"));
        }
        Some(version) if version.matches('/').count() > 1 => {
            let text = format!("unexpected GroupVersion string: {version}");
            errors.push(FieldError::invalid(version_at, &json!(version), &text));
        }
        Some(_) => {}
    }
    match text("kind") {
        None => errors.push(FieldError::required(kind_at, "")),
        Some("") => {
            errors.push(FieldError::invalid(kind_at, &json!(""), "must not be empty"));
        }
        Some(kind) => {
            let wrong = name::dns1035_label(&kind.to_lowercase());
            if !wrong.is_empty() {
                let text =
                    format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                errors.push(FieldError::invalid(kind_at, &json!(kind), &text));
            }
        }
    }
    if let Some(meta) = object.get("metadata") {
        let at = path.field("metadata").text();
        let named = meta.get("name").and_then(Value::as_str).unwrap_or_default();
        for complaint in name::path_segment(named).into_iter().filter(|_| !named.is_empty()) {
            errors.push(FieldError::invalid(format!("{at}.name"), &json!(named), &complaint));
        }
        errors.extend(metadata::check_labels(meta, &at));
        errors.extend(metadata::check_annotations(meta, &at, None));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_embedded_is_an_object() {
        let schema = Schema::read(&json!({"type": "object", "properties": {"raw": {
            "type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
        }}}));
        let mut object = json!({"raw": {"apiVersion": "v1", "kind": "Pod", "spec": {"x": 1}, "metadata":
            {"name": "a", "stray": 1, "creationTimestamp": null, "labels": {"a": "b"}}}});
        assert_eq!(coerce(&schema, &mut object).unwrap(), ["raw.metadata.stray"]);
        assert_eq!(object["raw"]["metadata"], json!({"name": "a", "labels": {"a": "b"}}));
        assert_eq!(check(&schema, &object, ""), []);
        let mut wrong =
            json!({"raw": {"kind": "a b", "metadata": {"name": "a/b", "labels": {"-": "x"}}}});
        coerce(&schema, &mut wrong).unwrap();
        let fields: Vec<String> = check(&schema, &wrong, "").into_iter().map(|e| e.field).collect();
        assert_eq!(
            fields,
            ["raw.apiVersion", "raw.kind", "raw.metadata.name", "raw.metadata.labels"]
        );
        let mut wrong = json!({"raw": {"apiVersion": 1}});
        assert!(coerce(&schema, &mut wrong).is_err());
    }
}
