//! The backend of tests and simulations: nothing survives, nothing waits, nothing is random but the
//! incarnation, and that can be given.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::history::Limits;
use crate::prepare::{Skip, prepare_next};
use crate::store_state::StoreState;
use crate::watch_cache::WatchCache;
use crate::{
    CommitError, Committed, Compacted, Operation, Revision, Scope, Snapshot, Store, Txn, Watch,
};

/// A store in memory; commits happen inside the call.
pub struct MemoryStore {
    incarnation: u64,
    /// From one revision to the next.
    step: Revision,
    cache: Arc<WatchCache>,
    /// Held while a transaction is checked and published.
    writing: Mutex<Option<Skip>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Empty, with a random incarnation.
    #[must_use]
    pub fn new() -> Self {
        Self::with_incarnation(crate::random_incarnation())
    }

    /// Empty, with this incarnation: the same calls make the same store.
    #[must_use]
    pub fn with_incarnation(incarnation: u64) -> Self {
        Self::with_limits(incarnation, Limits::default())
    }

    /// Empty, keeping this much of the past.
    #[must_use]
    pub fn with_limits(incarnation: u64, limits: Limits) -> Self {
        let cache = WatchCache::new(StoreState::default(), limits);
        Self { incarnation, step: 1, cache, writing: Mutex::default() }
    }

    /// Begins as a store does that was opened: nobody gets a revision up to this one.
    pub fn leave_out(&self, beyond: Revision) {
        Skip { beyond, mark: None }.put_into(&mut self.writing.lock());
        self.cache.leave_out(beyond);
    }

    /// The same, with revisions so far apart: as one that others write to as well.
    #[must_use]
    pub fn sparse(self, step: Revision) -> Self {
        Self { step: step.max(1), ..self }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn left_out(&self) -> Range<Revision> {
        self.cache.left_out()
    }

    fn skip_to(&self, beyond: Revision, mark: Operation) {
        Skip { beyond, mark: Some(mark) }.put_into(&mut self.writing.lock());
        self.cache.skip_to(beyond);
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let skip = self.writing.lock();
        let prepared = prepare_next(&self.cache.state(), self.step, skip.as_ref(), txn)?;
        let revision = prepared.state.revision;
        if !prepared.events.is_empty() {
            // Called here and now, in their order: the same calls make the same run.
            drop(self.cache.publish(prepared.state, &prepared.events));
        }
        Ok(Committed { revision, results: prepared.results })
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.cache.state()
    }

    fn snapshot_at(&self, of: &Scope, revision: Revision) -> Result<Arc<dyn Snapshot>, Compacted> {
        Ok(self.cache.state_at(of, revision)?)
    }

    async fn wait_for(&self, revision: Revision) -> Arc<dyn Snapshot> {
        self.cache.wait_for(revision).await
    }

    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted> {
        self.cache.watch(scopes, after)
    }
}
