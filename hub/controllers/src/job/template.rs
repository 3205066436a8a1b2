//! The pod that a Job's template describes.

use serde_json::{Value, json};

use super::decide::Slot;
use super::observe::{
    COMPLETION_INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, TRACKING_FINALIZER,
};

/// Longest name before what makes it unique.
const PREFIX_MAX: usize = 58;
/// Tells a container which completion it is for.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// The pod for a slot, of the Job's `spec.template`.
#[must_use]
pub fn pod(job: &str, template: &Value, owner: &Value, slot: &Slot) -> Value {
    let meta = &template["metadata"];
    let mut finalizers = meta["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|name| name == TRACKING_FINALIZER) {
        finalizers.push(TRACKING_FINALIZER.into());
    }
    let mut pod = json!({
        "metadata": {
            "generateName": format!("{job}-"), "labels": meta["labels"], "annotations": meta["annotations"],
            "finalizers": finalizers, "ownerReferences": [owner],
        },
        "spec": template["spec"],
    });
    if let Some(index) = slot.index {
        number(&mut pod, job, index);
    }
    if let Some((counted, ignored)) = slot.failures {
        let notes = &mut pod["metadata"]["annotations"];
        notes[INDEX_FAILURES] = counted.to_string().into();
        if 0 < ignored {
            notes[INDEX_IGNORED_FAILURES] = ignored.to_string().into();
        }
    }
    pod
}

fn number(pod: &mut Value, job: &str, index: u32) {
    let end = format!("-{index}-");
    let mut prefix: String = job.to_owned();
    prefix.truncate(PREFIX_MAX.saturating_sub(end.len()));
    pod["metadata"]["generateName"] = format!("{prefix}{end}").into();
    for map in ["annotations", "labels"] {
        pod["metadata"][map][COMPLETION_INDEX] = index.to_string().into();
    }
    pod["spec"]["hostname"] = format!("{job}-{index}").into();
    let path = format!("metadata.labels['{COMPLETION_INDEX}']");
    let variable = json!({"name": INDEX_VARIABLE,
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            match container["env"].as_array_mut() {
                Some(env) if env.iter().any(|one| one["name"] == INDEX_VARIABLE) => {}
                Some(env) => env.push(variable.clone()),
                None => container["env"] = json!([variable]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_pod_knows_its_number() {
        let own = json!([{"name": INDEX_VARIABLE, "value": "mine"}]);
        let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "c", "env": own}]}});
        let slot = Slot { index: Some(3), failures: Some((2, 1)) };
        let made = pod("pi", &template, &json!({"uid": "u"}), &slot);
        let meta = &made["metadata"];
        assert_eq!(meta["generateName"], "pi-3-");
        assert_eq!(meta["labels"], json!({"app": "x", COMPLETION_INDEX: "3"}));
        let notes =
            json!({COMPLETION_INDEX: "3", INDEX_FAILURES: "2", INDEX_IGNORED_FAILURES: "1"});
        assert_eq!(meta["annotations"], notes);
        assert_eq!(meta["finalizers"], json!([TRACKING_FINALIZER]));
        assert_eq!(made["spec"]["hostname"], "pi-3");
        assert_eq!(made["spec"]["containers"][0]["env"], own);
        let path = "metadata.labels['batch.kubernetes.io/job-completion-index']";
        let env = &made["spec"]["initContainers"][0]["env"][0];
        assert_eq!(env["valueFrom"]["fieldRef"]["fieldPath"], path);
        let long = pod(&"x".repeat(63), &template, &json!({}), &slot);
        assert_eq!(long["metadata"]["generateName"], format!("{}-3-", "x".repeat(55)));
    }

    #[test]
    fn a_plain_pod_has_no_number() {
        let template = json!({"spec": {"containers": [{"name": "c"}]}});
        let made = pod("pi", &template, &json!({"uid": "u"}), &Slot::default());
        assert_eq!(made["metadata"]["generateName"], "pi-");
        assert_eq!(made["spec"], template["spec"]);
        assert!(made["metadata"]["annotations"].is_null());
    }
}
