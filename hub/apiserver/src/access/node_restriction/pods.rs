//! What a node writes of pods: mirrors of those that it runs by itself, and what became of those that are bound to it.

use freewheel_hub_objects::{Refusal, Verb};
use serde_json::Value;

use super::write::{Judged, NodeWrite, same};
use crate::authz::{MIRROR, Needed, needs, text};

pub(super) fn admit(write: &NodeWrite<'_>) -> Judged {
    let node = write.node;
    match (write.review.subresource, write.review.verb) {
        (None, Verb::Create) => mirror(write),
        (None, Verb::Delete) if is_bound(write.object, node) => Ok(()),
        (None, Verb::Delete) => Err(Refusal::forbidden(format!(
            "node {node:?} can only delete pods with spec.nodeName set to itself"
        ))),
        (None, verb) => Err(Refusal::forbidden(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            verb.as_str().to_uppercase()
        ))),
        (Some("status"), Verb::Update) => status(write),
        (Some("eviction"), Verb::Create) => eviction(write),
        (Some("status" | "eviction"), _) => write.unexpected(),
        (Some(other), _) => Err(Refusal::forbidden(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        ))),
    }
}

fn is_bound(pod: &Value, node: &str) -> bool {
    text(pod, "/spec/nodeName") == Some(node)
}

fn mirror(write: &NodeWrite<'_>) -> Judged {
    let NodeWrite { object: pod, node, .. } = *write;
    let annotations = pod.pointer("/metadata/annotations");
    if annotations.is_none_or(|all| all.get(MIRROR).is_none()) {
        return Err(Refusal::forbidden(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        )));
    }
    if !is_bound(pod, node) {
        return Err(Refusal::forbidden(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        )));
    }
    owner(write)?;
    match referenced(pod) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(Refusal::forbidden(format!(
            "node {node:?} can not create pods that reference {what}"
        ))),
        Err(why) => {
            Err(Refusal::forbidden(format!("error checking mirror pod for API references: {why}")))
        }
    }
}

/// Its one owner is the node, which waits for nothing.
fn owner(write: &NodeWrite<'_>) -> Judged {
    let node = write.node;
    let refused = |why: &str| Err(Refusal::forbidden(format!("node {node:?} {why}")));
    let owners = write.object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let [owner] = owners.map_or(&[][..], Vec::as_slice) else {
        let which = if owners.is_some_and(|all| 1 < all.len()) { "a single" } else { "an" };
        return refused(&format!(
            "can only create pods with {which} owner reference set to itself"
        ));
    };
    let is = (text(owner, "/apiVersion"), text(owner, "/kind"), text(owner, "/name"));
    if is != (Some("v1"), Some("Node"), Some(node)) {
        return refused("can only create pods with an owner reference set to itself");
    }
    if owner["controller"] != true {
        return refused("can only create pods with a controller owner reference set to itself");
    }
    if owner["blockOwnerDeletion"] == true {
        return refused("must not set blockOwnerDeletion on an owner reference");
    }
    let found = write.find("nodes", "", node).ok_or_else(|| Refusal::NotFound {
        group: String::new(),
        plural: "nodes".to_owned(),
        name: node.to_owned(),
    })?;
    let uid = |value: &Value, path| text(value, path).unwrap_or_default().to_owned();
    let (expected, own) = (uid(owner, "/uid"), uid(&found, "/metadata/uid"));
    if expected == own {
        return Ok(());
    }
    Err(Refusal::forbidden(format!("node {node} UID mismatch: expected {expected} got {own}")))
}

/// What of the API a mirror pod names, of which it is to name nothing.
fn referenced(pod: &Value) -> Result<Option<&'static str>, String> {
    if text(pod, "/spec/serviceAccountName").is_some() {
        return Ok(Some("serviceaccounts"));
    }
    let mut bare = pod.clone();
    bare["metadata"]["annotations"] = Value::Null;
    let named = needs(&bare);
    if named.all(Needed::Secret).next().is_some() {
        return Ok(Some("secrets"));
    }
    if named.all(Needed::ConfigMap).next().is_some() {
        return Ok(Some("configmaps"));
    }
    let some = |path: &str| pod.pointer(path).and_then(Value::as_array).filter(|it| !it.is_empty());
    if some("/spec/resourceClaims").is_some() {
        return Ok(Some("resourceclaims"));
    }
    for volume in some("/spec/volumes").into_iter().flatten() {
        let what = of_volume(volume)?;
        if what.is_some() {
            return Ok(what);
        }
    }
    Ok(None)
}

/// Volumes that need nothing of the API.
const LOCAL: [&str; 21] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "vsphereVolume",
];

/// Volumes that do, and what of it.
const OF_THE_API: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];

fn of_volume(volume: &Value) -> Result<Option<&'static str>, String> {
    let name = text(volume, "/name").unwrap_or_default();
    let has = |key: &str| volume.get(key).is_some_and(|source| !source.is_null());
    if LOCAL.iter().any(|key| has(key)) || has("storageos") {
        return Ok(None);
    }
    if let Some((_, what)) = OF_THE_API.iter().find(|(key, _)| has(key)) {
        return Ok(Some(what));
    }
    if !has("projected") {
        return Err(format!("unknown volume type for volume  {name:?}"));
    }
    let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
    for source in sources.into_iter().flatten() {
        let has = |key: &str| source.get(key).is_some_and(|source| !source.is_null());
        let known = [
            ("configMap", "configmaps (via projected volumes)"),
            ("secret", "secrets (via projected volumes)"),
            ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
            ("clusterTrustBundle", "clustertrustbundles"),
            ("podCertificate", "podcertificates"),
        ];
        if let Some((_, what)) = known.iter().find(|(key, _)| has(key)) {
            return Ok(Some(what));
        }
        if !has("downwardAPI") {
            return Err(format!("unknown source for projected volume {name:?}"));
        }
    }
    Ok(None)
}

fn status(write: &NodeWrite<'_>) -> Judged {
    let node = write.node;
    let refused = |why: &str| Err(Refusal::forbidden(format!("node {node:?} {why}")));
    let Some(old) = write.review.old else { return write.unexpected() };
    if !is_bound(old, node) {
        return refused("can only update pod status for pods with spec.nodeName set to itself");
    }
    let changes = |path: &str| !same(old.pointer(path), write.object.pointer(path));
    if changes("/metadata/labels") {
        return refused("cannot update labels through pod status");
    }
    if changes("/status/resourceClaimStatuses") {
        return refused("cannot update resource claim statues");
    }
    if changes("/status/extendedResourceClaimStatus") {
        return refused("cannot update extended resource claim status");
    }
    Ok(())
}

fn eviction(write: &NodeWrite<'_>) -> Judged {
    let target = write.review.target;
    let pod = write.find("pods", &target.namespace, &target.name);
    let pod = pod.ok_or_else(|| Refusal::NotFound {
        group: String::new(),
        plural: "pods".to_owned(),
        name: target.name.clone(),
    })?;
    if is_bound(&pod, write.node) {
        return Ok(());
    }
    let node = write.node;
    Err(Refusal::forbidden(format!(
        "node {node} can only evict pods with spec.nodeName set to itself"
    )))
}
