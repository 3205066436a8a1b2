//! Creates and changes as the pipeline does them, up to the commit.

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::{metadata, types};
use serde_json::{Value, json};

/// The kind that an object says it is.
pub fn kind_of(body: &Value) -> &'static Arc<Kind> {
    let text = |key: &str| body[key].as_str().unwrap();
    kinds::by_kind(text("apiVersion"), text("kind")).unwrap()
}

fn namespace_of(kind: &Kind) -> &'static str {
    if kind.namespaced { "default" } else { "" }
}

fn proposed(mut body: Value) -> Result<Value, ApiError> {
    let kind = kind_of(&body);
    if kind.namespaced {
        body["metadata"]["namespace"] = json!("default");
    }
    types::canonicalise(&mut body, &**kind)?;
    types::apply_defaults(&mut body, &**kind).unwrap();
    kind.strategy.default(&mut body);
    kind.strategy.prepare_create(&mut body);
    body["metadata"]["uid"] = json!("8f0b2c1e-0000-4000-8000-000000000000");
    body["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    if !kind.has(Trait::CountsNoGeneration) {
        body["metadata"]["generation"] = json!(1);
    }
    kind.strategy.born(&mut body);
    Ok(body)
}

fn mistakes_of(body: &Value) -> Vec<FieldError> {
    let kind = kind_of(body);
    let mut errors = metadata::validate(kind, body, namespace_of(kind));
    errors.extend(kind.strategy.validate(body));
    errors
}

fn told(errors: Vec<FieldError>) -> Vec<String> {
    errors.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
}

/// A new object as it is stored.
pub fn create(body: Value) -> Result<Value, ApiError> {
    let mut body = proposed(body)?;
    let kind = kind_of(&body);
    let errors = mistakes_of(&body);
    if errors.is_empty() {
        types::canonicalise(&mut body, &**kind)?;
        return Ok(body);
    }
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(kind.group(), kind.kind(), name, &errors))
}

/// What is wrong with a new object.
pub fn mistakes(body: Value) -> Vec<String> {
    told(mistakes_of(&proposed(body).unwrap()))
}

/// What is wrong with a change.
pub fn update(door: Option<&str>, mut new: Value, old: &Value) -> Vec<String> {
    let kind = kind_of(old);
    types::canonicalise(&mut new, &**kind).unwrap();
    kind.strategy.default(&mut new);
    kind.strategy.prepare_update(door, &mut new, old);
    let mut errors = mistakes_of(&new);
    errors.extend(kind.strategy.validate_update(door, &new, old));
    told(errors)
}

/// A template of pods with label `a: b`.
pub fn pods(restart: &str) -> Value {
    let containers = json!([{"name": "c", "image": "i"}]);
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers, "restartPolicy": restart}})
}

/// A workload of apps/v1 over that.
pub fn apps(kind: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "x"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": pods("Always")}})
}

#[track_caller]
pub fn wrong(body: Value, expected: &[&str]) {
    let found = mistakes(body.clone());
    assert_eq!(found, expected, "{body}");
}

/// A change from what is valid; both as they are written by the door.
#[track_caller]
pub fn change(old: &Value, door: Option<&str>, by: impl Fn(&mut Value), expected: &[&str]) {
    let old = create(old.clone()).unwrap();
    let mut new = old.clone();
    by(&mut new);
    assert_eq!(update(door, new, &old), expected, "{}", old["kind"]);
}

pub fn named(api_version: &str, kind: &str, rest: Value) -> Value {
    let mut body = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
    let rest = rest.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(rest);
    body
}
