//! A store over another: it does what the one below does, but for what it has methods of its own.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    CommitError, Committed, Compacted, Fresh, Operation, Revision, Scope, Snapshot, Store, Txn,
    Watch,
};

/// What is not written out goes to the store below.
#[async_trait]
pub trait Layer: Send + Sync + 'static {
    /// The store below.
    fn below(&self) -> &dyn Store;

    /// As [`Store::commit`].
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.below().commit(txn).await
    }

    /// As [`Store::snapshot`].
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.below().snapshot()
    }

    /// As [`Store::watch`].
    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted> {
        self.below().watch(scopes, after)
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

// Written out, so that each layer costs one allocation per commit and not two.
impl<L: Layer> Store for L {
    fn incarnation(&self) -> u64 {
        self.below().incarnation()
    }

    fn left_out(&self) -> Range<Revision> {
        self.below().left_out()
    }

    fn skip_to(&self, beyond: Revision, mark: Operation) {
        self.below().skip_to(beyond, mark);
    }

    fn commit<'a, 'f>(&'a self, txn: Txn) -> Boxed<'f, Result<Committed, CommitError>>
    where
        'a: 'f,
        Self: 'f,
    {
        Layer::commit(self, txn)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Layer::snapshot(self)
    }

    fn fresh(&self) -> Fresh<'_> {
        self.below().fresh()
    }

    fn wait_for<'a, 'f>(&'a self, revision: Revision) -> Boxed<'f, Arc<dyn Snapshot>>
    where
        'a: 'f,
        Self: 'f,
    {
        self.below().wait_for(revision)
    }

    fn snapshot_at(&self, of: &Scope, revision: Revision) -> Result<Arc<dyn Snapshot>, Compacted> {
        self.below().snapshot_at(of, revision)
    }

    fn compact_idle(&self) {
        self.below().compact_idle();
    }

    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted> {
        Layer::watch(self, scopes, after)
    }
}
