//! What pods, containers and volumes check alike: enums, and references to fields of the pod.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use freewheel_hub_schema::quantity::Quantity;
use serde_json::{Value, json};

use super::super::accessors::text;

/// Divisors of bytes.
const SIZES: &[&str] =
    &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Complaints about a value as mistakes at its place.
pub(super) fn wrong(at: &str, value: &str, complaints: &[String]) -> Vec<FieldError> {
    complaints.iter().map(|text| FieldError::invalid(at, &json!(value), text)).collect()
}

/// An enum field that must be set.
pub(super) fn one_of(
    value: &Value,
    path: &str,
    key: &str,
    supported: &[&str],
) -> Option<FieldError> {
    let at = format!("{path}.{key}");
    match value.get(key).and_then(Value::as_str).unwrap_or_default() {
        "" => Some(FieldError::required(at, "")),
        found if supported.contains(&found) => None,
        found => Some(FieldError::not_supported(at, &json!(found), supported)),
    }
}

/// A reference to a field of the pod; whole maps of labels only where files are made.
pub(super) fn check_field(
    field: &Value,
    path: &str,
    supported: &[&str],
    whole_maps: bool,
) -> Vec<FieldError> {
    let found = text(field, "/fieldPath");
    let at = format!("{path}.fieldPath");
    if found.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    if let Some((map, key)) = found.strip_suffix(']').and_then(|p| p.split_once('[')) {
        let key = key.trim_matches('\'');
        return match map {
            "metadata.labels" => wrong(&at, key, &names::qualified_name(key)),
            "metadata.annotations" => wrong(&at, key, &names::qualified_name(&key.to_lowercase())),
            _ => vec![FieldError::invalid(at, &json!(found), "does not support subscript")],
        };
    }
    if whole_maps && matches!(found, "metadata.labels" | "metadata.annotations") {
        return Vec::new();
    }
    if supported.contains(&found) {
        return Vec::new();
    }
    vec![FieldError::not_supported(at, &json!(found), supported)]
}

/// A reference to what a container requests or may use.
pub(super) fn check_resource_field(field: &Value, path: &str, volume: bool) -> Vec<FieldError> {
    const RESOURCES: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let mut errors = Vec::new();
    if volume && text(field, "/containerName").is_empty() {
        errors.push(FieldError::required(format!("{path}.containerName"), ""));
    }
    errors.extend(one_of(field, path, "resource", RESOURCES));
    errors.extend(check_divisor(field, path));
    errors
}

/// What an amount may be divided by. Upstream shows the resource in place of the divisor.
fn check_divisor(field: &Value, path: &str) -> Option<FieldError> {
    let divisor: Quantity = text(field, "/divisor").parse().ok()?;
    let resource = text(field, "/resource");
    let (supported, of) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"][..], "1m and 1 are supported with the cpu"),
        "limits.memory" | "requests.memory" => (
            SIZES,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory",
        ),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (
            SIZES,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage",
        ),
        _ => return None,
    };
    if divisor.is_zero() || supported.contains(&divisor.to_string().as_str()) {
        return None;
    }
    let text = format!("only divisor's values {of} resource");
    Some(FieldError::invalid(format!("{path}.divisor"), &json!(resource), &text))
}
