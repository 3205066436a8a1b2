//! An object in the store, with the revisions that made and wrote it.

use std::collections::BTreeMap;

use freewheel_hub_schema::object::{Key, Object, Owner};

use crate::Revision;

/// An object as it stands at a revision.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: Key,
    /// Header and canonical body.
    pub object: Object,
    /// Revision that wrote it: its `resourceVersion`.
    pub revision: Revision,
    /// Revision that created it.
    pub created: Revision,
}

/// What a map with anything in it takes beside its texts: its first node has room for eleven.
const MAP_BYTES: usize = 600;

impl Stored {
    /// About how many bytes of memory it takes.
    pub(crate) fn held(&self) -> usize {
        let header = &self.object.header;
        let map = |map: &BTreeMap<String, String>| {
            let texts: usize = map.iter().map(|(name, value)| name.len() + value.len()).sum();
            if map.is_empty() { 0 } else { MAP_BYTES + texts }
        };
        let owner = size_of::<Owner>() + 100;
        size_of::<Self>()
            + self.key.cluster.as_str().len()
            + self.key.namespace.len()
            + self.key.name.len()
            + self.object.body.len()
            + header.uid.len()
            + map(&header.labels)
            + map(&header.fields)
            + header.owners.len() * owner
            + header.finalizers.iter().map(|text| 24 + text.len()).sum::<usize>()
    }
}
