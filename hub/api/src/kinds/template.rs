//! What Deployment and ReplicaSet share: a selector and a pod template.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::metadata;
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Map, Value, json};

use super::accessors::{int, list, text};
use super::pod_spec;

/// Fills in the defaults of `spec.template`.
pub(super) fn default(spec: &mut Map<String, Value>) {
    let template = spec.get_mut("template").and_then(|t| t.get_mut("spec"));
    if let Some(pod) = template.and_then(Value::as_object_mut) {
        pod_spec::default(pod);
    }
}

/// Numbers below spec that may not be negative.
pub(super) fn check_counts(object: &Value, fields: &[&str]) -> Vec<FieldError> {
    let negative = |field: &&&str| int(object, &format!("/spec/{field}")) < 0;
    let error = |field: &&str| {
        let value = json!(int(object, &format!("/spec/{field}")));
        let text = "must be greater than or equal to 0";
        FieldError::invalid(format!("spec.{field}"), &value, text)
    };
    fields.iter().filter(negative).map(error).collect()
}

/// The selector must be there and must select the template's pods.
pub(super) fn check_selector(object: &Value, kind: &str) -> Vec<FieldError> {
    let Some(raw) = object.pointer("/spec/selector").filter(|s| !s.is_null()) else {
        return vec![FieldError::required("spec.selector", "")];
    };
    let selector = match LabelSelector::from_json(Some(raw), "spec.selector") {
        Ok(selector) => selector,
        Err(errors) => return errors,
    };
    let mut errors = Vec::new();
    if selector.is_everything() {
        let text = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::invalid("spec.selector", raw, &text));
    }
    let labels = object.pointer("/spec/template/metadata/labels");
    if !selector.is_everything() && !selector.matches_json(labels) {
        let shown = labels.cloned().unwrap_or(Value::Null);
        let text = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", &shown, text));
    }
    errors
}

/// The template's metadata and pod spec.
pub(super) fn check(object: &Value, kind: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(meta) = object.pointer("/spec/template/metadata") {
        errors.extend(metadata::check_labels(meta, "spec.template.metadata"));
        errors.extend(metadata::check_annotations(meta, "spec.template.metadata", None));
    }
    let pod = object.pointer("/spec/template/spec").unwrap_or(&Value::Null);
    errors.extend(pod_spec::check(pod, "spec.template.spec"));
    let policy = text(pod, "/restartPolicy");
    if matches!(policy, "OnFailure" | "Never") {
        let at = "spec.template.spec.restartPolicy";
        errors.push(FieldError::not_supported(at, &json!(policy), &["Always"]));
    }
    if pod.get("activeDeadlineSeconds").is_some() {
        let at = "spec.template.spec.activeDeadlineSeconds";
        let text = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(at, &text));
    }
    errors
}

/// The selector may not change: pods would be left behind.
pub(super) fn selector_stays(new: &Value, old: &Value) -> Vec<FieldError> {
    let (now, before) = (new.pointer("/spec/selector"), old.pointer("/spec/selector"));
    if now == before {
        return Vec::new();
    }
    let shown = now.cloned().unwrap_or(Value::Null);
    vec![FieldError::invalid("spec.selector", &shown, "field is immutable")]
}

/// Warnings about the template's fields.
pub(super) fn warnings(object: &Value) -> Vec<String> {
    let pod = object.pointer("/spec/template/spec").unwrap_or(&Value::Null);
    pod_spec::warnings(pod, "spec.template.spec")
}

/// Containers, Images and Selector.
pub(super) fn wide_cells(object: &Value) -> [Value; 3] {
    let containers = list(object, "/spec/template/spec/containers");
    let join = |key: &str| containers.iter().map(|c| text(c, key)).collect::<Vec<_>>().join(",");
    let selector = LabelSelector::from_json(object.pointer("/spec/selector"), "spec.selector");
    let selector = selector.map(|s| s.to_string()).unwrap_or_default();
    let selector = if selector.is_empty() { "<none>".to_owned() } else { selector };
    [join("/name").into(), join("/image").into(), selector.into()]
}

/// An int-or-percent that may not be negative, without its sign.
pub(super) fn amount(value: &Value) -> Result<i64, &'static str> {
    const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').ok_or(PERCENT)?;
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(PERCENT);
            }
            digits.parse().map_err(|_| PERCENT)
        }
        number => {
            let number = number.as_i64().filter(|number| 0 <= *number);
            number.ok_or("must be greater than or equal to 0")
        }
    }
}
