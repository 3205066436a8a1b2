//! What a class says to its driver.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;

use crate::kinds::field_value::{FieldValue, Rule};

/// Most entries, and most bytes of all together.
const ENTRIES_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

/// Mistakes of a class's driver.
pub(super) fn check_driver(driver: &FieldValue<'_>) -> Vec<FieldError> {
    const LOWER: Rule = |name| names::qualified_name(&name.to_lowercase());
    driver.named(LOWER)
}

/// Mistakes of what is said to it.
pub(super) fn check(parameters: &FieldValue<'_>, may_be_empty: bool) -> Vec<FieldError> {
    let (mut entries, mut bytes) = (0, 0);
    let mut errors = Vec::new();
    for (key, value) in parameters.entries() {
        entries += 1;
        bytes += key.len() + value.text().len();
        if key.is_empty() {
            let text = "field can not be empty.";
            errors.push(FieldError::invalid(&*parameters.path, &key.into(), text));
        }
    }
    if ENTRIES_MAX < entries {
        return vec![FieldError::too_long(&*parameters.path, ENTRIES_MAX)];
    }
    if PARAMETERS_BYTES_MAX < bytes {
        errors.push(FieldError::too_long(&*parameters.path, PARAMETERS_BYTES_MAX));
    }
    if !may_be_empty && entries == 0 {
        errors.push(parameters.required("must contain at least one key/value pair"));
    }
    errors
}
