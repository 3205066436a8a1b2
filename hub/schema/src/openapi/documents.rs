//! The documents of a layer of kinds, each made when it is asked for first.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::document::Document;
use super::v2::V2;

/// Documents of the groups and versions that a layer of kinds has a part in.
pub(crate) struct Documents {
    pub(super) each: BTreeMap<String, Document>,
    pub(super) v2: OnceLock<V2>,
    pub(super) v2_protobuf: OnceLock<Document>,
}

impl Documents {
    /// By the paths of their groups and versions.
    pub(crate) fn each(&self) -> &BTreeMap<String, Document> {
        &self.each
    }

    /// With these by the paths of their groups and versions.
    pub(super) fn new(each: BTreeMap<String, Document>) -> Self {
        Self { each, v2: OnceLock::new(), v2_protobuf: OnceLock::new() }
    }
}
