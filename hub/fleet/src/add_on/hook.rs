//! What may be done before an add-on goes: kinds that come to an end, and what a work tells of them then. One that fails has
//! not come to its end, and is waited for, as upstream.
//!
//! Guarantees:
//! - a Job of `batch` and a Pod alone are hooks: of nothing else a work tells the end, whatever it is called and says
//!   (`what_has_no_end_is_no_hook`).

use serde_json::Value;

const ANNOTATION: &str = "addon.open-cluster-management.io/addon-pre-delete";
const LABEL: &str = "open-cluster-management.io/addon-pre-delete";

/// A kind of hooks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hook {
    group: &'static str,
    kind: &'static str,
    pub(super) plural: &'static str,
    /// The value that says how far one is.
    pub(super) value: &'static str,
    /// What it is at the end.
    pub(super) done: &'static str,
}

static HOOKS: [Hook; 2] = [
    Hook { group: "batch", kind: "Job", plural: "jobs", value: "JobComplete", done: "True" },
    Hook { group: "", kind: "Pod", plural: "pods", value: "PodPhase", done: "Succeeded" },
];

impl Hook {
    /// What a manifest is that says that it is a hook.
    pub(super) fn of(manifest: &Value) -> Option<&'static Self> {
        let version = manifest["apiVersion"].as_str().unwrap_or_default();
        let (group, _) = version.split_once('/').unwrap_or(("", version));
        let is = |one: &&Self| group == one.group && manifest["kind"] == one.kind;
        let found = HOOKS.iter().find(is)?;
        let meta = &manifest["metadata"];
        let says = [("annotations", ANNOTATION), ("labels", LABEL)];
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
        let of = |(version, kind): (&str, &str), map: &str, key: &str| {
            let meta = json!({map: {key: ""}});
            let manifest = json!({"apiVersion": version, "kind": kind, "metadata": meta});
            Hook::of(&manifest).map(|hook| hook.plural)
        };
        let (job, pod) = (("batch/v1", "Job"), ("v1", "Pod"));
        assert_eq!(of(job, "annotations", ANNOTATION), Some("jobs"));
        assert_eq!(of(("batch/v1beta1", "Job"), "annotations", ANNOTATION), Some("jobs"));
        assert_eq!(of(pod, "annotations", ANNOTATION), Some("pods"));
        assert_eq!(of(pod, "labels", LABEL), Some("pods"));
        assert_eq!(of(job, "annotations", LABEL), None);
        assert_eq!(of(job, "labels", ANNOTATION), None, "upstream's label has another name");
        assert_eq!(of(("apps/v1", "Deployment"), "annotations", ANNOTATION), None);
        for foreign in
            [("batch.volcano.sh/v1alpha1", "Job"), ("example.com/v1", "Pod"), ("v1", "Job")]
        {
            assert_eq!(of(foreign, "annotations", ANNOTATION), None, "{foreign:?}");
        }
        assert_eq!(Hook::of_resource("jobs").map(|hook| hook.kind), Some("Job"));
        assert_eq!(Hook::of_resource("deployments"), None);
    }
}
