//! The pods of a DaemonSet: what is added to its template, and which node one is for. Pure.

use freewheel_hub_placement::PodRequest;
use freewheel_link::names::ClusterName;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::history::REVISION_LABEL;

/// Label and annotation of the older API: how many templates there were.
const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
/// What a daemon outlives: its device's silence and shortages, and a cordon.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NETWORK_UNAVAILABLE: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// Where a pod says which nodes it may be on.
const TERMS: &str =
    "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";

/// The generation of the older API, as far as the set has one.
pub(super) fn generation(set: &Value) -> Option<&str> {
    let text = set["metadata"]["annotations"].get(GENERATION_ANNOTATION)?.as_str()?;
    text.parse::<i64>().ok().map(|_| text)
}

/// Whether a pod with these labels is of the set's present template.
pub(super) fn is_updated<'a>(
    label: impl Fn(&str) -> Option<&'a str>,
    hash: &str,
    generation: Option<&str>,
) -> bool {
    label(REVISION_LABEL) == Some(hash)
        || generation.is_some_and(|it| label(GENERATION_LABEL) == Some(it))
}

/// The set's pods but for their nodes.
pub(super) fn pod_of(set: &Value, owner: &Value, hash: &str) -> Value {
    let template = &set["spec"]["template"];
    let meta = &template["metadata"];
    let name = set["metadata"]["name"].as_str().unwrap_or_default();
    let mut labels = meta["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(REVISION_LABEL.to_owned(), json!(hash));
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_owned(), json!(generation));
    }
    let mut spec = template["spec"].clone();
    tolerate(&mut spec);
    json!({
        "metadata": {
            "generateName": format!("{name}-"), "labels": labels, "annotations": meta["annotations"],
            "finalizers": meta["finalizers"], "ownerReferences": [owner],
        },
        "spec": spec,
    })
}

fn tolerate(spec: &mut Value) {
    let on_host = spec["hostNetwork"] == json!(true);
    let network = on_host.then_some(NETWORK_UNAVAILABLE);
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(list) = spec["tolerations"].as_array_mut() else { return };
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let wanted = json!({"key": key, "operator": "Exists", "effect": effect});
        let is_it = |one: &Value| {
            ["key", "operator", "effect"].iter().all(|field| one[*field] == wanted[*field])
                && one["value"].as_str().is_none_or(str::is_empty)
        };
        match list.iter_mut().find(|one| is_it(one)) {
            Some(one) => *one = wanted,
            None => list.push(wanted),
        }
    }
}

/// The same pod for this node: nothing else of its required node affinity counts any more.
pub(super) fn for_node(pod: &Value, node: &str) -> Value {
    let mut pod = pod.clone();
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    let spec = &mut pod["spec"];
    for (path, part) in [("/affinity", "affinity"), ("/affinity/nodeAffinity", "nodeAffinity")] {
        if spec.pointer(path).is_none_or(|there| !there.is_object()) {
            let above = if part == "affinity" { &mut *spec } else { &mut spec["affinity"] };
            above[part] = json!({});
        }
    }
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = required;
    pod
}

/// What the filters are asked with: the pod before it has a node.
pub(super) fn request(realm: &ClusterName, pod: &Value) -> Option<PodRequest> {
    let typed: Pod = serde_json::from_value(pod.clone()).ok()?;
    Some(PodRequest::read(realm.clone(), &typed))
}

/// The node that a pod is on, or is for.
pub(super) fn target(pod: &Value) -> Option<&str> {
    let bound = pod.pointer("/spec/nodeName").and_then(Value::as_str);
    if let Some(bound) = bound.filter(|node| !node.is_empty()) {
        return Some(bound);
    }
    let terms = pod.pointer(TERMS)?.as_array()?;
    let fields = terms.iter().filter_map(|term| term["matchFields"].as_array()).flatten();
    let mut names = fields.filter(|it| it["key"] == "metadata.name" && it["operator"] == "In");
    match names.next()?["values"].as_array()?.as_slice() {
        [name] => name.as_str(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Value {
        json!({
            "metadata": {"name": "agent", "annotations": {GENERATION_ANNOTATION: "3"}},
            "spec": {"template": {"metadata": {"labels": {"app": "agent"}}, "spec": {
                "tolerations": [
                    {"key": "mine", "operator": "Exists"},
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                        "effect": "NoExecute", "tolerationSeconds": 5},
                ],
                "containers": [],
            }}},
        })
    }

    #[test]
    fn a_pod_tolerates_what_a_daemon_outlives() {
        let pod = pod_of(&set(), &json!({}), "h");
        let list = pod["spec"]["tolerations"].as_array().unwrap();
        assert_eq!(list.len(), 7);
        assert_eq!(list[0]["key"], "mine");
        assert_eq!(
            list[1],
            json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}),
            "for ever, and not twice"
        );
        let mut on_host = set();
        on_host["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
        let pod = pod_of(&on_host, &json!({}), "h");
        assert_eq!(pod["spec"]["tolerations"][7]["key"], NETWORK_UNAVAILABLE.0);
    }

    #[test]
    fn a_pod_is_of_its_template_and_for_its_node() {
        let pod = pod_of(&set(), &json!({}), "h");
        let labels = &pod["metadata"]["labels"];
        assert_eq!(*labels, json!({"app": "agent", REVISION_LABEL: "h", GENERATION_LABEL: "3"}));
        let label = |key: &str| labels[key].as_str();
        assert!(is_updated(label, "h", None) && is_updated(label, "x", Some("3")));
        assert!(!is_updated(label, "x", Some("4")) && !is_updated(label, "x", None));
        assert_eq!(target(&pod), None);
        let pod = for_node(&pod, "pi-7");
        assert_eq!(target(&pod), Some("pi-7"));
        let mut elsewhere = for_node(&pod, "pi-8");
        assert_eq!(target(&elsewhere), Some("pi-8"), "what was required before counts no more");
        elsewhere["spec"]["nodeName"] = json!("pi-9");
        assert_eq!(target(&elsewhere), Some("pi-9"));
    }
}
