//! A finished document.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::kind::Kind;

/// A finished document.
#[derive(Clone, Debug)]
pub struct Document {
    /// JSON, or gnostic's protobuf.
    pub body: Bytes,
    /// The ETag, and the `hash` query parameter of the index: of the body, or of what it is made of; in hex.
    pub hash: String,
}

impl Document {
    /// Of what is JSON already.
    pub(super) fn of_text(text: String) -> Self {
        let hash = hash_of([text.as_bytes()]);
        Self { body: Bytes::from(text), hash }
    }

    /// The same body, which goes by another hash.
    pub(super) fn hashed(self, hash: &str) -> Self {
        Self { hash: hash.to_owned(), ..self }
    }
}

/// A hash of parts in this order, in hex.
pub(super) fn hash_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `api/v1`, `apis/apps/v1`.
pub(super) fn document_path(kind: &Kind) -> String {
    if kind.group().is_empty() {
        format!("api/{}", kind.version())
    } else {
        format!("apis/{}", kind.api_version())
    }
}
