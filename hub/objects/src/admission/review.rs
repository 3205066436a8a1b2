//! What admission is asked about.

use std::borrow::Cow;
use std::sync::Arc;

use freewheel_hub_schema::name;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Scope, Snapshot, Store};
use serde_json::{Map, Value};

use super::rounds::Rounds;
use crate::clock::{Clock, Random};
use crate::write_options::Counted;
use crate::{Actor, Notes, ObjectRef, Verb};

/// One write before it is made, or one action before it is done.
pub struct Review<'a> {
    /// Who writes.
    pub actor: &'a Actor,
    /// What is to be done.
    pub verb: Verb,
    /// To which object; of a create the name may not be known yet.
    pub target: &'a ObjectRef,
    /// By which door: `None` is the main one.
    pub subresource: Option<&'a str>,
    /// The object before it, in the kind's own version; none where one is made.
    pub old: Option<&'a Value>,
    /// An object is stored, or goes. Else it is an [`Action`](crate::Action), whose object is shown in the other's place.
    pub stores: bool,
    /// Nothing will be written.
    pub dry_run: bool,
    /// What else its writer says of how to write: CreateOptions and the like.
    pub options: Cow<'a, Map<String, Value>>,
    /// What plugins say beside their answer goes here, where somebody listens.
    pub notes: Option<&'a Notes>,
    /// How often they were asked.
    pub rounds: Rounds,
    pub(crate) counted: &'a Counted,
    pub(crate) store: &'a dyn Store,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) chance: &'a dyn Random,
}

impl Review<'_> {
    /// The newest state.
    #[must_use]
    pub fn state(&self) -> Arc<dyn Snapshot> {
        self.store.snapshot()
    }

    /// Where a counter stands, with what is counted by other objects of the same transaction.
    pub(super) fn counter(&self, state: &dyn Snapshot, counter: &Key) -> i64 {
        let stands = i64::try_from(state.counter(counter)).unwrap_or(i64::MAX);
        stands.saturating_add(self.counted.of(counter))
    }

    /// Where all objects of a resource are, in the cluster of the object.
    pub(super) fn everywhere_in_its_cluster(&self, resource: &Resource) -> Scope {
        let cluster = Some(self.target.cluster.clone());
        Scope { resource: resource.clone(), cluster, namespace: None }
    }

    /// All objects of a resource in the namespace of the object.
    pub(super) fn in_its_namespace(&self, resource: &Resource) -> Vec<Value> {
        let namespace = Some(self.target.namespace.clone());
        let scope = Scope { namespace, ..self.everywhere_in_its_cluster(resource) };
        let state = self.state();
        state.range(&scope, None).filter_map(|stored| stored.object.value().ok()).collect()
    }

    /// A name that begins so, as a server makes it.
    pub(super) fn generate_name(&self, base: &str) -> String {
        let [.., a, b, c, d, e] = self.chance.bytes();
        name::generate(base, [a, b, c, d, e])
    }

    /// Says something to the writer.
    pub fn warn(&self, text: impl Into<String>) {
        if let Some(notes) = self.notes {
            notes.warn(text);
        }
    }

    /// Says something to the audit.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        if let Some(notes) = self.notes {
            notes.annotate(key, value);
        }
    }

    /// The same, where it is told of bodies alone.
    pub fn annotate_body(&self, key: impl Into<String>, value: impl Into<String>) {
        if let Some(notes) = self.notes {
            notes.annotate_body(key, value);
        }
    }

    /// Now, in Unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.clock.unix_seconds()
    }

    /// Whether a new object is made.
    #[must_use]
    pub fn creates(&self) -> bool {
        self.verb == Verb::Create && self.stores
    }

    /// Whether an object is made, or changed by its main door.
    #[must_use]
    pub fn asks_for_it(&self) -> bool {
        matches!(self.verb, Verb::Create | Verb::Update)
            && self.subresource.is_none()
            && self.stores
    }
}
