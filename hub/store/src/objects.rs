//! The commit pipeline over the store that every writer shares: API server, controllers, gateway.
//!
//! ```text
//! value ─▶ canonicalise ─▶ default ─▶ admit ─▶ prepare ─▶ validate ─▶ (addresses, ports) ─▶ commit ─▶ stored
//! ```
//!
//! Guarantees:
//! - what is stored is valid for its kind (`every_mistake_is_named`, `a_change_is_validated`);
//! - a write that changes nothing keeps its revision (`an_update_that_changes_nothing_keeps_the_revision`);
//! - uid, creationTimestamp, generation, deletionTimestamp and finalizers follow Kubernetes' rules whoever writes
//!   (`the_server_keeps_what_it_owns`, `the_generation_counts_changes_of_what_is_asked_for`,
//!   `a_finalizer_holds_until_it_is_taken_off`);
//! - what is there can be deleted, however large it is (`an_object_of_the_largest_size_can_be_deleted`);
//! - what is deleted together is written together (`a_collection_is_deleted_side_by_side`);
//! - what a writer looked at first is so when it writes, or nothing is written
//!   (`a_write_whose_reason_is_gone_is_not_made`).

mod admission;
mod create;
mod delete;
mod meta;
mod namespace;
mod pins;
mod refusal;
mod service;
mod shape;
mod splice;
mod update;

use std::sync::Arc;

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_api::registry::Registries;
use freewheel_link::names::ClusterName;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use serde_json::Value;

pub use splice::{stored_bytes, stored_bytes_at, stored_value};

use crate::clock::{Chance, Clock, SystemChance, SystemClock};
use crate::{Expect, Revision, Scope, Snapshot, Store, Stored};

/// Of a collection, so many are on their way to the disk at a time.
const DELETED_AT_ONCE: usize = 64;
/// Of a collection, so many bytes are on their way at a time, or one object.
const DELETED_BYTES: usize = 4 << 20;

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
    /// The value comes straight from `schema::decode_json` or `protobuf::decode` and is canonical
    /// already: spares a walk over it. Unknown fields were dealt with there.
    pub canonical: bool,
    /// The hub itself writes, and may say what an object's images stand for.
    pub keeps_pins: bool,
    /// What must hold when the write is committed, beside what it says of its own object: that which its writer looked
    /// at first. Where it does not the write is refused, with [`OVERTAKEN`].
    pub expect: Vec<Expect>,
}

/// Reason of the refusal of a write whose writer looked at something that is another by now. No second try helps.
pub const OVERTAKEN: &str = "Overtaken";

/// Which object.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its kind.
    pub kind: Arc<Kind>,
    /// Its logical cluster.
    pub cluster: ClusterName,
    /// Its namespace, empty for what has none.
    pub namespace: String,
    /// Its name; empty on a create that uses generateName or takes it from the body.
    pub name: String,
}

impl Place {
    /// Its key in the store; a namespace means nothing to a kind that lives in none.
    #[must_use]
    pub fn key(&self) -> Key {
        let namespace = if self.kind.namespaced { self.namespace.as_str() } else { "" };
        Key::new(self.kind.storage(), &self.cluster, namespace, &self.name)
    }
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

/// What was done, for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A new object.
    Create,
    /// A change.
    Update,
    /// A removal, or the mark that leads to one.
    Delete,
}

impl Verb {
    /// `create`, `update`, `delete`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Learns of every commit that changed something, after it is durable.
pub trait Audit: Send + Sync {
    /// `stored` is the object after it, or before it when it was removed.
    fn committed(&self, actor: &Actor, verb: Verb, revision: Revision, stored: &Stored);
}

/// The pipeline.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    audit: Option<Arc<dyn Audit>>,
    kinds: Arc<Registries>,
}

impl Objects {
    /// Over this store, with the host's clock and random numbers.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with(store, Arc::new(SystemClock), Arc::new(SystemChance))
    }

    /// Over this store, with this time and chance.
    #[must_use]
    pub fn with(store: Arc<dyn Store>, clock: Arc<dyn Clock>, chance: Arc<dyn Chance>) -> Self {
        Self { store, clock, chance, audit: None, kinds: Arc::default() }
    }

    /// The same pipeline with an audit.
    #[must_use]
    pub fn audited(self, audit: Arc<dyn Audit>) -> Self {
        Self { audit: Some(audit), ..self }
    }

    /// The store beneath, for reads and watches.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The clock that stamps what is written.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Which kinds each logical cluster serves: one truth for every writer.
    #[must_use]
    pub fn kinds(&self) -> &Arc<Registries> {
        &self.kinds
    }

    /// Reads the newest durable object.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, place: &Place) -> Result<Arc<Stored>, ApiError> {
        self.get_in(&*self.store.snapshot(), place)
    }

    /// The same at a state.
    ///
    /// # Errors
    /// 404.
    pub fn get_in(&self, state: &dyn Snapshot, place: &Place) -> Result<Arc<Stored>, ApiError> {
        state.get(&place.key()).ok_or_else(|| refusal::not_found(place))
    }

    /// Creates; the name may come from the place, the body or its `generateName`.
    ///
    /// # Errors
    /// As kube-apiserver: 400, 403, 404 (no such namespace), 409, 413, 422, 503.
    pub async fn create(
        &self,
        how: &How,
        place: &Place,
        value: Value,
    ) -> Result<Written, ApiError> {
        Box::pin(create::create(self, how, place, value)).await
    }

    /// Replaces the object, or the part of it that `subresource` names. A `metadata.resourceVersion`
    /// must be the current one. Taking the last finalizer off a deleted object removes it.
    ///
    /// # Errors
    /// As kube-apiserver: 400, 403, 404, 409, 413, 422, 503.
    pub async fn update(
        &self,
        how: &How,
        place: &Place,
        subresource: Option<&str>,
        value: Value,
    ) -> Result<Written, ApiError> {
        Box::pin(update::update(self, how, place, subresource, value)).await
    }

    /// Reads, changes, updates; again when somebody was faster, unless `change` sets a
    /// resourceVersion of its own. `change` may run several times.
    ///
    /// # Errors
    /// What `change` answers, and as [`Objects::update`].
    pub async fn modify<F>(
        &self,
        how: &How,
        place: &Place,
        subresource: Option<&str>,
        change: F,
    ) -> Result<Written, ApiError>
    where
        F: Fn(Value) -> Result<Value, ApiError> + Send + Sync,
    {
        Box::pin(update::modify(self, how, place, subresource, change)).await
    }

    /// Deletes, or marks for deletion.
    ///
    /// # Errors
    /// 403 (namespaces that must stay), 404, 409 (preconditions), 503.
    pub async fn delete(
        &self,
        how: &How,
        place: &Place,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        Box::pin(delete::delete(self, how, place, options)).await
    }

    /// Deletes everything of a kind in a cluster (and namespace, when not empty) that `wanted` picks, side by
    /// side, so that many share a write to the disk, and tells of `each` in the order of a list; what goes meanwhile by
    /// itself is no error. Nothing of what is deleted is held beyond what is on its way.
    ///
    /// # Errors
    /// The first that is no 404; what was deleted until then, or was on its way, stays deleted.
    pub async fn delete_collection(
        &self,
        how: &How,
        place: &Place,
        options: &DeleteOptions,
        wanted: impl Fn(&Stored) -> bool + Send + Sync,
        mut each: impl FnMut(Deleted) + Send,
    ) -> Result<(), ApiError> {
        let namespace = Some(place.namespace.as_str()).filter(|name| !name.is_empty());
        let scope = Scope {
            resource: place.kind.storage().clone(),
            cluster: Some(place.cluster.clone()),
            namespace: namespace.map(Into::into),
        };
        let mut all = {
            let snapshot = self.store.snapshot();
            let all = snapshot.range(&scope, None).filter(|stored| wanted(stored));
            let sized = all.map(|stored| (stored.key.clone(), stored.object.body.len()));
            sized.collect::<Vec<_>>().into_iter().peekable()
        };
        let (mut bytes, mut failed) = (0, None);
        let mut under_way = FuturesOrdered::new();
        loop {
            let room = |bytes: usize, one: usize| bytes == 0 || bytes + one <= DELETED_BYTES;
            while under_way.len() < DELETED_AT_ONCE && failed.is_none() {
                let Some((key, one)) = all.next_if(|(_, one)| room(bytes, *one)) else { break };
                bytes += one;
                under_way.push_back(self.delete_one(how, &place.kind, (key, one), options));
            }
            let Some((deleted, one)) = under_way.next().await else { break };
            bytes -= one;
            match deleted {
                Ok(one) => each(one),
                Err(error) if error.code == 404 => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn delete_one(
        &self,
        how: &How,
        kind: &Arc<Kind>,
        (key, bytes): (Key, usize),
        options: &DeleteOptions,
    ) -> (Result<Deleted, ApiError>, usize) {
        let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
        let place = Place { kind: kind.clone(), cluster: key.cluster, namespace, name };
        (self.delete(how, &place, options).await, bytes)
    }
}
