//! The small writes that decide which device is let in: the last of the disk is for them as well.
//!
//! ```text
//! hub decommission          an order to wipe, to the key that a ManagedCluster has
//! hub replace               an order to rename, to one too; then a ManagedCluster belongs to another key
//! hubAcceptsClient: false   what was accepted is so no more
//! ```
//!
//! Guarantees:
//! - they are as many as there are devices, and small: nothing else that grows passes for one of them
//!   (`a_device_is_barred_below_the_reserve`, `a_board_takes_the_place_of_another_below_the_reserve`,
//!   `what_is_stored_elsewhere_is_no_order`, `what_decides_nothing_is_no_switch`).

use freewheel_hub_api::device_orders::{NAMESPACE, Order};
use freewheel_hub_api::kinds;
use freewheel_hub_api::kinds::managed_cluster::{AGENT_KEY_ANNOTATION, DEVICE_LABELS_ANNOTATION};
use freewheel_hub_objects::{ObjectRef, Review};
use freewheel_hub_schema::object::Key;
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use serde_json::Value;

const CLUSTERS: (&str, &str, &str) =
    ("cluster.open-cluster-management.io", "v1", "managedclusters");
/// An order has no more than this.
const ORDER_BYTES_MAX: usize = 4 << 10;
/// By so much a ManagedCluster grows when somebody is named in managedFields who has written it.
const OWNER_BYTES_MAX: usize = 512;

/// Whether this write does nothing but decide which device is let in, and lets none in that was not.
pub(super) fn decides(review: &Review<'_>, object: &Value) -> bool {
    is_order(review, object) || review.old.is_some_and(|old| is_switch(review, old, object))
}

/// An order to a key that a ManagedCluster has: each has one at most.
fn is_order(review: &Review<'_>, object: &Value) -> bool {
    if !is_place_of_orders(review.target) || ORDER_BYTES_MAX < size(object) {
        return false;
    }
    let (cluster, key) = match Order::read(object) {
        Some(Order::Wipe(wipe)) => (wipe.cluster, wipe.key),
        Some(Order::Rename(rename)) => (rename.cluster, rename.key),
        None => return false,
    };
    let (group, version, plural) = CLUSTERS;
    let Some(kind) = kinds::find(group, version, plural) else { return false };
    let device = Key::new(kind.storage(), &ClusterName::root(), "", &cluster);
    let device = review.state().get(&device).and_then(|found| found.object.value().ok());
    device.is_some_and(|device| device["metadata"]["annotations"][AGENT_KEY_ANNOTATION] == key)
}

fn is_place_of_orders(target: &ObjectRef) -> bool {
    (target.kind.group(), target.kind.plural()) == ("", "configmaps")
        && target.cluster.is_root()
        && &*target.namespace == NAMESPACE
}

fn is_switch(review: &Review<'_>, old: &Value, new: &Value) -> bool {
    let kind = &review.target.kind;
    (kind.group(), kind.plural()) == (CLUSTERS.0, CLUSTERS.2)
        && review.subresource.is_none()
        && switches(old, new)
}

/// A ManagedCluster that is accepted no more, or belongs to another key, and is the same beside that.
fn switches(old: &Value, new: &Value) -> bool {
    let accepts = |cluster: &Value| cluster["spec"]["hubAcceptsClient"] == true;
    let key = |cluster: &Value| cluster["metadata"]["annotations"][AGENT_KEY_ANNOTATION].clone();
    let is_key = |key: &Value| key.as_str().is_some_and(|key| key.parse::<Digest>().is_ok());
    let (is_barred, is_same_key) = (accepts(old) && !accepts(new), key(new) == key(old));
    (is_barred || !is_same_key)
        && (!accepts(new) || accepts(old))
        && (is_same_key || is_key(&key(new)))
        && size(new) <= size(old) + OWNER_BYTES_MAX
        && rest(new, new) == rest(old, new)
}

fn size(object: &Value) -> usize {
    object.to_string().len()
}

/// All of a ManagedCluster but who is let in, and what follows of that and of any write. The next board says none of the
/// labels that were its device's to say: what tells them may go, and nothing else in its place.
fn rest(cluster: &Value, new: &Value) -> Value {
    let mut rest = cluster.clone();
    let goes = new["metadata"]["annotations"].get(DEVICE_LABELS_ANNOTATION).is_none();
    let labels = goes.then_some(("/metadata/annotations", DEVICE_LABELS_ANNOTATION));
    let always = [
        ("/spec", "hubAcceptsClient"),
        ("/metadata/annotations", AGENT_KEY_ANNOTATION),
        ("/metadata", "managedFields"),
        ("/metadata", "generation"),
        ("/metadata", "resourceVersion"),
    ];
    for (path, field) in always.into_iter().chain(labels) {
        if let Some(fields) = rest.pointer_mut(path).and_then(Value::as_object_mut) {
            fields.remove(field);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_schema::gvk::Gvk;
    use freewheel_hub_schema::kind::{Kind, Strategy};
    use serde_json::json;

    use super::*;

    struct Plain;

    impl Strategy for Plain {}

    #[test]
    fn what_is_stored_elsewhere_is_no_order() {
        let own = kinds::find("", "v1", "configmaps").unwrap().clone();
        let custom = Kind::new(Gvk::new("example.com", "v1", "ConfigMap"), "configmaps", Plain);
        let pi = ClusterName::try_from("pi-7").unwrap();
        for (kind, cluster, namespace, is_one) in [
            (own.clone(), ClusterName::root(), NAMESPACE, true),
            (Arc::new(custom), ClusterName::root(), NAMESPACE, false),
            (own.clone(), pi, NAMESPACE, false),
            (own, ClusterName::root(), "default", false),
        ] {
            let name = "device-0a".to_owned();
            let target = ObjectRef { kind, cluster, namespace: namespace.into(), name };
            assert_eq!(is_place_of_orders(&target), is_one, "{}", target.kind.group());
        }
    }

    #[test]
    fn what_decides_nothing_is_no_switch() {
        let key = |of: &str| json!(format!("sha256:{}", of.repeat(32)));
        let old = json!({
            "metadata": {"name": "pi-7", "managedFields": [], "annotations": {
                AGENT_KEY_ANNOTATION: key("0a"), DEVICE_LABELS_ANNOTATION: "site"}},
            "spec": {"hubAcceptsClient": true},
        });
        let changed = |change: fn(&mut Value)| {
            let mut new = old.clone();
            new["metadata"]["managedFields"] = json!([{"manager": "somebody else"}]);
            change(&mut new);
            switches(&old, &new)
        };
        assert!(!changed(|_| {}));
        let bar = |new: &mut Value| new["spec"]["hubAcceptsClient"] = json!(false);
        assert!(changed(bar));
        assert!(changed(|new| {
            let to = json!(format!("sha256:{}", "0b".repeat(32)));
            new["metadata"]["annotations"] = json!({AGENT_KEY_ANNOTATION: to});
        }));
        let mut barred = old.clone();
        bar(&mut barred);
        assert!(!switches(&barred, &old), "that lets one in");
        // The labels are told by nobody else, and by no other words.
        assert!(!changed(|new| {
            new["spec"]["hubAcceptsClient"] = json!(false);
            new["metadata"]["annotations"][DEVICE_LABELS_ANNOTATION] = json!("site,disk");
        }));
        let mut without = old.clone();
        without["metadata"]["annotations"] = json!({AGENT_KEY_ANNOTATION: key("0a")});
        let mut comes = old.clone();
        bar(&mut comes);
        assert!(!switches(&without, &comes), "one comes with it");
    }
}
