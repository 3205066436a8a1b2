//! What may be done before an add-on goes: kinds that come to an end, and what a work tells of them then.
//!
//! Guarantees:
//! - what does not come to an end is no hook, whatever it says (`what_has_no_end_is_no_hook`).

use serde_json::Value;

const ANNOTATION: &str = "addon.open-cluster-management.io/addon-pre-delete";
const LABEL: &str = "open-cluster-management.io/addon-pre-delete";

/// A kind of hooks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hook {
    kind: &'static str,
    pub(super) plural: &'static str,
    /// The value that says how far one is.
    pub(super) value: &'static str,
    /// What it is at the end.
    pub(super) done: &'static str,
}

static HOOKS: [Hook; 2] = [
    Hook { kind: "Job", plural: "jobs", value: "JobComplete", done: "True" },
    Hook { kind: "Pod", plural: "pods", value: "PodPhase", done: "Succeeded" },
];

impl Hook {
    /// What a manifest is that says that it is a hook.
    pub(super) fn of(manifest: &Value) -> Option<&'static Self> {
        let found = HOOKS.iter().find(|one| manifest["kind"] == one.kind)?;
        let meta = &manifest["metadata"];
        let says = [("annotations", ANNOTATION), ("labels", ANNOTATION), ("labels", LABEL)];
        says.iter().any(|(map, key)| !meta[map][key].is_null()).then_some(found)
    }

    /// The kind of this plural.
    pub(super) fn of_resource(plural: &str) -> Option<&'static Self> {
        HOOKS.iter().find(|one| one.plural == plural)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_no_end_is_no_hook() {
        let of = |kind: &str, map: &str, key: &str| {
            let manifest = json!({"kind": kind, "metadata": {map: {key: ""}}});
            Hook::of(&manifest).map(|hook| hook.plural)
        };
        assert_eq!(of("Job", "annotations", ANNOTATION), Some("jobs"));
        assert_eq!(of("Pod", "labels", ANNOTATION), Some("pods"));
        assert_eq!(of("Pod", "labels", LABEL), Some("pods"));
        assert_eq!(of("Job", "annotations", LABEL), None);
        assert_eq!(of("Deployment", "annotations", ANNOTATION), None);
        assert_eq!(Hook::of_resource("jobs").map(|hook| hook.kind), Some("Job"));
        assert_eq!(Hook::of_resource("deployments"), None);
    }
}
