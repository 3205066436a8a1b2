//! The pipeline's entries: create, update, modify, delete.

use std::borrow::Cow;
use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::registry::Registries;
use freewheel_hub_store::{Snapshot, Store, Stored};
use serde_json::Value;

use super::admission::Chain;
use super::check::Turns;
use super::clock::{Clock, Random, SystemClock, SystemRandom};
use super::owners::Owners;
use super::pending_claims::PendingClaims;
use super::update::{self, Attempt};
use super::{
    Conversions, DeleteOptions, Deleted, ObjectRef, Plugin, Proposal, Review, Rounds, Verb,
    WriteOptions,
};
use super::{create, delete, refusal};

/// The outcome of a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object after it, with its revision (the one before, on a dry run or a no-op).
    pub stored: Arc<Stored>,
    /// Whether a new revision was made (or would have been).
    pub changed: bool,
    /// Whether it was not there before.
    pub created: bool,
    /// Texts for `Warning:` headers.
    pub warnings: Vec<String>,
}

/// The pipeline.
#[derive(Clone)]
pub struct Objects {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Random>,
    pub(crate) admission: Chain,
    pub(crate) pending_claims: Arc<PendingClaims>,
    pub(crate) checks: Arc<Turns>,
    kinds: Arc<Registries>,
    conversions: Option<Arc<dyn Conversions>>,
}

impl Objects {
    /// Over this store, with the host's clock and random numbers.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with(store, Arc::new(SystemClock), Arc::new(SystemRandom))
    }

    /// Over this store, with this time and chance.
    #[must_use]
    pub fn with(store: Arc<dyn Store>, clock: Arc<dyn Clock>, chance: Arc<dyn Random>) -> Self {
        let admission = Chain::built_in();
        let kinds = Arc::new(kinds::registries());
        let pending_claims = Arc::default();
        let checks = Arc::default();
        let conversions = None;
        Self { store, clock, chance, admission, pending_claims, checks, kinds, conversions }
    }

    /// The same pipeline with one more who has a say in every write, after all others.
    #[must_use]
    pub fn admitting(mut self, plugin: Arc<dyn Plugin>) -> Self {
        self.admission.push(plugin);
        self
    }

    /// The same pipeline, with somebody who knows who converts custom resources.
    #[must_use]
    pub fn converting(self, conversions: Arc<dyn Conversions>) -> Self {
        Self { conversions: Some(conversions), ..self }
    }

    /// Who knows who converts custom resources, where somebody does.
    #[must_use]
    pub fn conversions(&self) -> Option<&dyn Conversions> {
        self.conversions.as_deref()
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

    /// What admission is asked about a write through the main door.
    pub(super) fn review<'a>(
        &'a self,
        how: &'a WriteOptions,
        verb: Verb,
        target: &'a ObjectRef,
    ) -> Review<'a> {
        let (actor, dry_run) = (&how.actor, how.dry_run);
        let (store, clock, chance) = (&*self.store, &*self.clock, &*self.chance);
        let (notes, rounds) = (how.notes.as_deref(), Rounds::default());
        Review {
            actor,
            verb,
            target,
            subresource: None,
            old: None,
            stores: true,
            dry_run,
            options: Cow::Borrowed(&how.options),
            notes,
            rounds,
            counted: &how.counted,
            store,
            clock,
            chance,
        }
    }

    /// Reads the newest durable object.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, target: &ObjectRef) -> Result<Arc<Stored>, ApiError> {
        self.get_in(&*self.store.snapshot(), target)
    }

    /// The same at a state.
    ///
    /// # Errors
    /// 404.
    pub fn get_in(
        &self,
        state: &dyn Snapshot,
        target: &ObjectRef,
    ) -> Result<Arc<Stored>, ApiError> {
        state.get(&target.key()).ok_or_else(|| refusal::not_found(target))
    }

    /// Creates; the name may come from the place, the body or its `generateName`.
    ///
    /// # Errors
    /// As kube-apiserver: 400, 403, 404 (no such namespace), 409, 413, 422, 503.
    pub async fn create(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        value: impl Into<Proposal>,
    ) -> Result<Written, ApiError> {
        let formed = value.into().form(how, target)?;
        Box::pin(create::create(self, how, target, formed, Owners::Tracked)).await
    }

    /// Replaces the object, or the part of it that `subresource` names. A `metadata.resourceVersion`
    /// must be the current one. Taking the last finalizer off a deleted object removes it.
    ///
    /// # Errors
    /// As kube-apiserver: 400, 403, 404, 409, 413, 422, 503.
    pub async fn update(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        subresource: Option<&str>,
        value: impl Into<Proposal>,
    ) -> Result<Written, ApiError> {
        let formed = value.into().form(how, target)?;
        Box::pin(update::update(self, how, target, subresource, formed)).await
    }

    /// Reads, changes, updates; again when somebody was faster, unless `change` sets a
    /// resourceVersion of its own. `change` may run several times.
    ///
    /// # Errors
    /// What `change` answers, and as [`Objects::update`].
    pub async fn modify<F>(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        subresource: Option<&str>,
        change: F,
    ) -> Result<Written, ApiError>
    where
        F: Fn(Value) -> Result<Value, ApiError> + Send + Sync,
    {
        let owners = Owners::Tracked;
        let attempt = Attempt { objects: self, how, target, subresource, owners };
        Box::pin(update::modify(attempt, change)).await
    }

    /// Deletes, or marks for deletion.
    ///
    /// # Errors
    /// 403 (namespaces that must stay), 404, 409 (preconditions), 503.
    pub async fn delete(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        Box::pin(delete::delete(self, how, target, options)).await
    }
}
