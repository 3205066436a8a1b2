//! OpenAPI v3 documents, one per group and version, and one v2 document; made from the schema table
//! and the kinds that are served. Those of the kinds that all clusters share are made on the first question. A cluster
//! with kinds of its own has documents of its own for their groups and versions, each of which is made when it is asked
//! for and there for as long as there is room.
//!
//! ```text
//! components    types of the table as JSON schemas
//! paths         operations of the kinds that are served
//! prose         what is said of types and fields, for `explain`; whoever makes the shared layer knows it
//! members       members of a document as they are made, as text
//! document      a finished document
//! documents     those of the kinds that are shared
//! kept          those of clusters' own kinds
//! v2            the same told as Swagger 2.0
//! gnostic       that in protobuf
//! ```
//!
//! Guarantees:
//! - one schema at a time is there as a tree while a document is made, and none when it is made
//!   (`documents_cost_their_texts_and_the_tree_of_one_schema`), nor is a schema made ready for objects by that
//!   (`a_document_makes_no_form_ready_for_objects`);
//! - what stays as it is goes by the same hash and is not made again (`what_stays_the_same_is_not_written_again`), and
//!   who asks for the index has none made (`the_index_makes_no_document`);
//! - documents that say different things go by different hashes, also those of the same kinds
//!   (`documents_of_the_same_kinds_go_by_hashes_of_their_own`).

mod components;
mod document;
pub(crate) mod documents;
mod gnostic;
pub(crate) mod kept;
mod members;
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
use document::{document_path, hash_of};
use documents::Documents;
use kept::KeptDocuments;
use members::Members;
use v2::V2;

pub use document::Document;
pub use prose::Prose;

/// The documents of one logical cluster: those of the shared layer are written once for all of them.
struct Of<'a> {
    registry: &'a Registry,
    shared: &'a Documents,
    /// Where it has kinds of its own.
    own: GroupVersions<'a>,
}

/// Kinds by the path of their group and version.
type GroupVersions<'a> = BTreeMap<String, Vec<&'a Kind>>;

const V3: &str = "v3";
const V2_JSON: &str = "v2";
const V2_PROTOBUF: &str = "v2 in protobuf";

impl<'a> Of<'a> {
    fn new(registry: &'a Registry) -> Self {
        // Every cluster is shown all of it.
        let layer = registry.shared();
        let shared = layer.documents.get_or_init(|| {
            let (all, prose) = (group_versions(layer.all()), layer.prose());
            let each = all.into_iter().map(|(path, kinds)| {
                let document = v3(&path, &kinds, &prose);
                (path, document)
            });
            Documents::new(each.collect())
        });
        Self { registry, shared, own: group_versions(registry.own()) }
    }

    fn kept(&self) -> &KeptDocuments {
        &self.registry.shared().kept
    }

    fn prose(&self) -> Prose {
        self.registry.shared().prose()
    }

    /// What a document with this title of these own kinds, and of what is shared, goes by. The title keeps it from the
    /// hash of another document of the same kinds: whoever keeps documents by their hashes would take one for the other.
    fn hash<'b>(&self, title: &[&str], kinds: impl IntoIterator<Item = &'b &'a Kind>) -> String
    where
        'a: 'b,
    {
        let mut parts: Vec<String> = title.iter().map(|&part| part.to_owned()).collect();
        parts.push(self.shared.hash.clone());
        for kind in kinds {
            let named = [kind.api_version(), kind.plural(), kind.origin()];
            parts.extend(named.map(str::to_owned));
            if kind.origin().is_empty() {
                parts.push(format!("{:?}", kind.id()));
            }
        }
        hash_of(parts.iter().map(String::as_bytes))
    }

    fn v3_hash(&self, path: &str, own: &[&'a Kind]) -> String {
        self.hash(&[V3, path], own)
    }

    /// Of v2, in both its forms.
    fn v2_hash(&self) -> String {
        self.hash(&[V2_JSON], self.own.values().flatten())
    }

    fn v3(&self, path: &str) -> Option<Document> {
        let Some(own) = self.own.get(path) else { return self.shared.each.get(path).cloned() };
        let hash = self.v3_hash(path, own);
        let make = || {
            let mut all =
                group_versions(self.registry.shared().all()).remove(path).unwrap_or_default();
            all.extend(own);
            v3(path, &all, &self.prose()).hashed(&hash)
        };
        Some(self.kept().of(V3, &hash, make))
    }

    fn shared_v2(&self) -> &V2 {
        self.shared.v2.get_or_init(|| {
            let layer = self.registry.shared();
            V2::over(None, group_versions(layer.all()), &layer.prose())
        })
    }

    fn v2(&self) -> Document {
        let shared = self.shared_v2();
        if self.own.is_empty() {
            return shared.document.clone();
        }
        let hash = self.v2_hash();
        let make = || {
            let own = V2::over(Some(shared), self.own.clone(), &self.prose());
            own.document.hashed(&hash)
        };
        self.kept().of(V2_JSON, &hash, make)
    }

    fn v2_protobuf(&self) -> Document {
        let make = || {
            let v2 = self.v2();
            Document { body: gnostic::write(&v2.body).into(), hash: v2.hash }
        };
        if self.own.is_empty() {
            return self.shared.v2_protobuf.get_or_init(make).clone();
        }
        self.kept().of(V2_PROTOBUF, &self.v2_hash(), make)
    }
}

/// A document that is asked for of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// What the index of v3 names by this path.
    V3(&'a str),
    /// v2 as JSON.
    V2,
    /// The same in gnostic's protobuf.
    V2Protobuf,
}

/// A document is not there: who asks for it makes it, which takes longer than a task may keep its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMade;

/// Whether asking for the index makes nothing.
#[must_use]
pub fn is_index_made(registry: &Registry) -> bool {
    registry.shared().documents.get().is_some()
}

/// A document that is there already, or none where none is served by its path. It is given and not only told of: until
/// somebody asks again it may be forgotten.
///
/// # Errors
/// When it is served and not there.
pub fn made(registry: &Registry, form: Form<'_>) -> Result<Option<Document>, NotMade> {
    let shared = registry.shared().documents.get().ok_or(NotMade)?;
    let of = Of { registry, shared, own: group_versions(registry.own()) };
    let made = match form {
        Form::V3(path) => match of.own.get(path) {
            None => return Ok(shared.each.get(path).cloned()),
            Some(own) => of.kept().get(V3, &of.v3_hash(path, own)),
        },
        Form::V2 if of.own.is_empty() => shared.v2.get().map(|v2| v2.document.clone()),
        Form::V2 => of.kept().get(V2_JSON, &of.v2_hash()),
        Form::V2Protobuf if of.own.is_empty() => shared.v2_protobuf.get().cloned(),
        Form::V2Protobuf => of.kept().get(V2_PROTOBUF, &of.v2_hash()),
    };
    made.map(Some).ok_or(NotMade)
}

/// `/openapi/v3` of a cluster; `prefix` is what comes before in the URL: empty, or `/clusters/pi-7`.
#[must_use]
pub fn index(registry: &Registry, prefix: &str) -> Value {
    let of = Of::new(registry);
    let shared = of.shared.each.iter().map(|(path, document)| (path, document.hash.clone()));
    let mut hashes: BTreeMap<&String, String> = shared.collect();
    hashes.extend(of.own.iter().map(|(path, own)| (path, of.v3_hash(path, own))));
    let paths: Map<String, Value> = hashes
        .into_iter()
        .map(|(path, hash)| {
            let url = format!("{prefix}/openapi/v3/{path}?hash={hash}");
            (path.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// `/openapi/v3/{path}` with a path such as `api/v1` or `apis/apps/v1`.
#[must_use]
pub fn document(registry: &Registry, path: &str) -> Option<Document> {
    Of::new(registry).v3(path)
}

/// `/openapi/v2`, as JSON.
#[must_use]
pub fn v2(registry: &Registry) -> Document {
    Of::new(registry).v2()
}

/// `/openapi/v2` in gnostic's protobuf; the hash is that of the JSON, which says the same.
#[must_use]
pub fn v2_protobuf(registry: &Registry) -> Document {
    Of::new(registry).v2_protobuf()
}

fn group_versions(kinds: &[Arc<Kind>]) -> GroupVersions<'_> {
    let mut out = GroupVersions::new();
    for kind in kinds.iter().filter(|kind| kind.served) {
        out.entry(document_path(kind)).or_default().push(kind);
    }
    out
}

fn v3(path: &str, kinds: &[&Kind], prose: &Prose) -> Document {
    let (mut schemas, mut items) = (Members::default(), Members::default());
    components::each(kinds, prose, |name, schema| schemas.put(name, &schema));
    paths::each(path, kinds, |name, item| items.put(name, &item));
    let mut text = r#"{"components":{"schemas":{"#.to_owned();
    schemas.write(text.len(), &mut text);
    let info = json!({"title": "Freewheel", "version": env!("CARGO_PKG_VERSION")});
    text.push_str(&format!(r#"}}}},"info":{info},"openapi":"3.0.0","paths":{{"#));
    items.write(text.len(), &mut text);
    text.push_str("}}");
    Document::of_text(text)
}
