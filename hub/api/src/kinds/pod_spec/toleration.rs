//! What a pod tolerates of nodes.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::super::accessors::text;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Every mistake of a list of tolerations.
pub(crate) fn check_all(all: &[Value], path: &str) -> Vec<FieldError> {
    let all = all.iter().enumerate();
    all.flat_map(|(i, toleration)| check(&format!("{path}[{i}]"), toleration)).collect()
}

fn check(path: &str, toleration: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (key, value) = (text(toleration, "/key"), text(toleration, "/value"));
    let (operator, effect) = (text(toleration, "/operator"), text(toleration, "/effect"));
    let at = |key: &str| format!("{path}.{key}");
    if !key.is_empty() {
        let wrong = names::qualified_name(key);
        errors.extend(wrong.iter().map(|t| FieldError::invalid(at("key"), &json!(key), t)));
    }
    if key.is_empty() && operator != "Exists" {
        let text = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(at("operator"), &json!(operator), text));
    }
    if toleration.get("tolerationSeconds").is_some() && effect != "NoExecute" {
        let text = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(at("effect"), &json!(effect), text));
    }
    match operator {
        "" | "Equal" => {
            let wrong = names::label_value(value);
            errors.extend(
                wrong.iter().map(|t| FieldError::invalid(at("operator"), &json!(value), t)),
            );
        }
        "Exists" if value.is_empty() => {}
        "Exists" => {
            let shown = toleration.clone();
            let text = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(at("operator"), &shown, text));
        }
        other => {
            let supported = &["Equal", "Exists"];
            errors.push(FieldError::not_supported(at("operator"), &json!(other), supported));
        }
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(FieldError::not_supported(at("effect"), &json!(effect), EFFECTS));
    }
    errors
}
