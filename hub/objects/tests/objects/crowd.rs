//! A store in which commits wait for each other, as they do while a batch is on its way to the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Store, Txn};
use tokio::sync::Notify;

/// Once told, holds commits back until so many are there, and counts all of them.
pub(crate) struct Crowd {
    store: MemoryStore,
    wanted: AtomicUsize,
    come: AtomicUsize,
    all_there: Notify,
}

impl Crowd {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::with_incarnation(1),
            wanted: AtomicUsize::new(0),
            come: AtomicUsize::new(0),
            all_there: Notify::new(),
        })
    }

    /// The next commits go on when so many of them are there.
    pub(crate) fn gather(&self, wanted: usize) {
        self.come.store(0, Ordering::SeqCst);
        self.wanted.store(wanted, Ordering::SeqCst);
    }

    /// All go on.
    pub(crate) fn let_go(&self) {
        self.wanted.store(0, Ordering::SeqCst);
        self.all_there.notify_waiters();
    }

    /// How many commits there were since then.
    pub(crate) fn came(&self) -> usize {
        self.come.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Layer for Crowd {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let wanted = self.wanted.load(Ordering::SeqCst);
        let mut told = std::pin::pin!(self.all_there.notified());
        told.as_mut().enable();
        if wanted <= 1 + self.come.fetch_add(1, Ordering::SeqCst) {
            self.all_there.notify_waiters();
        } else {
            told.await;
        }
        self.store.commit(txn).await
    }
}
