//! The documents of the layer of kinds that all clusters share.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::document::{Document, hash_of};
use super::v2::V2;

/// Documents of the groups and versions that all clusters have.
pub(crate) struct Documents {
    pub(super) each: BTreeMap<String, Document>,
    /// Of all of them.
    pub(super) hash: String,
    pub(super) v2: OnceLock<V2>,
    pub(super) v2_protobuf: OnceLock<Document>,
}

impl Documents {
    /// With these by the paths of their groups and versions.
    pub(super) fn new(each: BTreeMap<String, Document>) -> Self {
        let hash = hash_of(each.values().map(|document| document.hash.as_bytes()));
        Self { each, hash, v2: OnceLock::new(), v2_protobuf: OnceLock::new() }
    }
}
