//! Conditions of a request: who may say what of it.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

use super::super::accessors::{child, list, text};

/// What the door `approval` alone may say.
pub(super) const DECISIONS: &[&str] = &["Approved", "Denied"];

pub(super) fn of_type<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = list(object, "/status/conditions").iter();
    all.filter(|condition| text(condition, "/type") == kind).collect()
}

pub(super) fn put_conditions(object: &mut Value, conditions: Option<Value>) {
    let conditions =
        conditions.filter(|conditions| conditions.as_array().is_some_and(|list| !list.is_empty()));
    let Some(status) = child(object, "status") else { return };
    match conditions {
        Some(conditions) => status.insert("conditions".to_owned(), conditions),
        None => status.remove("conditions"),
    };
}

/// A decision that is told again stays as it was made.
pub(super) fn keep_decision(new: &mut Value, old: &Value, kind: &str) {
    let was: Vec<Value> = of_type(old, kind).into_iter().cloned().collect();
    if was.len() != of_type(new, kind).len() {
        // That is a change, which the rules refuse.
        return;
    }
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    let same = conditions.into_iter().flatten().filter(|c| text(c, "/type") == kind);
    for (slot, was) in same.zip(was) {
        *slot = was;
    }
}

pub(super) fn check_conditions(conditions: &[Value]) -> Vec<FieldError> {
    const ANY: &[&str] = &["False", "True", "Unknown"];
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = format!("status.conditions[{i}]");
        let (kind, status) = (text(condition, "/type"), text(condition, "/status"));
        if kind.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), ""));
        }
        let final_ = DECISIONS.contains(&kind) || kind == "Failed";
        let allowed = if final_ { &["True"][..] } else { ANY };
        if status.is_empty() {
            errors.push(FieldError::required(format!("{path}.status"), ""));
        } else if !allowed.contains(&status) {
            let at = format!("{path}.status");
            errors.push(FieldError::not_supported(at, &json!(status), allowed));
        }
        let other = DECISIONS.iter().find(|other| DECISIONS.contains(&kind) && **other != kind);
        if other.is_some_and(|other| taken.contains(other)) {
            let text = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(format!("{path}.type"), &json!(kind), text));
        }
        if !taken.insert(kind) {
            errors.push(FieldError::duplicate(format!("{path}.type"), &json!(kind)));
        }
    }
    errors
}
