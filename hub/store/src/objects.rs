//! The commit pipeline over the store that every writer shares: API server, controllers, gateway.
//!
//! ```text
//! value ─▶ canonicalise ─▶ default ─▶ prepare ─▶ validate ─▶ (addresses, ports) ─▶ commit ─▶ stored
//! ```
//!
//! Guarantees: what is stored is canonical and valid for its kind; a write that changes nothing keeps
//! its revision; uid, creationTimestamp, generation, deletionTimestamp and finalizers follow
//! Kubernetes' rules whoever writes.

use std::sync::Arc;

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use crate::{Revision, Store, Stored};

/// Who writes, carried to the commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// User name, for example `kubernetes-admin` or `system:controller:deployment`.
    pub user: String,
    /// `fieldManager` of the request, else derived from the user agent.
    pub field_manager: String,
}

/// What to do with fields that the schema does not know (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// 400 with all of them.
    Strict,
    /// Drop and warn: the server's default.
    #[default]
    Warn,
    /// Drop.
    Ignore,
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// Who writes.
    pub actor: Actor,
    /// Go through everything but the commit.
    pub dry_run: bool,
    /// Unknown fields.
    pub field_validation: FieldValidation,
}

/// Which object.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its kind.
    pub kind: &'static Kind,
    /// Its logical cluster.
    pub cluster: ClusterName,
    /// Its namespace, empty for what has none.
    pub namespace: String,
    /// Its name; empty on a create that uses generateName or takes it from the body.
    pub name: String,
}

/// The outcome of a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object after it, with its revision (the one before, on a dry run or a no-op).
    pub stored: Arc<Stored>,
    /// Whether a new revision was made (or would have been).
    pub changed: bool,
    /// Texts for `Warning:` headers.
    pub warnings: Vec<String>,
}

/// Options of a delete (meta/v1 DeleteOptions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds; `None`: the kind's default; 0: at once.
    pub grace_period_seconds: Option<i64>,
    /// preconditions.uid
    pub uid: Option<String>,
    /// preconditions.resourceVersion
    pub revision: Option<Revision>,
    /// `Orphan`, `Background` or `Foreground`; `None`: Background.
    pub propagation: Option<Propagation>,
}

/// propagationPolicy
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents stay.
    Orphan,
    /// Dependents go after it.
    Background,
    /// Dependents go before it.
    Foreground,
}

/// What a delete came to.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// It is gone; this is what it was.
    Gone(Arc<Stored>),
    /// It has a deletionTimestamp now and goes when finalizers or the spoke say so.
    Going(Arc<Stored>),
}

/// The pipeline.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn Store>,
}

impl Objects {
    /// Over this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store beneath, for reads and watches.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

// To be provided by the pipeline (see the brief): get, create, update, modify, delete.
#[expect(dead_code, reason = "names the signatures' types until the pipeline stands")]
type Signatures = (ApiError, Value);
