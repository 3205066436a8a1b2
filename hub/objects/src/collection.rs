//! Deletes of all that there is of a kind, or of what is picked.
//!
//! Guarantees:
//! - many share a write to the disk (`a_collection_is_deleted_side_by_side`), and no more than some megabytes of them
//!   are on their way (`large_objects_are_deleted_a_few_at_a_time`);
//! - of what waits for its turn no more than [`OBJECTS_LOOKED_AT_ONCE`] keys are held, however large the collection is,
//!   and what is made meanwhile stays (`what_is_made_while_a_large_collection_goes_stays`);
//! - others have their turn after each object (`a_deletion_that_waits_for_nothing_lets_others_have_their_turn`).

use std::collections::VecDeque;
use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Revision, Scope, Store, Stored};
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use tokio::task::yield_now;

use super::{DeleteOptions, Deleted, ObjectRef, Objects, WriteOptions};

/// Of a collection, so many are on their way to the disk at a time.
const DELETES_AT_ONCE: usize = 64;
/// Of a collection, so many bytes are on their way at a time, or one object.
const DELETE_BYTES_AT_ONCE: usize = 4 << 20;
/// So many objects are looked at in one go, for those that are picked.
const OBJECTS_LOOKED_AT_ONCE: usize = 1_000;

impl Objects {
    /// Deletes everything of a kind in a cluster (and namespace, when not empty) that `wanted` picks, side by
    /// side, and tells of `each` in the order of a list; what goes meanwhile by itself is no error.
    ///
    /// # Errors
    /// The first that is no 404; what was deleted until then, or was on its way, stays deleted.
    pub async fn delete_collection(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        options: &DeleteOptions,
        wanted: impl Fn(&Stored) -> bool + Send + Sync,
        mut each: impl FnMut(Deleted) + Send,
    ) -> Result<(), ApiError> {
        let mut picked = CollectionPage::of(&*self.store, target, wanted);
        let (mut bytes, mut failed) = (0, None);
        let mut pending_claims = FuturesOrdered::new();
        loop {
            while pending_claims.len() < DELETES_AT_ONCE && failed.is_none() {
                let room = |one: usize| bytes == 0 || bytes + one <= DELETE_BYTES_AT_ONCE;
                let Some((key, one)) = picked.next_if(room).await else { break };
                bytes += one;
                pending_claims.push_back(self.delete_one(how, &target.kind, (key, one), options));
            }
            let Some((deleted, one)) = pending_claims.next().await else { break };
            bytes -= one;
            match deleted {
                Ok(one) => each(one),
                Err(error) if error.code == 404 => {}
                Err(error) => failed = failed.or(Some(error)),
            }
            // A dry run, and what is going already, wait for no disk.
            yield_now().await;
        }
        failed.map_or(Ok(()), Err)
    }

    async fn delete_one(
        &self,
        how: &WriteOptions,
        kind: &Arc<Kind>,
        (key, bytes): (Key, usize),
        options: &DeleteOptions,
    ) -> (Result<Deleted, ApiError>, usize) {
        let (namespace, name) = (key.namespace, key.name.to_string());
        let target = ObjectRef { kind: kind.clone(), cluster: key.cluster, namespace, name };
        (self.delete(how, &target, options).await, bytes)
    }
}

/// What is picked of a collection, in the order of a list.
struct CollectionPage<'a, W> {
    store: &'a dyn Store,
    scope: Scope,
    wanted: W,
    /// What is newer is not picked: who makes more all the time would keep it going.
    began: Revision,
    /// Keys and bytes of those that come next.
    found: VecDeque<(Key, usize)>,
    /// The last that was looked at.
    after: Option<Key>,
    is_over: bool,
}

impl<'a, W: Fn(&Stored) -> bool> CollectionPage<'a, W> {
    fn of(store: &'a dyn Store, target: &ObjectRef, wanted: W) -> Self {
        let namespace = Some(target.namespace.as_str()).filter(|name| !name.is_empty());
        let scope = Scope {
            resource: target.kind.storage().clone(),
            cluster: Some(target.cluster.clone()),
            namespace: namespace.map(Into::into),
        };
        let (began, found) = (store.snapshot().revision(), VecDeque::new());
        Self { store, scope, wanted, began, found, after: None, is_over: false }
    }

    /// The next one, when there is room for its bytes.
    async fn next_if(&mut self, room: impl Fn(usize) -> bool) -> Option<(Key, usize)> {
        while self.found.is_empty() && !self.is_over {
            self.look();
            yield_now().await;
        }
        let (_, bytes) = self.found.front()?;
        if room(*bytes) { self.found.pop_front() } else { None }
    }

    fn look(&mut self) {
        let snapshot = self.store.snapshot();
        let mut looked_at = 0;
        for stored in snapshot.range(&self.scope, self.after.as_ref()).take(OBJECTS_LOOKED_AT_ONCE)
        {
            looked_at += 1;
            if stored.created <= self.began && (self.wanted)(&stored) {
                self.found.push_back((stored.key.clone(), stored.object.body.len()));
            }
            if looked_at == OBJECTS_LOOKED_AT_ONCE {
                self.after = Some(stored.key.clone());
            }
        }
        self.is_over = looked_at < OBJECTS_LOOKED_AT_ONCE;
    }
}
