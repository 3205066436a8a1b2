//! Some kinds together: those that all logical clusters share, or one's own.

use std::sync::{Arc, OnceLock};

use crate::gvk::split_api_version;
use crate::kind::Kind;
use crate::object::Resource;
use crate::openapi::documents::Documents;
use crate::openapi::kept::KeptDocuments;
use crate::openapi::prose::Prose;

/// Some kinds, which do not change.
pub struct Layer {
    /// Sorted by group, version and plural.
    kinds: Vec<Arc<Kind>>,
    /// What is said of their types.
    prose: fn() -> Prose,
    /// Made on the first question, where clusters share these.
    pub(crate) documents: OnceLock<Documents>,
    /// Of kinds that clusters have beside these.
    pub(crate) kept: KeptDocuments,
}

impl Layer {
    /// A layer of these, in any order.
    #[must_use]
    pub fn new(mut kinds: Vec<Arc<Kind>>) -> Self {
        kinds.sort_by(|a, b| path(a).cmp(&path(b)));
        let (documents, kept) = (OnceLock::new(), KeptDocuments::default());
        Self { kinds, prose: Prose::default, documents, kept }
    }

    /// What documents say of their types, and of those that come over them: asked for with each document that is made.
    #[must_use]
    pub fn described_by(self, prose: fn() -> Prose) -> Self {
        Self { prose, ..self }
    }

    pub(crate) fn prose(&self) -> Prose {
        (self.prose)()
    }

    /// All of them, sorted by group, version and plural.
    #[must_use]
    pub fn all(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// The kind behind a path of the API.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let found = self.kinds.binary_search_by(|kind| path(kind).cmp(&(group, version, plural)));
        found.ok().and_then(|place| self.kinds.get(place))
    }

    /// The kind that an object says it is.
    #[must_use]
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let (group, version) = split_api_version(api_version);
        let is = |k: &&Arc<Kind>| k.kind() == kind && k.group() == group && k.version() == version;
        self.kinds.iter().find(is)
    }

    /// The kind in whose form a stored object is.
    #[must_use]
    pub fn by_storage(&self, resource: &Resource) -> Option<&Arc<Kind>> {
        self.kinds.iter().find(|kind| kind.stored_as.is_none() && kind.storage() == resource)
    }

    /// Why another kind cannot be beside these.
    pub(crate) fn clash(&self, kind: &Kind) -> Option<KindTaken> {
        let taken = |what: String| Some(KindTaken(what));
        if self.find(kind.group(), kind.version(), kind.plural()).is_some() {
            return taken(format!("{} of {}", kind.plural(), kind.api_version()));
        }
        if self.by_kind(kind.api_version(), kind.kind()).is_some() {
            return taken(format!("{} of {}", kind.kind(), kind.api_version()));
        }
        let stored = self.by_storage(kind.storage()).is_some();
        if stored && kind.stored_as.is_none() {
            return taken(format!("the storage {}", kind.storage()));
        }
        None
    }
}

fn path(kind: &Kind) -> (&str, &str, &str) {
    (kind.group(), kind.version(), kind.plural())
}

/// A kind cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is another kind's already")]
pub struct KindTaken(String);
