//! OpenAPI v3 documents, one per group and version, and one v2 document; made from the schema table
//! and the kinds that are served, once, on the first question.
//!
//! ```text
//! components    types of the table as JSON schemas
//! paths         operations of the kinds that are served
//! descriptions  prose for `explain`, from k8s-openapi
//! v2            the same told as Swagger 2.0
//! gnostic       that in protobuf
//! ```

mod components;
mod descriptions;
mod gnostic;
mod paths;
#[cfg(test)]
mod tests;
mod v2;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::kind::Kind;
use crate::kinds;

/// A finished document.
#[derive(Clone, Debug)]
pub struct Document {
    /// JSON, or gnostic's protobuf.
    pub body: Bytes,
    /// Hash of the body in hex: the ETag, and the `hash` query parameter of the index.
    pub hash: String,
}

static DOCUMENTS: LazyLock<BTreeMap<String, Document>> = LazyLock::new(|| {
    let prose = descriptions::read();
    let each = group_versions().into_iter().map(|(path, kinds)| {
        let document = Document::new(&v3(&path, &kinds, &prose));
        (path, document)
    });
    each.collect()
});

static V2: LazyLock<Document> = LazyLock::new(|| {
    let prose = descriptions::read();
    let each = group_versions().into_iter().map(|(path, kinds)| v3(&path, &kinds, &prose));
    Document::new(&v2::from_v3(each))
});

static V2_PROTOBUF: LazyLock<Document> = LazyLock::new(|| {
    // Our own document, so it parses.
    let document: Value = serde_json::from_slice(&V2.body).unwrap_or_default();
    Document { body: gnostic::write(&document).into(), hash: V2.hash.clone() }
});

/// `/openapi/v3`; `prefix` is what comes before in the URL: empty, or `/clusters/pi-7`.
#[must_use]
pub fn index(prefix: &str) -> Value {
    let paths: Map<String, Value> = DOCUMENTS
        .iter()
        .map(|(path, document)| {
            let url = format!("{prefix}/openapi/v3/{path}?hash={}", document.hash);
            (path.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// `/openapi/v3/{path}` with a path such as `api/v1` or `apis/apps/v1`.
#[must_use]
pub fn document(path: &str) -> Option<Document> {
    DOCUMENTS.get(path).cloned()
}

/// `/openapi/v2`, as JSON.
#[must_use]
pub fn v2() -> Document {
    V2.clone()
}

/// `/openapi/v2` in gnostic's protobuf; the hash is that of the JSON, which says the same.
#[must_use]
pub fn v2_protobuf() -> Document {
    V2_PROTOBUF.clone()
}

/// The kinds by the path of their group and version.
fn group_versions() -> BTreeMap<String, Vec<&'static Kind>> {
    let mut out: BTreeMap<String, Vec<&'static Kind>> = BTreeMap::new();
    for kind in kinds::all() {
        out.entry(root(kind)).or_default().push(kind);
    }
    out
}

/// `api/v1`, `apis/apps/v1`.
fn root(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

fn v3(path: &str, kinds: &[&'static Kind], prose: &descriptions::Prose) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Freewheel", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths::all(path, kinds),
        "components": {"schemas": components::all(kinds, prose)},
    })
}

impl Document {
    fn new(value: &Value) -> Self {
        let body = Bytes::from(value.to_string());
        let digest = Sha256::digest(&body);
        let hash = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { body, hash }
    }
}
