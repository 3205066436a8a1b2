//! The doors of a pod by which one thing of its spec changes while it runs.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::{keep, keep_metadata};
use serde_json::Value;

use super::super::pod_spec;

/// What a node shows of what it runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What these doors leave as it is, whoever owns it.
pub(super) const RESET: &[&[&str]] = &[
    &["status"],
    &["metadata", "annotations"],
    &["metadata", "finalizers"],
    &["metadata", "labels"],
    &["metadata", "ownerReferences"],
];

/// All but the one thing as it was, and what is to say of that.
pub(super) fn keep_the_rest(door: &str, new: &mut Value, old: &Value) {
    keep(new, old, "status");
    for field in ["annotations", "finalizers", "labels", "ownerReferences"] {
        keep_metadata(new, old, field);
    }
    if door == "resize" {
        pod_spec::keep_all_but_resources(new, old);
        return;
    }
    let come = new.pointer_mut("/spec/ephemeralContainers").map(Value::take);
    keep(new, old, "spec");
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    match come.filter(|come| !come.is_null()) {
        Some(come) => spec.insert("ephemeralContainers".to_owned(), come),
        None => spec.remove("ephemeralContainers"),
    };
    pod_spec::put_ephemeral_statuses(new);
}

/// Every mistake of a change by such a door.
pub(super) fn check(door: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let annotations = old.pointer("/metadata/annotations");
    let is_mirror = annotations.is_some_and(|all| all.get(MIRROR).is_some());
    match (door, is_mirror) {
        ("resize", false) => pod_spec::check_resize(new, old),
        ("resize", true) => vec![FieldError::forbidden("", "static pods cannot be resized")],
        (_, false) => pod_spec::check_ephemeral_change(new, old),
        (_, true) => {
            let text = "static pods do not support ephemeral containers";
            vec![FieldError::forbidden("", text)]
        }
    }
}
