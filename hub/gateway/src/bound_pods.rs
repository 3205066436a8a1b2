//! Which pods are bound to which node.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;

/// Pods of one node.
#[derive(Default)]
struct NodePods {
    root: BTreeSet<Key>,
    /// Of the spoke's own cluster.
    own: BTreeSet<Key>,
}

impl NodePods {
    fn of(&self, realm: &ClusterName) -> &BTreeSet<Key> {
        if realm.is_root() { &self.root } else { &self.own }
    }

    fn of_mut(&mut self, realm: &ClusterName) -> &mut BTreeSet<Key> {
        if realm.is_root() { &mut self.root } else { &mut self.own }
    }
}

/// Pods that are bound to a node.
#[derive(Default)]
pub(crate) struct BoundPods {
    nodes: BTreeMap<String, NodePods>,
    uids: BTreeMap<Uid, Key>,
    /// Nodes with pods of the root.
    in_root: BTreeSet<String>,
}

/// The node that a pod is bound to: any for one of the root, for one of a spoke's cluster that spoke. What
/// else its owner names is nobody's node.
pub(crate) fn node_of(stored: &Stored) -> Option<&str> {
    let cluster = &stored.key.cluster;
    let node = stored.object.header.fields.get("spec.nodeName").map(String::as_str)?;
    (!node.is_empty() && (cluster.is_root() || cluster.as_str() == node)).then_some(node)
}

impl BoundPods {
    pub(crate) fn put(&mut self, node: &str, stored: &Stored) {
        let Stored { key, object, .. } = stored;
        self.uids.insert(object.header.uid.clone(), key.clone());
        let here = self.nodes.entry(node.to_owned()).or_default();
        here.of_mut(&key.cluster).insert(key.clone());
        if key.cluster.is_root() {
            self.in_root.insert(node.to_owned());
        }
    }

    pub(crate) fn remove(&mut self, node: &str, stored: &Stored) {
        let Stored { key, object, .. } = stored;
        self.uids.remove(&object.header.uid);
        let Some(here) = self.nodes.get_mut(node) else { return };
        here.of_mut(&key.cluster).remove(key);
        if here.root.is_empty() {
            self.in_root.remove(node);
            if here.own.is_empty() {
                self.nodes.remove(node);
            }
        }
    }

    /// Where the pod with this UID is.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Key> {
        self.uids.get(uid)
    }

    /// Pods of a realm on this node.
    pub(crate) fn on(&self, node: &str, realm: &ClusterName) -> Option<&BTreeSet<Key>> {
        self.nodes.get(node).map(|here| here.of(realm))
    }

    /// Nodes with pods of the root.
    pub(crate) fn in_root(&self) -> impl Iterator<Item = &str> {
        self.in_root.iter().map(String::as_str)
    }
}
