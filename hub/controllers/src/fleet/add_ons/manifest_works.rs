//! What works of add-ons say, and what is said of add-ons by that.

use std::borrow::Cow;

use freewheel_hub_api::conditions::{ADD_ON_MANIFESTS_APPLIED, Condition};

/// Label of a work: the add-on that it is of.
pub(super) const NAME_LABEL: &str = "open-cluster-management.io/addon-name";
/// Annotation of a work: by what it is made, each with its digest.
pub(super) const HASHES: &str = "open-cluster-management.io/config-spec-hash";

/// What is said of the manifests of an add-on.
pub(super) fn applied(
    is: bool,
    reason: &'static str,
    text: impl Into<Cow<'static, str>>,
) -> Condition<'static> {
    Condition::new(&ADD_ON_MANIFESTS_APPLIED, is, reason, text)
}
