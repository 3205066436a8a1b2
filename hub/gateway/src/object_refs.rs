//! Where the objects are that the gateway reads and writes, and of which of them a spoke may speak.

use freewheel_hub_api::kinds;
use freewheel_hub_objects::ObjectRef;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_link::names::ClusterName;
use freewheel_link::report::UnixMillis;
use serde_json::Value;

/// Where pods are.
pub(crate) const PODS: (&str, &str, &str) = ("", "v1", "pods");
/// Where Nodes are.
pub(crate) const NODES: (&str, &str, &str) = ("", "v1", "nodes");
/// Kind of ManagedCluster.
pub(crate) const CLUSTERS: (&str, &str, &str) =
    ("cluster.open-cluster-management.io", "v1", "managedclusters");

/// Reason of a refusal of a report that no repetition makes good: it is about nothing of this spoke's.
pub(crate) const NOT_THIS_SPOKES: &str = "NoPlace";

/// The place of an object of a built-in kind.
pub(crate) fn object_ref(
    (group, version, plural): (&str, &str, &str),
    cluster: &ClusterName,
    namespace: &str,
    name: &str,
) -> Result<ObjectRef, ApiError> {
    let kind = kinds::find(group, version, plural)
        .ok_or_else(|| ApiError::internal(format!("no kind {plural}.{group}")))?;
    Ok(ObjectRef {
        kind: kind.clone(),
        cluster: cluster.clone(),
        namespace: namespace.into(),
        name: name.to_owned(),
    })
}

/// A spoke speaks for the root's pods on it and for its own cluster, and for nothing else.
pub(crate) fn may_speak(spoke: &ClusterName, realm: &ClusterName) -> Result<(), ApiError> {
    if realm.is_root() || realm == spoke {
        return Ok(());
    }
    Err(ApiError::new(403, NOT_THIS_SPOKES, "a spoke may only report on itself"))
}

pub(crate) fn is_here(value: &Value, spoke: &ClusterName, uid: &str) -> Result<(), ApiError> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/metadata/uid") == uid && text("/spec/nodeName") == spoke.as_str() {
        return Ok(());
    }
    Err(ApiError::new(409, NOT_THIS_SPOKES, "the pod is another one, or runs elsewhere"))
}

/// RFC 3339 of a device's time.
pub(crate) fn stamp(at: UnixMillis) -> String {
    time::from_unix(i64::try_from(at / 1000).unwrap_or_default())
}
