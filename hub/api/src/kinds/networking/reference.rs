//! References to objects of any kind.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;

use crate::kinds::field_value::FieldValue;

/// Mistakes of `apiGroup`, `kind` and `name`.
pub(super) fn check(reference: &FieldValue<'_>) -> Vec<FieldError> {
    let group = reference.child("apiGroup");
    let mut errors = Vec::new();
    if group.is_there() {
        errors.extend(group.follows(names::dns_subdomain));
    }
    errors.extend(reference.child("kind").named(names::path_segment));
    errors.extend(reference.child("name").named(names::path_segment));
    errors
}
