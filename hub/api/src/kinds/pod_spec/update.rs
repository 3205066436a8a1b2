//! What a pod may still change once it exists.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use serde_json::{Map, Value, json};

use super::super::accessors::{list, text};

const ALLOWED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Mistakes of a change to a Pod through its main door.
pub(crate) fn check_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (Some(now), Some(before)) = (spec(new), spec(old)) else { return Vec::new() };
    let mut errors = Vec::new();
    for name in ["containers", "initContainers"] {
        let count = |spec: &Map<String, Value>| {
            spec.get(name).and_then(Value::as_array).map_or(0, Vec::len)
        };
        if count(now) != count(before) {
            let text = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(format!("spec.{name}"), text));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    errors.extend(check_deadline(now, before));
    errors.extend(check_tolerations(new, old));
    errors.extend(check_gates(new, old));
    let (masked_now, masked_before) = (masked(now, before), before.clone());
    if masked_now != masked_before {
        let differs = |key: &&String| masked_now.get(*key) != masked_before.get(*key);
        let mut fields: Vec<&String> =
            masked_now.keys().chain(masked_before.keys()).filter(differs).collect();
        fields.sort_unstable();
        fields.dedup();
        let all: Vec<_> = fields.into_iter().map(|f| format!("spec.{f}")).collect();
        let text = format!("{ALLOWED}\nchanged: {}", all.join(", "));
        errors.push(FieldError::forbidden("spec", &text));
    }
    errors
}

fn spec(object: &Value) -> Option<&Map<String, Value>> {
    object.get("spec")?.as_object()
}

/// The new spec with everything that may change as it was.
fn masked(now: &Map<String, Value>, before: &Map<String, Value>) -> Map<String, Value> {
    let mut out = now.clone();
    for name in ["containers", "initContainers"] {
        let was = before.get(name).and_then(Value::as_array);
        let is = out.get_mut(name).and_then(Value::as_array_mut);
        for (container, was) in is.into_iter().flatten().zip(was.into_iter().flatten()) {
            if let (Some(container), Some(image)) = (container.as_object_mut(), was.get("image")) {
                container.insert("image".to_owned(), image.clone());
            }
        }
    }
    let grace = |spec: &Map<String, Value>| {
        spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default()
    };
    let mut keep = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if grace(before) < 0 && grace(now) == 1 {
        keep.push("terminationGracePeriodSeconds");
    }
    for key in keep {
        match before.get(key) {
            Some(value) => out.insert(key.to_owned(), value.clone()),
            None => out.remove(key),
        };
    }
    out
}

fn check_deadline(now: &Map<String, Value>, before: &Map<String, Value>) -> Option<FieldError> {
    let read =
        |spec: &Map<String, Value>| spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    let at = "spec.activeDeadlineSeconds";
    match (read(now), read(before)) {
        (Some(new), Some(old)) if new > old => {
            let text = "must be less than or equal to previous value";
            Some(FieldError::invalid(at, &json!(new), text))
        }
        (None, Some(_)) => {
            let text = "must not update from a positive integer to nil value";
            Some(FieldError::invalid(at, &Value::Null, text))
        }
        _ => None,
    }
}

fn check_tolerations(new: &Value, old: &Value) -> Option<FieldError> {
    let but_seconds = |toleration: &Value| {
        let read =
            |key: &str| toleration.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        (read("key"), read("operator"), read("value"), read("effect"))
    };
    let now: BTreeSet<_> = list(new, "/spec/tolerations").iter().map(but_seconds).collect();
    let gone = list(old, "/spec/tolerations").iter().any(|was| !now.contains(&but_seconds(was)));
    let text = "existing toleration can not be modified except its tolerationSeconds";
    gone.then(|| FieldError::forbidden("spec.tolerations", text))
}

/// Gates go one by one, until the scheduler may look at the pod; none comes back.
fn check_gates(new: &Value, old: &Value) -> Vec<FieldError> {
    let before = list(old, "/spec/schedulingGates");
    let gates = list(new, "/spec/schedulingGates").iter().enumerate();
    let added = gates.filter(|(_, gate)| !before.contains(gate));
    let error = |(i, gate): (usize, &Value)| {
        let name = text(gate, "/name");
        let text = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        FieldError::forbidden(format!("spec.schedulingGates[{i}].name"), &text)
    };
    added.map(error).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"spec": {
            "containers": [{"name": "c", "image": "i"}], "activeDeadlineSeconds": 10,
            "tolerations": [{"key": "a", "operator": "Exists"}], "nodeName": "pi-7",
            "schedulingGates": [{"name": "a/b"}, {"name": "a/c"}],
        }})
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Value), field: Option<&str>) {
        let mut new = pod();
        change(&mut new["spec"]);
        let errors = check_update(&new, &pod());
        assert_eq!(errors.first().map(|e| e.field.as_str()), field, "{errors:?}");
    }

    #[test]
    fn a_pod_changes_little() {
        check(|_| {}, None);
        check(|spec| spec["containers"][0]["image"] = json!("j"), None);
        check(|spec| spec["activeDeadlineSeconds"] = json!(5), None);
        check(
            |spec| spec["tolerations"] = json!([{"key": "b"}, {"key": "a", "operator": "Exists"}]),
            None,
        );
        check(|spec| spec["schedulingGates"] = json!([{"name": "a/c"}]), None);
        check(|spec| drop(spec.as_object_mut().unwrap().remove("schedulingGates")), None);
        check(
            |spec| spec["schedulingGates"] = json!([{"name": "a/d"}]),
            Some("spec.schedulingGates[0].name"),
        );
        check(|spec| spec["activeDeadlineSeconds"] = json!(50), Some("spec.activeDeadlineSeconds"));
        check(|spec| spec["tolerations"] = json!([]), Some("spec.tolerations"));
        check(|spec| spec["containers"] = json!([]), Some("spec.containers"));
        check(|spec| spec["nodeName"] = json!("pi-8"), Some("spec"));
        check(|spec| spec["containers"][0]["env"] = json!([{"name": "A"}]), Some("spec"));
    }
}
