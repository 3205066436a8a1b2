//! What metadata must look like, whatever the kind.
//!
//! Guarantees:
//! - labels, and the keys of annotations, have the form that selectors and indexes of Kubernetes know
//!   (`labels_and_annotations`);
//! - all annotations together stay below [`ANNOTATION_BYTES_MAX`], but for what the hub itself keeps on an object:
//!   whoever fills the rest gets no refusal for that (`labels_and_annotations`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::error::FieldError;
use crate::kind::Kind;
use crate::name;

/// Most bytes of all annotations' keys and values together.
pub const ANNOTATION_BYTES_MAX: usize = 256 * 1024;

/// Every mistake in `object.metadata`. `namespace` is the request's, empty for what has none; the
/// name must already be generated when there is a generateName.
#[must_use]
pub fn validate(kind: &Kind, object: &Value, namespace: &str) -> Vec<FieldError> {
    let meta = object.get("metadata").unwrap_or(&Value::Null);
    let text = |key: &str| meta.get(key).and_then(Value::as_str).unwrap_or_default();
    let rule = kind.name_rule;
    let mut errors = Vec::new();
    let prefix = text("generateName");
    if !prefix.is_empty() {
        // A prefix may end in what a whole name may not.
        let probe = format!("{}a", prefix.trim_end_matches('-'));
        errors.extend(about("metadata.generateName", prefix, &name::check(rule, &probe)));
    }
    let own = text("name");
    if own.is_empty() {
        let required = "name or generateName is required";
        errors.push(FieldError::required("metadata.name", required));
    } else {
        errors.extend(about("metadata.name", own, &name::check(rule, own)));
    }
    errors.extend(check_namespace(kind, text("namespace"), namespace));
    if meta.get("generation").and_then(Value::as_i64).is_some_and(|g| g < 0) {
        let value = meta.get("generation").cloned().unwrap_or_default();
        let text = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("metadata.generation", &value, text));
    }
    errors.extend(check_labels(meta, "metadata"));
    errors.extend(check_annotations(meta, "metadata", kind.hubs_annotation));
    errors.extend(check_owners(meta));
    errors.extend(check_finalizers(meta));
    errors
}

/// What an update may not change.
#[must_use]
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let read = |object: &Value, key: &str| {
        object.get("metadata").and_then(|m| m.get(key)).cloned().unwrap_or(Value::Null)
    };
    let mut errors = Vec::new();
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (now, before) = (read(new, key), read(old, key));
        if now != before {
            errors.push(FieldError::invalid(format!("metadata.{key}"), &now, "field is immutable"));
        }
    }
    // What is being deleted takes no new finalizers: it would never go.
    if !read(old, "deletionTimestamp").is_null() {
        let list =
            |object: &Value| read(object, "finalizers").as_array().cloned().unwrap_or_default();
        let texts = |object: &Value| list(object).into_iter().map(|f| f.to_string());
        let before: BTreeSet<String> = texts(old).collect();
        let added: Vec<String> = texts(new).filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let text = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &text));
        }
    }
    errors
}

/// Mistakes in `meta.labels`; `path` is that of `meta`.
#[must_use]
pub fn check_labels(meta: &Value, path: &str) -> Vec<FieldError> {
    let at = format!("{path}.labels");
    check_label_map(meta.get("labels"), &at)
}

/// Mistakes in a map of labels.
#[must_use]
pub fn check_label_map(labels: Option<&Value>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        errors.extend(about(path, key, &name::qualified_name(key)));
        let value = value.as_str().unwrap_or_default();
        errors.extend(about(path, value, &name::label_value(value)));
    }
    errors
}

/// Mistakes in `meta.annotations`; `path` is that of `meta`. The hub's own one is on nobody's account.
#[must_use]
pub fn check_annotations(meta: &Value, path: &str, hubs: Option<&str>) -> Vec<FieldError> {
    let at = format!("{path}.annotations");
    let mut errors = Vec::new();
    let mut total = 0;
    let annotations = meta.get("annotations").and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        // Keys are compared without regard to case here, for annotations older than the rule.
        errors.extend(about(&at, key, &name::qualified_name(&key.to_lowercase())));
        if hubs != Some(key) {
            total += key.len() + value.as_str().map_or(0, str::len);
        }
    }
    if total > ANNOTATION_BYTES_MAX {
        errors.push(FieldError::too_long(at, ANNOTATION_BYTES_MAX));
    }
    errors
}

fn about(path: &str, value: &str, complaints: &[String]) -> Vec<FieldError> {
    complaints.iter().map(|text| FieldError::invalid(path, &json!(value), text)).collect()
}

fn check_namespace(kind: &Kind, written: &str, requested: &str) -> Vec<FieldError> {
    let at = "metadata.namespace";
    let namespace = if written.is_empty() { requested } else { written };
    match (kind.namespaced, namespace) {
        (true, "") => vec![FieldError::required(at, "")],
        (true, namespace) => about(at, namespace, &name::dns_label(namespace)),
        (false, "") => Vec::new(),
        (false, _) => vec![FieldError::forbidden(at, "not allowed on this type")],
    }
}

fn check_owners(meta: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controllers = Vec::new();
    let owners = meta.get("ownerReferences").and_then(Value::as_array);
    for (i, owner) in owners.into_iter().flatten().enumerate() {
        let path = format!("metadata.ownerReferences[{i}]");
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        let version = text("apiVersion").rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            let at = format!("{path}.apiVersion");
            let shown = json!(text("apiVersion"));
            errors.push(FieldError::invalid(at, &shown, "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                let at = format!("{path}.{key}");
                errors.push(FieldError::invalid(at, &json!(""), "must not be empty"));
            }
        }
        if owner.get("controller").and_then(Value::as_bool).unwrap_or_default() {
            controllers.push(text("name").to_owned());
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let text = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        let shown = meta.get("ownerReferences").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("metadata.ownerReferences", &shown, &text));
    }
    errors
}

fn check_finalizers(meta: &Value) -> Vec<FieldError> {
    const STANDARD: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];
    let finalizers = meta.get("finalizers").and_then(Value::as_array);
    let mut errors = Vec::new();
    let mut orphan_and_foreground = 0;
    for finalizer in finalizers.into_iter().flatten() {
        let text = finalizer.as_str().unwrap_or_default();
        orphan_and_foreground += usize::from(matches!(text, "orphan" | "foregroundDeletion"));
        let mut complaints = name::qualified_name(text);
        if complaints.is_empty() && !text.contains('/') && !STANDARD.contains(&text) {
            complaints.push(
                "name is neither a standard finalizer name nor is it fully qualified".to_owned(),
            );
        }
        errors.extend(about("metadata.finalizers", text, &complaints));
    }
    if orphan_and_foreground > 1 {
        let shown = meta.get("finalizers").cloned().unwrap_or_default();
        let text = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid("metadata.finalizers", &shown, text));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvk::Gvk;
    use crate::kind::Strategy;

    struct Plain;

    impl Strategy for Plain {}

    fn check(meta: Value) -> Vec<String> {
        let kind = Kind::new(Gvk::new("", "v1", "Pod"), "pods", Plain).keeps("the.hub/s-own");
        let mut object = json!({});
        object["metadata"] = meta;
        let errors = validate(&kind, &object, "default");
        errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect()
    }

    #[test]
    fn names_are_required_and_checked() {
        assert_eq!(check(json!({"name": "x"})), Vec::<String>::new());
        assert_eq!(
            check(json!({})),
            ["metadata.name: Required value: name or generateName is required"]
        );
        let wrong = check(json!({"name": "Bad_Name"}));
        assert!(wrong[0].starts_with(
            "metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain"
        ));
        assert_eq!(
            check(json!({"name": "web-abcde", "generateName": "web-"})),
            Vec::<String>::new()
        );
    }

    #[test]
    fn labels_and_annotations() {
        let wrong = check(json!({"name": "x", "labels": {"a b": "c", "ok": "-"}}));
        assert_eq!(wrong.len(), 2);
        assert!(
            wrong[0].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist")
        );
        assert!(
            wrong[1].starts_with("metadata.labels: Invalid value: \"-\": a valid label must be")
        );
        let big = "x".repeat(ANNOTATION_BYTES_MAX);
        let wrong = check(json!({"name": "x", "annotations": {"a": big}}));
        assert_eq!(wrong, ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
        let full = json!({"a": "x".repeat(ANNOTATION_BYTES_MAX - 1), "the.hub/s-own": "{}"});
        assert_eq!(check(json!({"name": "x", "annotations": full})), Vec::<String>::new());
        assert_eq!(
            check(json!({"name": "x", "annotations": {"Upper/Case": "any text"}})),
            Vec::<String>::new()
        );
    }

    #[test]
    fn owners_and_finalizers() {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "1", "controller": true});
        assert_eq!(check(json!({"name": "x", "ownerReferences": [owner]})), Vec::<String>::new());
        let wrong = check(json!({"name": "x", "ownerReferences": [owner, owner, {}]}));
        assert_eq!(wrong.len(), 5);
        assert_eq!(
            check(json!({"name": "x", "finalizers": ["a.b/c", "orphan"]})),
            Vec::<String>::new()
        );
        assert_eq!(check(json!({"name": "x", "finalizers": ["plain"]})).len(), 1);
    }

    #[test]
    fn identity_stays() {
        let old = json!({"metadata": {"name": "x", "uid": "1", "deletionTimestamp": "t", "finalizers": ["a.b/c"]}});
        let mut new = old.clone();
        assert_eq!(validate_update(&new, &old), []);
        new["metadata"]["uid"] = json!("2");
        new["metadata"]["finalizers"] = json!(["a.b/d"]);
        assert_eq!(validate_update(&new, &old).len(), 2);
    }
}
