//! OpenAPI v3 (and v2) documents, made from the schema table; lazily, once.

use bytes::Bytes;
use serde_json::{Value, json};

/// A finished document.
#[derive(Clone, Debug)]
pub struct Document {
    /// JSON.
    pub body: Bytes,
    /// Hash of the body in hex: the ETag, and the `hash` query parameter of the index.
    pub hash: String,
}

/// `/openapi/v3`; `prefix` is what comes before in the URL: empty, or `/clusters/pi-7`.
#[must_use]
pub fn index(_prefix: &str) -> Value {
    json!({"paths": {}})
}

/// `/openapi/v3/{path}` with a path such as `api/v1` or `apis/apps/v1`.
#[must_use]
pub fn document(_path: &str) -> Option<Document> {
    None
}
