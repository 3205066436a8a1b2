//! A finished document.

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

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

/// `api/v1`, `apis/apps/v1`.
pub(crate) fn document_path(kind: &Kind) -> String {
    if kind.group().is_empty() {
        format!("api/{}", kind.version())
    } else {
        format!("apis/{}", kind.api_version())
    }
}
