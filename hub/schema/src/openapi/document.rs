//! A finished document, and those of a layer of kinds.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::v2::V2;
use crate::kind::Kind;

/// A finished document.
#[derive(Clone, Debug)]
pub struct Document {
    /// JSON, or gnostic's protobuf.
    pub body: Bytes,
    /// Hash of the body in hex: the ETag, and the `hash` query parameter of the index.
    pub hash: String,
}

impl Document {
    pub(super) fn new(value: &Value) -> Self {
        Self::of_text(value.to_string())
    }

    /// Of what is JSON already.
    pub(super) fn of_text(text: String) -> Self {
        let body = Bytes::from(text);
        let digest = Sha256::digest(&body);
        let hash = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { body, hash }
    }
}

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

/// `api/v1`, `apis/apps/v1`.
pub(crate) fn document_path(kind: &Kind) -> String {
    if kind.group().is_empty() {
        format!("api/{}", kind.version())
    } else {
        format!("apis/{}", kind.api_version())
    }
}
