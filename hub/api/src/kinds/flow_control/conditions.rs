//! Conditions of both kinds.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

use crate::kinds::field_value::FieldValue;

/// Each has a type, and each type is there once.
pub(super) fn check(object: &Value) -> Vec<FieldError> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for condition in FieldValue::of(object, "status").child("conditions").items() {
        let kind = condition.child("type");
        errors.extend((!seen.insert(kind.text())).then(|| kind.duplicate()));
        errors.extend(kind.must_be());
    }
    errors
}
