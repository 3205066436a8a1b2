//! How many bytes each cluster has in the store: keys, bodies, and what is stored beside them.
//!
//! It is a part of the state that they are counted in and lies nowhere on disk: what comes in and what goes is counted
//! where it comes and goes.
//!
//! Guarantees:
//! - it is what is there in the newest state: after a restart (`bytes_are_those_of_what_is_there_after_a_restart`), and
//!   when a batch was lost (`what_a_failed_sync_lost_stays_lost`); one resource of the past has nobody's
//!   (`what_is_rebuilt_of_the_past_has_nobodys_bytes`).

use freewheel_hub_schema::object::{Header, Key, Object, Owner};
use freewheel_link::names::ClusterName;
use imbl::OrdMap;

/// Bytes in the store at one revision, by cluster. Cheap to keep, never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBytes(OrdMap<ClusterName, u64>);

impl StoredBytes {
    /// Those of this cluster.
    #[must_use]
    pub fn of(&self, cluster: &ClusterName) -> u64 {
        self.0.get(cluster).copied().unwrap_or_default()
    }

    /// All clusters that have any.
    pub fn clusters(&self) -> impl Iterator<Item = (&ClusterName, u64)> {
        self.0.iter().map(|(cluster, bytes)| (cluster, *bytes))
    }

    /// So many come, and so many go.
    pub(crate) fn change(&mut self, cluster: &ClusterName, come: u64, go: u64) {
        if come == go {
            return;
        }
        let now = self.of(cluster).saturating_add(come).saturating_sub(go);
        if now == 0 {
            self.0.remove(cluster);
        } else if let Some(bytes) = self.0.get_mut(cluster) {
            *bytes = now;
        } else {
            self.0.insert(cluster.clone(), now);
        }
    }
}

/// What an object takes under its key.
pub(crate) fn bytes_of(key: &Key, object: &Object) -> u64 {
    (bytes_of_key(key) + object.body.len() + texts_of(&object.header)) as u64
}

pub(crate) fn bytes_of_key(key: &Key) -> usize {
    4 + key.resource.as_str().len()
        + key.cluster.as_str().len()
        + key.namespace.len()
        + key.name.len()
}

/// What is read of an object and stored beside its body.
pub(crate) fn texts_of(header: &Header) -> usize {
    let pairs = header.labels.iter().chain(&header.fields);
    let owner = |owner: &Owner| {
        owner.api_version.len() + owner.kind.len() + owner.name.len() + owner.uid.len()
    };
    header.uid.len()
        + pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>()
        + header.owners.iter().map(owner).sum::<usize>()
        + header.finalizers.iter().map(String::len).sum::<usize>()
}
