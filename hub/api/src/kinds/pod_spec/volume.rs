//! What valid volumes are.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::look::{items_of, list, map, text};
use super::container::{check_field, check_resource_field};
use super::{classes, sources};
use crate::error::FieldError;
use crate::name as names;
use crate::quantity::Quantity;

/// What files may show of their pod, beside labels and annotations.
const FILE_FIELDS: &[&str] = &["metadata.name", "metadata.namespace", "metadata.uid"];

/// Every mistake in the pod's volumes.
pub(super) fn check_all(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, volume) in list(spec, "/volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{i}]");
        let (name, at) = (text(volume, "/name"), format!("{path}.name"));
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else {
            let wrong = names::dns_label(name);
            errors.extend(wrong.iter().map(|t| FieldError::invalid(at.clone(), &json!(name), t)));
            if wrong.is_empty() && !taken.insert(name) {
                errors.push(FieldError::duplicate(at, &json!(name)));
            }
        }
        errors.extend(check_source(volume, &path));
    }
    errors
}

fn check_source(volume: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let sources = sources(volume);
    if sources.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    for extra in sources.iter().skip(1) {
        let text = "may not specify more than 1 volume type";
        errors.push(FieldError::forbidden(format!("{path}.{extra}"), text));
    }
    if let Some(limit) = volume.pointer("/emptyDir/sizeLimit") {
        let parsed = limit.as_str().and_then(|l| l.parse::<Quantity>().ok());
        if parsed.is_some_and(|q| q.is_negative()) {
            let text = "SizeLimit field must be a valid resource quantity";
            errors.push(FieldError::forbidden(format!("{path}.emptyDir.sizeLimit"), text));
        }
    }
    for (kind, name) in [("secret", "secretName"), ("configMap", "name")] {
        let Some(source) = volume.get(kind) else { continue };
        let path = format!("{path}.{kind}");
        if text(source, &format!("/{name}")).is_empty() {
            errors.push(FieldError::required(format!("{path}.{name}"), ""));
        }
        errors.extend(check_mode(source, &path));
        errors.extend(check_items(source, &path));
    }
    if let Some(source) = volume.get("downwardAPI") {
        let path = format!("{path}.downwardAPI");
        errors.extend(check_mode(source, &path));
        errors.extend(check_downward(source, &path));
    }
    if let Some(source) = volume.get("projected") {
        let path = format!("{path}.projected");
        errors.extend(check_mode(source, &path));
        for (i, projection) in items_of(source, "sources") {
            errors.extend(check_projection(projection, &format!("{path}.sources[{i}]")));
        }
    }
    errors.extend(classes::refusals(classes::VOLUME, volume, path));
    errors
}

fn check_projection(projection: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = classes::refusals(classes::PROJECTION, projection, path);
    for (i, (kind, source)) in map(projection, "").enumerate() {
        let path = format!("{path}.{kind}");
        if i > 0 {
            errors.push(FieldError::forbidden(path, "may not specify more than 1 volume type"));
            continue;
        }
        match kind {
            "secret" | "configMap" => {
                if text(source, "/name").is_empty() {
                    errors.push(FieldError::required(format!("{path}.name"), ""));
                }
                errors.extend(check_items(source, &path));
            }
            _ => {}
        }
    }
    errors
}

fn check_mode(source: &Value, path: &str) -> Option<FieldError> {
    let mode = source.get("defaultMode")?.as_i64()?;
    if (0..=0o777).contains(&mode) {
        return None;
    }
    let text = "must be a number between 0 and 0777 (octal), both inclusive";
    Some(FieldError::invalid(format!("{path}.defaultMode"), &json!(mode), text))
}

fn check_items(source: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, item) in items_of(source, "items") {
        let path = format!("{path}.items[{i}]");
        if text(item, "/key").is_empty() {
            errors.push(FieldError::required(format!("{path}.key"), ""));
        }
        errors.extend(check_path(text(item, "/path"), &format!("{path}.path")));
    }
    errors
}

fn check_downward(source: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, item) in items_of(source, "items") {
        let path = format!("{path}.items[{i}]");
        errors.extend(check_path(text(item, "/path"), &format!("{path}.path")));
        errors.extend(classes::refusals(classes::DOWNWARD, item, &path));
        match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(field), None) => {
                let at = format!("{path}.fieldRef");
                errors.extend(check_field(field, &at, FILE_FIELDS, true));
            }
            (None, Some(field)) => {
                let at = format!("{path}.resourceFieldRef");
                errors.extend(check_resource_field(field, &at, true));
            }
            (None, None) => {
                let text = "one of fieldRef and resourceFieldRef is required";
                errors.push(FieldError::required(path, text));
            }
            (Some(_), Some(_)) => {
                let text = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, &json!("resource"), text));
            }
        }
    }
    errors
}

fn check_path(file: &str, at: &str) -> Option<FieldError> {
    let wrong = match file {
        "" => return Some(FieldError::required(at, "")),
        file if file.starts_with('/') => "must be a relative path",
        file if file.split('/').any(|part| part == "..") => "must not contain '..'",
        file if file.starts_with("..") => "must not start with '..'",
        _ => return None,
    };
    Some(FieldError::invalid(at, &json!(file), wrong))
}
