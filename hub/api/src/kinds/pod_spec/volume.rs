//! What valid volumes are.
//!
//! Guarantees:
//! - items of one projected volume never name a path twice, as with kube-apiserver, which lets one ConfigMap or Secret
//!   do so (`files_of_a_projected_volume_are_named_once`);
//! - what shows the pod itself is checked alike in a volume of its own and in a projected one
//!   (`a_downward_source_of_a_projected_volume_is_checked_like_a_volume`).

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use freewheel_hub_schema::quantity::Quantity;
use serde_json::{Value, json};

use super::super::accessors::{items_of, list, map, text};
use super::super::field_value::FieldValue;
use super::field::{check_field, check_resource_field};
use super::{classes, sources, volume_source};

/// What files may show of their pod, beside labels and annotations.
const FILE_FIELDS: &[&str] = &["metadata.name", "metadata.namespace", "metadata.uid"];

const TOKEN_SECONDS_MAX: i64 = 1 << 32;

const TWICE: &str = "conflicting duplicate paths";

/// Every mistake in the pod's volumes.
pub(super) fn check_all(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, volume) in list(spec, "/volumes").iter().enumerate() {
        let at_volume = format!("{path}.volumes[{i}]");
        let (name, at) = (text(volume, "/name"), format!("{at_volume}.name"));
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else {
            let wrong = names::dns_label(name);
            errors.extend(wrong.iter().map(|t| FieldError::invalid(at.clone(), &json!(name), t)));
            if wrong.is_empty() && !taken.insert(name) {
                errors.push(FieldError::duplicate(at, &json!(name)));
            }
        }
        // A template may leave open which image a volume is.
        errors.extend(check_source(volume, &at_volume, path == "spec"));
    }
    errors
}

fn check_source(volume: &Value, path: &str, is_pod: bool) -> Vec<FieldError> {
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
        errors.extend(check_keys(source, name, &path));
        errors.extend(check_mode(source, "defaultMode", &path));
    }
    if let Some(source) = volume.get("downwardAPI") {
        let path = format!("{path}.downwardAPI");
        errors.extend(check_mode(source, "defaultMode", &path));
        errors.extend(check_downward(source, &path));
    }
    if let Some(source) = volume.get("projected") {
        let path = format!("{path}.projected");
        errors.extend(check_mode(source, "defaultMode", &path));
        errors.extend(check_projections(source, &path));
    }
    if let Some(kind) = sources.first() {
        errors.extend(volume_source::check(&FieldValue::at(volume, path), kind, is_pod));
    }
    errors
}

fn check_projections(projected: &Value, path: &str) -> Vec<FieldError> {
    let (mut errors, mut taken) = (Vec::new(), BTreeSet::new());
    for (i, projection) in items_of(projected, "sources") {
        let at = format!("{path}.sources[{i}]");
        errors.extend(classes::refusals(classes::PROJECTION, projection, &at));
        for kind in ["secret", "configMap"] {
            let Some(source) = projection.get(kind) else { continue };
            errors.extend(check_keys(source, "name", &format!("{at}.{kind}")));
            for (_, item) in items_of(source, "items") {
                let file = text(item, "/path");
                if !file.is_empty() && !taken.insert(file) {
                    // What is said, and where, is upstream's.
                    let name = json!(text(source, "/name"));
                    errors.push(FieldError::invalid(path, &name, TWICE));
                }
            }
        }
        if let Some(source) = projection.get("downwardAPI") {
            errors.extend(check_downward(source, &format!("{at}.downwardAPI")));
            for (_, item) in items_of(source, "items") {
                let file = text(item, "/path");
                if !file.is_empty() && !taken.insert(file) {
                    errors.push(FieldError::invalid(path, &json!(file), TWICE));
                }
            }
        }
        if let Some(token) = projection.get("serviceAccountToken") {
            errors.extend(check_token(token, &format!("{at}.serviceAccountToken"), path));
        }
        if 1 < map(projection, "").count() {
            let text = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(at, text));
        }
    }
    errors
}

/// The path of a token is said to be the volume's, as upstream has it.
fn check_token(token: &Value, at: &str, volume: &str) -> Vec<FieldError> {
    let seconds = token.get("expirationSeconds").and_then(Value::as_i64).unwrap_or_default();
    let wrong = match seconds {
        ..600 => Some("may not specify a duration less than 10 minutes"),
        600..=TOKEN_SECONDS_MAX => None,
        _ => Some("may not specify a duration larger than 2^32 seconds"),
    };
    let at = format!("{at}.expirationSeconds");
    let wrong = wrong.map(|text| FieldError::invalid(at, &json!(seconds), text));
    let path = check_path(text(token, "/path"), &format!("{volume}.path"));
    wrong.into_iter().chain(path).collect()
}

fn check_mode(source: &Value, field: &str, path: &str) -> Option<FieldError> {
    let mode = source.get(field)?.as_i64()?;
    if (0..=0o777).contains(&mode) {
        return None;
    }
    let text = "must be a number between 0 and 0777 (octal), both inclusive";
    Some(FieldError::invalid(format!("{path}.{field}"), &json!(mode), text))
}

/// A ConfigMap or Secret by the name in `name`, and which of its keys are shown.
fn check_keys(source: &Value, name: &str, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(source, &format!("/{name}")).is_empty() {
        errors.push(FieldError::required(format!("{path}.{name}"), ""));
    }
    for (i, item) in items_of(source, "items") {
        let path = format!("{path}.items[{i}]");
        if text(item, "/key").is_empty() {
            errors.push(FieldError::required(format!("{path}.key"), ""));
        }
        errors.extend(check_path(text(item, "/path"), &format!("{path}.path")));
        errors.extend(check_mode(item, "mode", &path));
    }
    errors
}

fn check_downward(source: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, item) in items_of(source, "items") {
        let path = format!("{path}.items[{i}]");
        errors.extend(check_path(text(item, "/path"), &format!("{path}.path")));
        errors.extend(check_mode(item, "mode", &path));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(volume: &Value, expected: &[&str]) {
        let errors = check_all(&json!({"volumes": [volume]}), "spec");
        let texts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn files_of_a_projected_volume_are_named_once() {
        let items = |paths: &[&str]| -> Vec<Value> {
            paths.iter().map(|path| json!({"key": "k", "path": path})).collect()
        };
        let map = |name: &str, paths: &[&str]| json!({"configMap": {"name": name, "items": items(paths)}});
        let secret =
            |name: &str, paths: &[&str]| json!({"secret": {"name": name, "items": items(paths)}});
        let volume = |sources: &[Value]| json!({"name": "v", "projected": {"sources": sources}});
        let twice = |name: &str| {
            format!(
                "spec.volumes[0].projected: Invalid value: \"{name}\": conflicting duplicate paths"
            )
        };
        wrong(&volume(&[map("a", &["x", "d/x"]), secret("b", &["y"])]), &[]);
        wrong(&volume(&[map("a", &["x", "x"])]), &[&twice("a")]);
        wrong(
            &volume(&[map("a", &["x", "y"]), secret("b", &["y"]), map("c", &["x"])]),
            &[&twice("b"), &twice("c")],
        );
        // Whole sources are told apart by their keys when they are shown: the later one wins.
        wrong(&volume(&[json!({"configMap": {"name": "a"}}), map("b", &["x"])]), &[]);
        let alone = json!({"name": "v", "configMap": {"name": "a", "items": items(&["x", "x"])}});
        wrong(&alone, &[]);
    }

    #[test]
    fn a_source_of_a_projected_volume_is_one_thing() {
        let both = json!([{"configMap": {"name": "a"}, "secret": {"name": ""}}]);
        wrong(
            &json!({"name": "v", "projected": {"sources": both}}),
            &[
                "spec.volumes[0].projected.sources[0].secret.name: Required value",
                "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
            ],
        );
    }

    #[test]
    fn a_downward_source_of_a_projected_volume_is_checked_like_a_volume() {
        let all_in_one = json!({"name": "v", "projected": {"sources": [
            {"secret": {"name": "s", "items": [{"key": "username", "path": "my-group/my-username"}]}},
            {"downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 0o400},
                {"path": "cpu_limit",
                    "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}]}},
            {"configMap": {"name": "m", "items": [{"key": "config", "path": "my-group/my-config"}]}}]}});
        wrong(&all_in_one, &[]);
        let reference = |resource: &str, divisor: &str| {
            json!({"path": resource, "resourceFieldRef":
                {"containerName": "c", "resource": resource, "divisor": divisor}})
        };
        let items = json!([
            {"path": "x", "fieldRef": {"fieldPath": "spec.nodeName"}},
            {"path": "x", "resourceFieldRef": {"resource": "limits.cpu"}, "mode": 0o1000},
            {"path": "../y"},
            {"path": "z", "fieldRef": {"fieldPath": "metadata.uid"},
                "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
            reference("limits.gpu", "1"), reference("limits.cpu", "1k"), reference("requests.memory", "1m"),
            reference("requests.cpu", "1000m"), reference("requests.ephemeral-storage", "1Ki"),
        ]);
        let sizes = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
        let said = |path: &str| {
            [
                "items[0].fieldRef.fieldPath: Unsupported value: \"spec.nodeName\": supported values: \
                 \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
                "items[1].mode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "items[1].resourceFieldRef.containerName: Required value",
                "items[2].path: Invalid value: \"../y\": must not contain '..'",
                "items[2]: Required value: one of fieldRef and resourceFieldRef is required",
                "items[3]: Invalid value: \"resource\": fieldRef and resourceFieldRef can not be specified \
                 simultaneously",
                "items[4].resourceFieldRef.resource: Unsupported value: \"limits.gpu\": supported values: \
                 \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \
                 \"requests.ephemeral-storage\", \"requests.memory\"",
                "items[5].resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are \
                 supported with the cpu resource",
                &format!(
                    "items[6].resourceFieldRef.divisor: Invalid value: \"requests.memory\": only divisor's values \
                     {sizes} are supported with the memory resource"
                ),
            ]
            .map(|text| format!("spec.volumes[0].{path}.{text}"))
        };
        let own = said("downwardAPI");
        wrong(
            &json!({"name": "v", "downwardAPI": {"items": items}}),
            &own.each_ref().map(String::as_str),
        );
        let projected = said("projected.sources[0].downwardAPI");
        let twice = "spec.volumes[0].projected: Invalid value: \"x\": conflicting duplicate paths";
        let expected: Vec<&str> = projected.iter().map(String::as_str).chain([twice]).collect();
        let sources = json!([{"downwardAPI": {"items": items}}]);
        wrong(&json!({"name": "v", "projected": {"sources": sources}}), &expected);
    }

    #[test]
    fn modes_of_files_are_permission_bits() {
        let file = |mode: i64| json!({"key": "k", "path": "p", "mode": mode});
        let map = json!({"name": "m", "items": [file(0), file(0o777), file(0o1000), file(-1)]});
        let text = "must be a number between 0 and 0777 (octal), both inclusive";
        let at = |i: usize, mode: i64| {
            format!("spec.volumes[0].configMap.items[{i}].mode: Invalid value: {mode}: {text}")
        };
        wrong(&json!({"name": "v", "configMap": map}), &[&at(2, 512), &at(3, -1)]);
    }
}
