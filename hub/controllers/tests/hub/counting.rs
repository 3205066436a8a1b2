//! A store that counts what is read of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use freewheel_hub_schema::object::Key;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{Layer, Revision, Scope, Snapshot, Store, Stored, StoredBytes};

/// How many objects were read of a store.
#[derive(Clone, Default)]
pub struct Reads {
    walked: Arc<AtomicU64>,
    got: Arc<AtomicU64>,
}

impl Reads {
    /// Objects that walks over snapshots have touched.
    pub fn walked(&self) -> u64 {
        self.walked.load(Ordering::Relaxed)
    }

    /// The same, and those that were asked for by their names.
    pub fn all(&self) -> u64 {
        self.walked() + self.got.load(Ordering::Relaxed)
    }
}

/// A store in memory that counts.
pub struct Counting {
    store: MemoryStore,
    reads: Reads,
}

impl Counting {
    /// One that counts here.
    pub fn new(reads: &Reads) -> Self {
        Self { store: MemoryStore::with_incarnation(1), reads: reads.clone() }
    }
}

struct Counted {
    snapshot: Arc<dyn Snapshot>,
    reads: Reads,
}

impl Snapshot for Counted {
    fn revision(&self) -> Revision {
        self.snapshot.revision()
    }

    fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.reads.got.fetch_add(1, Ordering::Relaxed);
        self.snapshot.get(key)
    }

    fn range<'a>(
        &'a self,
        scope: &Scope,
        after: Option<&Key>,
    ) -> Box<dyn Iterator<Item = Arc<Stored>> + Send + 'a> {
        let count = |_: &Arc<Stored>| {
            self.reads.walked.fetch_add(1, Ordering::Relaxed);
        };
        Box::new(self.snapshot.range(scope, after).inspect(count))
    }

    fn stored_bytes(&self) -> StoredBytes {
        self.snapshot.stored_bytes()
    }
}

impl Layer for Counting {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(Counted { snapshot: self.store.snapshot(), reads: self.reads.clone() })
    }
}
