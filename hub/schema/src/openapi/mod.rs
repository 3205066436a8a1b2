//! OpenAPI v3 documents, one per group and version, and one v2 document; made from the schema table
//! and the kinds that are served, once, on the first question. A cluster with kinds of its own has documents of its
//! own for their groups and versions, which live as long as its layer does.
//!
//! ```text
//! components    types of the table as JSON schemas
//! paths         operations of the kinds that are served
//! prose         what is said of types and fields, for `explain`; whoever makes the shared layer knows it
//! document      a finished document
//! documents     those of a layer of kinds
//! v2            the same told as Swagger 2.0
//! gnostic       that in protobuf
//! ```

mod components;
pub(crate) mod document;
pub(crate) mod documents;
mod gnostic;
mod paths;
pub(crate) mod prose;
#[cfg(test)]
mod tests;
mod v2;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::registry::Registry;
use document::document_path;
use documents::Documents;
use v2::V2;

pub use document::Document;
pub use prose::Prose;

/// The documents of one logical cluster: those of the shared layer are written once for all of them.
struct Of<'a> {
    registry: &'a Registry,
    shared: &'a Documents,
    own: Option<&'a Documents>,
}

/// Kinds by the path of their group and version.
type GroupVersions<'a> = BTreeMap<String, Vec<&'a Kind>>;

impl<'a> Of<'a> {
    fn new(registry: &'a Registry) -> Self {
        // Every cluster is shown all of it.
        let layer = registry.shared();
        let shared = layer.documents.get_or_init(|| {
            let all = group_versions(layer.all());
            documents(&all, &layer.prose(), |_| true)
        });
        let own = registry.layer().map(|own| {
            own.documents.get_or_init(|| {
                let named = group_versions(own.all());
                let new = |path: &str| named.contains_key(path) && !own.carried.contains_key(path);
                let mut all = documents(&all_of(registry), &layer.prose(), new);
                all.each.extend(own.carried.clone());
                all
            })
        });
        Self { registry, shared, own }
    }

    fn each(&self) -> BTreeMap<&str, &Document> {
        let all = self.shared.each.iter().chain(self.own.into_iter().flat_map(|own| &own.each));
        all.map(|(path, document)| (path.as_str(), document)).collect()
    }

    fn v2(&self) -> &Document {
        let prose = || self.registry.shared().prose();
        let shared = self.shared.v2.get_or_init(|| {
            let (prose, all) = (prose(), group_versions(self.registry.shared().all()));
            V2::over(None, all.into_iter().map(|(path, kinds)| v3(&path, &kinds, &prose)))
        });
        let Some(own) = self.own else { return &shared.document };
        let own = own.v2.get_or_init(|| {
            let (prose, all) = (prose(), group_versions(self.registry.own()));
            let each = all.into_iter().map(|(path, kinds)| v3(&path, &kinds, &prose));
            V2::over(Some(shared), each)
        });
        &own.document
    }

    fn v2_protobuf(&self) -> &Document {
        self.own.unwrap_or(self.shared).v2_protobuf.get_or_init(|| {
            let v2 = self.v2();
            // Our own document, so it parses.
            let document: Value = serde_json::from_slice(&v2.body).unwrap_or_default();
            Document { body: gnostic::write(&document).into(), hash: v2.hash.clone() }
        })
    }
}

/// Which documents of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The index of v3, and what it names.
    V3,
    /// v2 as JSON.
    V2,
    /// The same in gnostic's protobuf.
    V2Protobuf,
}

/// Whether they are there already, so that asking for them is no work. Else the first question makes them, which takes
/// longer than a task may keep its thread.
#[must_use]
pub fn are_made(registry: &Registry, form: Form) -> bool {
    let layer = registry.layer().map(|own| own.documents.get());
    let Some(shared) = registry.shared().documents.get() else { return false };
    let Some(newest) = layer.unwrap_or(Some(shared)) else { return false };
    match form {
        Form::V3 => true,
        Form::V2 => newest.v2.get().is_some(),
        Form::V2Protobuf => newest.v2_protobuf.get().is_some(),
    }
}

/// `/openapi/v3` of a cluster; `prefix` is what comes before in the URL: empty, or `/clusters/pi-7`.
#[must_use]
pub fn index(registry: &Registry, prefix: &str) -> Value {
    let paths: Map<String, Value> = Of::new(registry)
        .each()
        .into_iter()
        .map(|(path, document)| {
            let url = format!("{prefix}/openapi/v3/{path}?hash={}", document.hash);
            (path.to_owned(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// `/openapi/v3/{path}` with a path such as `api/v1` or `apis/apps/v1`.
#[must_use]
pub fn document(registry: &Registry, path: &str) -> Option<Document> {
    let of = Of::new(registry);
    let own = of.own.and_then(|own| own.each.get(path));
    own.or_else(|| of.shared.each.get(path)).cloned()
}

/// `/openapi/v2`, as JSON.
#[must_use]
pub fn v2(registry: &Registry) -> Document {
    Of::new(registry).v2().clone()
}

/// `/openapi/v2` in gnostic's protobuf; the hash is that of the JSON, which says the same.
#[must_use]
pub fn v2_protobuf(registry: &Registry) -> Document {
    Of::new(registry).v2_protobuf().clone()
}

/// What is shared and the cluster's own.
fn all_of(registry: &Registry) -> GroupVersions<'_> {
    let mut all = group_versions(registry.shared().all());
    for (path, own) in group_versions(registry.own()) {
        all.entry(path).or_default().extend(own);
    }
    all
}

/// Those of the paths that `named` leads to.
fn documents(all: &GroupVersions<'_>, prose: &Prose, named: impl Fn(&str) -> bool) -> Documents {
    let named = all.iter().filter(|(path, _)| named(path));
    let each = named.map(|(path, kinds)| (path.clone(), Document::new(&v3(path, kinds, prose))));
    Documents::new(each.collect())
}

fn group_versions(kinds: &[Arc<Kind>]) -> GroupVersions<'_> {
    let mut out = GroupVersions::new();
    for kind in kinds.iter().filter(|kind| kind.served) {
        out.entry(document_path(kind)).or_default().push(kind);
    }
    out
}

fn v3(path: &str, kinds: &[&Kind], prose: &Prose) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Freewheel", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths::all(path, kinds),
        "components": {"schemas": components::all(kinds, prose)},
    })
}
