//! What a node writes of nodes: of its own, without what steers pods.

use std::collections::BTreeSet;

use freewheel_hub_objects::{Refusal, Verb};
use serde_json::Value;

use super::write::{Judged, NodeWrite, same};

/// Labels of Kubernetes' that a node says of itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
/// Domains of Kubernetes' that are a node's.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Domains of Kubernetes'.
const DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];
/// The domain that is no node's.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

pub(super) fn admit(write: &NodeWrite<'_>) -> Judged {
    let NodeWrite { node, object, .. } = *write;
    let name = write.name();
    let refused = |why: String| Err(Refusal::forbidden(why));
    if name != node {
        return refused(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let source = object.pointer("/spec/configSource").filter(|source| !source.is_null());
    let old = write.review.old;
    let labels = forbidden(object, old);
    match write.review.verb {
        Verb::Create if source.is_some() => refused(format!(
            "node {node:?} is not allowed to create pods with a non-nil configSource"
        )),
        Verb::Create if !labels.is_empty() => {
            refused(format!("node {node:?} is not allowed to set the following labels: {labels}"))
        }
        Verb::Create | Verb::Delete | Verb::Connect => Ok(()),
        Verb::Update => {
            let old = |path: &str| old.and_then(|old| old.pointer(path));
            let changes = |path: &str| !same(old(path), object.pointer(path));
            if source.is_some() && changes("/spec/configSource") {
                return refused(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            for (path, what) in
                [("/spec/taints", "taints"), ("/metadata/ownerReferences", "ownerReferences")]
            {
                if changes(path) {
                    return refused(format!("node {node:?} is not allowed to modify {what}"));
                }
            }
            if labels.is_empty() {
                return Ok(());
            }
            refused(format!("is not allowed to modify labels: {labels}"))
        }
    }
}

/// Labels that come, go or change, and are not the node's to say, in their order.
fn forbidden(new: &Value, old: Option<&Value>) -> String {
    let labels = |object: Option<&Value>| {
        let labels = object.and_then(|object| object.pointer("/metadata/labels"));
        labels.and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (new, old) = (labels(Some(new)), labels(old));
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys.into_iter().filter(|key| new.get(*key) != old.get(*key));
    changed.filter(|key| is_forbidden(key)).cloned().collect::<Vec<_>>().join(", ")
}

fn is_forbidden(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_in = |suffix: &&str| {
        domain.strip_suffix(*suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let own = OWN_LABELS.contains(&key) || OWN_DOMAINS.iter().any(is_in);
    is_in(&RESTRICTED) || DOMAINS.iter().any(is_in) && !own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_others_decide_by_are_not_the_nodes() {
        for (key, is) in [
            ("site", false),
            ("example.com/site", false),
            ("notkubernetes.io/x", false),
            ("kubernetes.io/hostname", false),
            ("node.kubernetes.io/x", false),
            ("x.node.kubernetes.io/x", false),
            ("kubelet.kubernetes.io/x", false),
            ("topology.kubernetes.io/zone", false),
            ("topology.kubernetes.io/x", true),
            ("kubernetes.io/x", true),
            ("k8s.io/x", true),
            ("a.k8s.io/x", true),
            ("node-role.kubernetes.io/control-plane", true),
            ("node-restriction.kubernetes.io/x", true),
            ("a.node-restriction.kubernetes.io/x", true),
        ] {
            assert_eq!(is_forbidden(key), is, "{key}");
        }
    }
}
