//! What volumes say alike, wherever they stand: names of their drivers, what a node has at a path.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;

use super::field_value::{FieldValue, Rule};

/// What may stand at a path of a node.
pub(super) const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// A CSI driver's name is a domain in any case.
pub(super) fn check_driver(driver: &FieldValue<'_>) -> Vec<FieldError> {
    const LOWER: Rule = |name| names::dns_subdomain(&name.to_lowercase());
    if driver.is_empty() {
        return vec![driver.required("")];
    }
    let mut errors: Vec<_> = driver.no_longer(names::LABEL_MAX).into_iter().collect();
    errors.extend(driver.follows(LOWER));
    errors
}
