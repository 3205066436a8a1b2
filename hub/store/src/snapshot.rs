//! What readers have: the whole store at one revision.

use std::sync::Arc;

use freewheel_hub_schema::object::Key;

use crate::{Revision, Scope, Stored, StoredBytes, counter};

/// The whole store at one revision; cheap to keep, never changes.
pub trait Snapshot: Send + Sync {
    /// Its revision.
    fn revision(&self) -> Revision;
    /// What is under the key.
    fn get(&self, key: &Key) -> Option<Arc<Stored>>;
    /// Everything in the scope in key order, starting after `after`.
    fn range<'a>(
        &'a self,
        scope: &Scope,
        after: Option<&Key>,
    ) -> Box<dyn Iterator<Item = Arc<Stored>> + Send + 'a>;
    /// The counter under the key.
    fn counter(&self, key: &Key) -> u64 {
        self.get(key).and_then(|stored| counter::read(&stored.object)).unwrap_or_default()
    }
    /// How many bytes each cluster has; in a state of the past
    /// ([`Store::snapshot_at`](crate::Store::snapshot_at)) nobody has any.
    fn stored_bytes(&self) -> StoredBytes;
    /// How many objects are in the scope.
    fn count(&self, scope: &Scope) -> usize {
        self.range(scope, None).count()
    }
}
