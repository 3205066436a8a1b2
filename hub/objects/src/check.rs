//! What is stored is valid: every mistake that a write makes.

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::metadata;
use serde_json::Value;

use super::{ObjectRef, meta};

/// Refuses a new object with every mistake it has.
pub(super) fn new(value: &Value, target: &ObjectRef) -> Result<(), ApiError> {
    let kind = &target.kind;
    let mut errors = metadata::validate(kind, value, &target.namespace);
    errors.extend(kind.strategy.validate(value));
    errors.extend(kind.strategy.validate_create(value));
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind.group(), kind.kind(), meta::text(value, "name"), &errors))
}

/// Refuses a change with every mistake it makes; those that were there before are nobody's fault.
pub(super) fn change(
    subresource: Option<&str>,
    new: &Value,
    old: &Value,
    target: &ObjectRef,
) -> Result<(), ApiError> {
    let kind = &target.kind;
    let compares = kind.strategy.compares();
    let mistakes = |value: &Value| {
        let mut errors = metadata::validate(kind, value, &target.namespace);
        if !compares {
            errors.extend(kind.strategy.validate(value));
        }
        errors
    };
    let mut errors = mistakes(new);
    if !errors.is_empty() {
        // A rule that came after the object keeps nobody from writing its status or letting it go.
        let known = mistakes(old);
        errors.retain(|error| !known.contains(error));
    }
    errors.extend(metadata::validate_update(new, old));
    errors.extend(kind.strategy.validate_update(subresource, new, old));
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind.group(), kind.kind(), meta::text(new, "name"), &errors))
}
