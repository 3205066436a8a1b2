//! Which revision a pod is of: its label says so, and a label says nothing of a revision that is another set's.
//!
//! Guarantees:
//! - a pod of a StatefulSet has the revision's name, a pod of a DaemonSet its hash, and either is found
//!   (`a_pod_is_of_the_revision_whose_name_or_hash_it_has`).

use std::sync::Arc;

use freewheel_hub_store::Stored;

use crate::index::{IndexTerm, Indexes};
use crate::pods::controller_of;

/// Label of pods: which revision they are of.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";

/// Whether a pod says that it is of this revision.
pub(crate) fn is_of(pod: &Stored, revision: &Stored) -> bool {
    let Some(said) = pod.object.header.labels.get(REVISION_LABEL) else { return false };
    let hash = revision.object.header.labels.get(REVISION_LABEL);
    *said == *revision.key.name || hash == Some(said)
}

/// The revision that a pod is of, one of its own controller, if it is still there.
pub(crate) fn revision_of(indexes: &Indexes, pod: &Stored) -> Option<Arc<Stored>> {
    let (cluster, namespace) = (&pod.key.cluster, &*pod.key.namespace);
    let owner = controller_of(pod)?;
    let all = indexes.revisions.find(IndexTerm::Controller(cluster, namespace, owner));
    all.iter().map(|revision| &revision.stored).find(|revision| is_of(pod, revision)).cloned()
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::stored;

    fn labelled(plural: &str, name: &str, labels: &Value) -> Arc<Stored> {
        let meta = json!({"name": name, "namespace": "default", "uid": name, "labels": labels});
        stored(&Resource::new("apps", plural), name, json!({"metadata": meta}))
    }

    #[test]
    fn a_pod_is_of_the_revision_whose_name_or_hash_it_has() {
        let hashed = labelled("controllerrevisions", "db-abc", &json!({REVISION_LABEL: "abc"}));
        let named = labelled("controllerrevisions", "db-abc", &json!({}));
        let says = |text: &str| labelled("pods", "db-0", &json!({ REVISION_LABEL: text }));
        assert!(is_of(&says("db-abc"), &hashed) && is_of(&says("abc"), &hashed));
        assert!(is_of(&says("db-abc"), &named) && !is_of(&says("abc"), &named));
        assert!(!is_of(&says("db-xyz"), &hashed));
        assert!(!is_of(&labelled("pods", "db-0", &json!({})), &named), "who says nothing");
    }
}
