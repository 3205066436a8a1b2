//! What workloads share: a pod template, and the selector of its pods.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::metadata;
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Map, Value, json};

use super::accessors::{int, list, text};
use super::field_value::FieldValue;
use super::pod_spec;
use crate::http_annotations;

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

/// The template's metadata and pod spec, of pods that are started again for ever.
pub(super) fn check(object: &Value, kind: &str) -> Vec<FieldError> {
    let template = FieldValue::of(object, "spec").child("template");
    let mut errors = check_pods(&template);
    errors.extend(check_for_ever(&template, kind));
    errors
}

/// The metadata and pod spec of any template.
pub(super) fn check_pods(template: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let meta = template.child("metadata");
    if meta.is_there() {
        errors.extend(metadata::check_labels(meta.value, &meta.path));
        errors.extend(metadata::check_annotations(meta.value, &meta.path, None));
    }
    let pod = template.child("spec");
    errors.extend(pod_spec::check(pod.value, &pod.path));
    let come = pod.child("ephemeralContainers");
    if !come.is_empty() {
        errors.push(come.forbidden("ephemeral containers not allowed in pod template"));
    }
    errors
}

/// Pods that are always wanted are started again, and have no end.
pub(super) fn check_for_ever(template: &FieldValue<'_>, kind: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let pod = template.child("spec");
    let policy = pod.child("restartPolicy");
    if matches!(policy.text(), "OnFailure" | "Never") {
        errors.push(policy.not_supported(&["Always"]));
    }
    let deadline = pod.child("activeDeadlineSeconds");
    if deadline.is_there() {
        errors
            .push(deadline.forbidden(&format!("activeDeadlineSeconds in {kind} is not Supported")));
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
    warnings_of(&FieldValue::of(object, "spec").child("template"))
}

/// Warnings about the fields of any template.
pub(super) fn warnings_of(template: &FieldValue<'_>) -> Vec<String> {
    let (meta, pod) = (template.child("metadata"), template.child("spec"));
    let mut all = pod_spec::warnings(pod.value, &pod.path);
    all.extend(http_annotations::warnings(meta.value, &meta.path));
    all
}

/// Containers, Images and Selector.
pub(super) fn wide_cells(object: &Value) -> [Value; 3] {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let [names, images] = container_cells(spec);
    [names, images, selector_cell(spec.get("selector"))]
}

/// Containers and Images of the template in this.
pub(super) fn container_cells(holder: &Value) -> [Value; 2] {
    let containers = list(holder, "/template/spec/containers");
    let join = |key: &str| containers.iter().map(|c| text(c, key)).collect::<Vec<_>>().join(",");
    [join("/name").into(), join("/image").into()]
}

/// A LabelSelector as text.
pub(super) fn selector_cell(selector: Option<&Value>) -> Value {
    let selector = LabelSelector::from_json(selector, "").map(|s| s.to_string());
    or_none(selector.unwrap_or_default())
}

/// Labels as text.
pub(super) fn labels_cell(labels: Option<&Value>) -> Value {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", text(value, ""))).collect();
    or_none(pairs.join(","))
}

fn or_none(text: String) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// What a status counts may not be negative, and no part more than the whole.
pub(super) fn check_replicas(object: &Value, parts: &[&str]) -> Vec<FieldError> {
    let status = FieldValue::of(object, "status");
    let mut errors = Vec::new();
    let all = status.child("replicas").int().unwrap_or_default();
    for field in ["replicas", "observedGeneration"].iter().chain(parts) {
        errors.extend(status.child(field).at_least(0));
    }
    for part in parts.iter().map(|part| status.child(part)) {
        if part.int().is_some_and(|part| all < part) {
            errors.push(part.invalid("cannot be greater than status.replicas"));
        }
    }
    let (available, ready) = (status.child("availableReplicas"), status.child("readyReplicas"));
    if ready.int().unwrap_or_default() < available.int().unwrap_or_default() {
        errors.push(available.invalid("cannot be greater than readyReplicas"));
    }
    errors
}

/// How often names have clashed only grows.
pub(super) fn collisions_grow(new: &Value, old: &Value) -> Option<FieldError> {
    let count = |object| FieldValue::of(object, "status").child("collisionCount");
    let (now, was) = (count(new), count(old));
    let falls = now.int().unwrap_or_default() < was.int()?;
    falls.then(|| now.invalid("cannot be decremented"))
}

/// A number of pods, or a percentage of up to all of them.
pub(super) fn check_amount(at: &FieldValue<'_>) -> Vec<FieldError> {
    match amount(at.value) {
        Err(wrong) => vec![at.invalid(wrong)],
        Ok(percent) if at.value.is_string() && 100 < percent => {
            vec![at.invalid("must not be greater than 100%")]
        }
        Ok(_) => Vec::new(),
    }
}

/// Whether that is any pods at all.
pub(super) fn is_some(at: &FieldValue<'_>) -> bool {
    amount(at.value).is_ok_and(|amount| amount != 0)
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
