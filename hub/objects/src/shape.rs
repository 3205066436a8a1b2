//! What a writer sent becomes what is stored: defaulted, valid.

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::{metadata, schema};
use serde_json::Value;

use super::{Canonical, Place, meta};

/// Fills in defaults.
pub(super) fn default(value: &mut Canonical, kind: &Kind) {
    let value = value.rules();
    schema::apply_defaults(value, kind);
    kind.strategy.default(value);
}

/// Refuses a new object with every mistake it has.
pub(super) fn check_new(value: &Value, place: &Place) -> Result<(), ApiError> {
    let kind = &place.kind;
    let mut errors = metadata::validate(kind, value, &place.namespace);
    errors.extend(kind.strategy.validate(value));
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind.group(), kind.kind(), meta::text(value, "name"), &errors))
}

/// Refuses a change with every mistake it makes; those that were there before are nobody's fault.
pub(super) fn check_change(
    subresource: Option<&str>,
    new: &Value,
    old: &Value,
    place: &Place,
) -> Result<(), ApiError> {
    let kind = &place.kind;
    let mistakes = |value: &Value| {
        let mut errors = metadata::validate(kind, value, &place.namespace);
        errors.extend(kind.strategy.validate(value));
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
