//! Which part of the key space a list or a watch is about.

use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_link::names::ClusterName;

/// A part of the key space: one resource, and optionally one cluster of it and one namespace of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The resource.
    pub resource: Resource,
    /// One cluster, or all.
    pub cluster: Option<ClusterName>,
    /// One namespace, or all; only with a cluster.
    pub namespace: Option<NamespaceName>,
}

impl Scope {
    /// Whether the key lies in it.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.resource == key.resource
            && self.cluster.as_ref().is_none_or(|cluster| *cluster == key.cluster)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
    }
}
