//! The works that a template comes to on a cluster: what it is made of, and what is done before it goes.
//!
//! Guarantees:
//! - a workload is watched whatever else is asked of it (`workloads_are_watched`);
//! - hooks are not there before the add-on goes (`hooks_are_kept_for_the_end`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::configs::Reference;
use super::hook::Hook;
use super::workload::Workload;

const ORPHAN: &str = "addon.open-cluster-management.io/deletion-orphan";

/// What of the manifests is there while the add-on is, as a work's spec; nothing, when that is nothing.
#[must_use]
pub fn deployed(manifests: &[Value], template: &Value) -> Option<Value> {
    let own: Vec<&Value> = manifests.iter().filter(|it| Hook::of(it).is_none()).collect();
    if own.is_empty() {
        return None;
    }
    let mut spec = json!({"workload": {"manifests": own}});
    let configs = configs(&own, template);
    if !configs.is_empty() {
        spec["manifestConfigs"] = json!(configs);
    }
    let orphans: Vec<Value> = own.iter().filter(|it| is_orphaned(it)).map(|it| rule(it)).collect();
    if !orphans.is_empty() {
        spec["deleteOption"] = json!({"propagationPolicy": "SelectivelyOrphan",
            "selectivelyOrphans": {"orphaningRules": orphans}});
    }
    Some(spec)
}

/// What is done before the add-on goes, as a work's spec; nothing, when that is nothing.
#[must_use]
pub fn hooks(manifests: &[Value]) -> Option<Value> {
    let own: Vec<(&Value, &Hook)> =
        manifests.iter().filter_map(|it| Some((it, Hook::of(it)?))).collect();
    let config = |(manifest, hook): &(&Value, &Hook)| watched(manifest, hook.plural);
    let configs: Vec<Value> = own.iter().map(config).collect();
    let own: Vec<&Value> = own.into_iter().map(|(manifest, _)| manifest).collect();
    (!own.is_empty()).then(|| json!({"workload": {"manifests": own}, "manifestConfigs": configs}))
}

/// Whether all that was to be done before is done, as the work says it.
#[must_use]
pub fn hooks_are_done(work: &Value) -> bool {
    let conditions = work["status"]["conditions"].as_array().into_iter().flatten();
    let is_there =
        conditions.into_iter().any(|it| it["type"] == "Available" && it["status"] == "True");
    let configs = work["spec"]["manifestConfigs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_done = |config: &Value| {
        let one = &config["resourceIdentifier"];
        let hook = Hook::of_resource(one["resource"].as_str().unwrap_or_default());
        hook.is_some_and(|hook| value(work, one, hook.value)["string"] == hook.done)
    };
    is_there && !configs.is_empty() && configs.iter().all(is_done)
}

/// The annotation `open-cluster-management.io/config-spec-hash` of a work that is made by these.
#[must_use]
pub fn hashes(references: &[Reference]) -> Option<String> {
    let of = |it: &Reference| (it.desired.config.text(), it.desired.hash.clone());
    let all: BTreeMap<String, String> = references.iter().map(of).collect();
    (!all.is_empty()).then(|| json!(all).to_string())
}

/// A value that a work tells of a manifest.
pub(super) fn value<'a>(work: &'a Value, of: &Value, name: &str) -> &'a Value {
    static NOTHING: Value = Value::Null;
    let all = work["status"]["resourceStatus"]["manifests"].as_array().into_iter().flatten();
    let is = |manifest: &&Value| {
        let keys = ["group", "resource", "name", "namespace"];
        let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
        keys.iter().all(|key| text(&manifest["resourceMeta"], key) == text(of, key))
    };
    let values = all.into_iter().find(is).map(|manifest| &manifest["statusFeedback"]["values"]);
    let mut values = values.and_then(Value::as_array).into_iter().flatten();
    values.find(|it| it["name"] == name).map_or(&NOTHING, |it| &it["fieldValue"])
}

fn is_orphaned(manifest: &Value) -> bool {
    !manifest["metadata"]["annotations"][ORPHAN].is_null()
}

fn group(manifest: &Value) -> &str {
    let version = manifest["apiVersion"].as_str().unwrap_or_default();
    version.split_once('/').map_or("", |(group, _)| group)
}

/// The plural that a kind most likely has, as upstream guesses it.
fn guessed_plural(manifest: &Value) -> String {
    let kind = manifest["kind"].as_str().unwrap_or_default().to_lowercase();
    if kind == "endpoints" {
        return kind;
    }
    match (kind.strip_suffix('y'), kind.ends_with('s')) {
        (Some(stem), _) => format!("{stem}ies"),
        (None, true) => format!("{kind}es"),
        (None, false) => format!("{kind}s"),
    }
}

fn rule(manifest: &Value) -> Value {
    identifier(manifest, &guessed_plural(manifest))
}

fn identifier(manifest: &Value, resource: &str) -> Value {
    let mut out = json!({"group": group(manifest), "resource": resource});
    for key in ["name", "namespace"] {
        if let Some(text) = manifest["metadata"][key].as_str() {
            out[key] = json!(text);
        }
    }
    out
}

fn watched(manifest: &Value, resource: &str) -> Value {
    let rule = json!({"type": "WellKnownStatus"});
    json!({"resourceIdentifier": identifier(manifest, resource), "feedbackRules": [rule]})
}

/// How manifests are treated: workloads are watched, and the template says the rest.
fn configs(manifests: &[&Value], template: &Value) -> Vec<Value> {
    let workloads = manifests.iter().filter_map(|it| Some((it, Workload::of(it)?)));
    let mut out: Vec<Value> =
        workloads.map(|(it, workload)| watched(it, workload.plural)).collect();
    let configs = template["agentSpec"]["manifestConfigs"].as_array().into_iter().flatten();
    for config in configs {
        let same = |it: &&mut Value| it["resourceIdentifier"] == config["resourceIdentifier"];
        let Some(own) = out.iter_mut().find(same) else {
            out.push(config.clone());
            continue;
        };
        let rules = own["feedbackRules"].take();
        *own = config.clone();
        let more = config["feedbackRules"].as_array().into_iter().flatten();
        let more = more.filter(|rule| rule["type"] != "WellKnownStatus").cloned();
        let rules = rules.as_array().cloned().unwrap_or_default();
        own["feedbackRules"] = rules.into_iter().chain(more).collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "addon.open-cluster-management.io/addon-pre-delete";

    fn named(version: &str, kind: &str, annotation: &str) -> Value {
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "n",
            "annotations": {annotation: ""}}})
    }

    #[test]
    fn workloads_are_watched() {
        let identifier =
            json!({"group": "apps", "resource": "deployments", "name": "a", "namespace": "n"});
        let path = json!({"type": "JSONPaths", "jsonPaths": [{"name": "x", "path": ".x"}]});
        let template = json!({"agentSpec": {"manifestConfigs": [
            {"resourceIdentifier": identifier, "feedbackRules": [path], "updateStrategy": {"type": "CreateOnly"}},
            {"resourceIdentifier": {"group": "", "resource": "configmaps", "name": "m"}}]}});
        let spec = deployed(&[named("apps/v1", "Deployment", "x")], &template).unwrap();
        assert_eq!(
            spec["manifestConfigs"],
            json!([
                {"resourceIdentifier": identifier, "feedbackRules": [{"type": "WellKnownStatus"}, path],
                    "updateStrategy": {"type": "CreateOnly"}},
                {"resourceIdentifier": {"group": "", "resource": "configmaps", "name": "m"}}])
        );
        assert!(deployed(&[], &template).is_none());
        let plural = |kind: &str| guessed_plural(&json!({"kind": kind}));
        let plurals = ["Endpoints", "NetworkPolicy", "Ingress", "Pod"].map(plural);
        assert_eq!(plurals, ["endpoints", "networkpolicies", "ingresses", "pods"]);
        let orphan = deployed(&[named("v1", "ConfigMap", ORPHAN)], &Value::Null).unwrap();
        assert_eq!(
            orphan["deleteOption"]["selectivelyOrphans"]["orphaningRules"],
            json!([{"group": "", "resource": "configmaps", "name": "a", "namespace": "n"}])
        );
    }

    #[test]
    fn hooks_are_kept_for_the_end() {
        let all = [named("batch/v1", "Job", HOOK), named("v1", "ConfigMap", HOOK)];
        let spec = deployed(&all, &Value::Null).unwrap();
        assert_eq!(spec["workload"]["manifests"].as_array().unwrap().len(), 1);
        let hooks = hooks(&all).unwrap();
        assert_eq!(hooks["workload"]["manifests"][0]["kind"], "Job");
        assert!(super::hooks(&[named("v1", "Pod", "x")]).is_none());
        let work = |complete: &str| {
            let meta = json!({"group": "batch", "resource": "jobs", "name": "a", "namespace": "n"});
            let values = json!([{"name": "JobComplete", "fieldValue": {"type": "String", "string": complete}}]);
            json!({"spec": hooks, "status": {"conditions": [{"type": "Available", "status": "True"}],
                "resourceStatus": {"manifests": [{"resourceMeta": meta, "statusFeedback": {"values": values}}]}}})
        };
        assert!(hooks_are_done(&work("True")) && !hooks_are_done(&work("False")));
        assert!(!hooks_are_done(&json!({"spec": hooks})));
    }
}
