//! What a watcher reads of the shelves.

use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_link::names::ClusterName;

use super::shelf::Place;
use crate::{Event, Scope};

/// Which shelf a scope reads, and what it leaves out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(super) place: Place,
    /// Only where the shelf has others as well.
    cluster: Option<ClusterName>,
    namespace: Option<NamespaceName>,
}

impl From<Scope> for Reading {
    fn from(Scope { resource, cluster, namespace }: Scope) -> Self {
        match cluster {
            None => Self { place: Place::Resource(resource), cluster: None, namespace: None },
            // Internal records are on one shelf.
            Some(_) if resource.is_internal() => {
                Self { place: Place::Resource(resource), cluster, namespace }
            }
            Some(cluster) => {
                Self { place: Place::Cluster(resource, cluster), cluster: None, namespace }
            }
        }
    }
}

impl Reading {
    pub(super) fn wants(&self, event: &Event) -> bool {
        if self.cluster.is_none() && self.namespace.is_none() {
            return true;
        }
        event.key().is_some_and(|key| {
            self.cluster.as_ref().is_none_or(|cluster| key.cluster == *cluster)
                && self.namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace)
        })
    }
}

/// Where a watcher that has joined reads. Its shelves stay where they are until it leaves, so that reading looks
/// nothing up.
pub(crate) enum Stand {
    /// At one shelf.
    Shelf(Reading, usize),
    /// At those of all API objects.
    All,
}
