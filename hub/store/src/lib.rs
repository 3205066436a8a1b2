//! Revisions: transactions with preconditions, consistent snapshots, watches from a revision.
//!
//! ```text
//! txn       what a transaction does to a state: expectations, limits, events
//! counter   numbers that many add to at once
//! stored_bytes  how many bytes each cluster has; room: what it may have
//! store_state  the persistent ordered map of one moment, O(1) to keep
//! history   recent events, shared by all watchers; each is called by its waker
//! watch_cache  what readers see: the newest durable state and the history
//! committer checks, batches, makes durable, publishes
//! layer     a store over another, with a little of its own
//! memory    the backend for tests and simulations; nothing survives
//! redb      the default: embedded, group commit, fsync before acknowledging
//! sealer    what lies sealed on its disk
//! ```
//!
//! Guarantees:
//! - a commit is answered after it is durable (`nothing_is_answered_or_seen_before_it_is_durable`,
//!   `every_acknowledged_write_survives_kill_9`);
//! - a reader sees only durable revisions, and always a whole one
//!   (`nothing_is_answered_or_seen_before_it_is_durable`, `a_revision_is_never_torn`);
//! - whoever was answered finds what it wrote in whatever it reads or watches next
//!   (`whoever_was_answered_reads_what_it_wrote`);
//! - watches deliver each revision once, in order (`events_come_once_and_in_order`);
//! - or say that it is gone (`a_watcher_that_fell_behind_is_told`);
//! - a transaction has a size that is known beforehand (`too_much_is_refused`, `a_request_has_so_many_bytes_at_most`);
//! - revisions may have gaps, for others may write as well (`a_gap_between_revisions_is_no_loss`), and each start of a hub
//!   leaves some out, so that a store that is put back from a copy uses none of the future that is lost
//!   (`a_life_uses_no_number_of_another`).

mod committer;
mod counter;
mod history;
mod layer;
pub mod memory;
pub mod redb;
mod room;
mod sealer;
mod store_state;
mod stored_bytes;
mod txn;
mod waker;
mod watch_cache;

pub use history::Limits;
pub use layer::Layer;
pub use sealer::{Resealed, SealError, Sealer, Unsealed};
pub use stored_bytes::StoredBytes;

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_hub_schema::object::{Key, Object, Resource};
use freewheel_link::names::ClusterName;
use futures::future::{self, BoxFuture, Either, Ready};

/// The state after a transaction that changed something. Later ones are larger, and nothing else follows from the
/// number: where others write as well, theirs lie in between. 0 is the state before anything was written.
pub type Revision = u64;

/// Most expectations in one transaction, and most operations, as etcd counts them (`--max-txn-ops`). What one request
/// of a person comes to is never more: the largest is a Service that takes or gives back every node port there is,
/// each of them two records.
pub const MAX_OPERATIONS: usize = 8_192;
/// Most bytes of one transaction, as etcd counts them (`--max-request-bytes`): all keys, headers and bodies. That
/// Service comes to five million.
pub const MAX_REQUEST_BYTES: usize = 8 << 20;
/// Largest body of one object in bytes.
pub const MAX_OBJECT_BYTES: usize = freewheel_link::limits::API_OBJECT_BYTES_MAX;
/// What the body of an object on its way out may have beyond that: when it goes, and who is waited for. The
/// largest object can be deleted as well.
pub const DELETION_EXTRA_BYTES: usize = 4 << 10;

/// An object as it stands at a revision.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: Key,
    /// Header and canonical body.
    pub object: Object,
    /// Revision that wrote it: its `resourceVersion`.
    pub revision: Revision,
    /// Revision that created it.
    pub created: Revision,
}

/// What a map with anything in it takes beside its texts: its first node has room for eleven.
const MAP_BYTES: usize = 600;

impl Stored {
    /// About how many bytes of memory it takes.
    pub(crate) fn held(&self) -> usize {
        let header = &self.object.header;
        let map = |map: &std::collections::BTreeMap<String, String>| {
            let texts: usize = map.iter().map(|(name, value)| name.len() + value.len()).sum();
            if map.is_empty() { 0 } else { MAP_BYTES + texts }
        };
        let owner = size_of::<freewheel_hub_schema::object::Owner>() + 100;
        size_of::<Self>()
            + self.key.cluster.as_str().len()
            + self.key.namespace.len()
            + self.key.name.len()
            + self.object.body.len()
            + header.uid.len()
            + map(&header.labels)
            + map(&header.fields)
            + header.owners.len() * owner
            + header.finalizers.iter().map(|text| 24 + text.len()).sum::<usize>()
    }
}

impl Scope {
    /// Whether the key lies in it.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.resource == key.resource
            && self.cluster.as_ref().is_none_or(|cluster| *cluster == key.cluster)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
    }
}

/// What must hold for a transaction to commit. All of it is about revisions and numbers, as in an etcd transaction;
/// none about what a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is nothing under the key.
    Absent(Key),
    /// There is something under the key.
    Present(Key),
    /// The key was last written at this revision.
    Revision(Key, Revision),
    /// What is under the key was created at this revision. Whatever was written to it since, it is the same object
    /// with the same UID: no one write replaces an object by another one.
    Created(Key, Revision),
    /// The counter under the key is at most this, what the transaction adds to it included.
    AtMost(Key, u64),
    /// The cluster of the key has at most so many bytes stored, or the transaction gives it no more than it had; else
    /// the answer is [`CommitError::ClusterFull`].
    ClusterAtMost(Key, u64),
}

impl Expect {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key)
            | Self::Present(key)
            | Self::Revision(key, _)
            | Self::Created(key, _)
            | Self::AtMost(key, _)
            | Self::ClusterAtMost(key, _) => key,
        }
    }

    /// This very object is still there, changed or not.
    #[must_use]
    pub fn still(object: &Stored) -> Self {
        Self::Created(object.key.clone(), object.created)
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes the object.
    Put(Key, Object),
    /// Removes what is there; nothing there is no error.
    Delete(Key),
    /// Adds to the counter under the key, which is of an `internal` resource. Nothing there is 0, and 0 leaves nothing
    /// there; whoever takes more than there is leaves 0. Transactions that add to one counter at the same time do not
    /// stand in each other's way: nobody has to expect what it was.
    Add(Key, i64),
}

impl Operation {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) | Self::Add(key, _) => key,
        }
    }
}

/// All or nothing: every expectation holds and every operation is done at one revision, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Checked in order against the state just before; at most [`MAX_OPERATIONS`].
    pub expect: Vec<Expect>,
    /// At most [`MAX_OPERATIONS`], and no key twice.
    pub operations: Vec<Operation>,
}

/// What a commit answers.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision that now includes it. When nothing changed (every put equals what was there),
    /// the store's current revision, and no event is made.
    pub revision: Revision,
    /// For each operation: the object after it (`Put`, `Add`) or before it (`Delete`).
    pub results: Vec<Option<Arc<Stored>>>,
}

/// Why a transaction did not commit. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// An expectation does not hold; with what is there instead.
    #[error("expectation {index} does not hold")]
    Unmet {
        /// Which of [`Txn::expect`].
        index: usize,
        /// What stands under its key.
        found: Option<Arc<Stored>>,
    },
    /// Too many expectations, operations or bytes.
    #[error("{0}")]
    TooLarge(String),
    /// The cluster would have more bytes stored than it may ([`Expect::ClusterAtMost`]).
    #[error("cluster {cluster} has {held} bytes stored, and {more} more are beyond its {most}")]
    ClusterFull {
        /// Which.
        cluster: ClusterName,
        /// What it has.
        held: u64,
        /// What would come to it.
        more: u64,
        /// What it may have.
        most: u64,
    },
    /// No transaction can do this: a key twice, or a counter that is none. A mistake of whoever wrote it.
    #[error("a transaction that makes no sense: {0}")]
    Malformed(String),
    /// More waits for the disk already than may wait. Nothing is wrong with the transaction: later it may be taken.
    #[error("as many writes wait for the disk as may wait")]
    Busy,
    /// The disk refused (full, failing): not acknowledged, and no later commit will be until it
    /// heals. As with any lost answer, the change may turn out to be on disk when it does.
    #[error("the store cannot write: {0}")]
    Unavailable(String),
    /// The writer has ended, by a mistake of its own. Only opening the store again helps.
    #[error("the store's writer has stopped")]
    Stopped,
}

/// What happened to one key.
#[derive(Clone, Debug)]
pub struct Event {
    /// Revision it happened at.
    pub revision: Revision,
    /// The object after it, or `None` when it was deleted.
    pub now: Option<Arc<Stored>>,
    /// The object before it, or `None` when it was created.
    pub before: Option<Arc<Stored>>,
}

impl Event {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.now.as_ref().or(self.before.as_ref()).map(|stored| &stored.key)
    }
}

/// A part of the key space: one resource, and optionally one cluster of it and one namespace of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The resource.
    pub resource: Resource,
    /// One cluster, or all.
    pub cluster: Option<ClusterName>,
    /// One namespace, or all; only with a cluster.
    pub namespace: Option<NamespaceName>,
}

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
    /// How many bytes each cluster has; in a state of the past ([`Store::snapshot_at`]) nobody has any.
    fn stored_bytes(&self) -> StoredBytes;
    /// How many objects are in the scope.
    fn count(&self, scope: &Scope) -> usize {
        self.range(scope, None).count()
    }
}

/// Events of several scopes in revision order. Every event of one revision is delivered before the
/// next; [`Watch::progress`] says how far it has come.
#[async_trait]
pub trait Watch: Send {
    /// The next events, all of one or more whole revisions, never empty; `Err` when the watcher fell so
    /// far behind that they are no longer kept. Whatever was published before the call is found; else the
    /// task that polled last is woken.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Event>, Compacted>>;
    /// The same, to be awaited. Cancel safe.
    async fn next(&mut self) -> Result<Vec<Event>, Compacted> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
    /// Every event up to this revision was delivered.
    fn progress(&self) -> Revision;
}

/// The revision asked for is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Compacted {
    /// Where the watch wanted to go on.
    pub asked: Revision,
    /// The oldest revision that can be watched from.
    pub oldest: Revision,
}

/// A read that may have to ask how far others are.
pub type Fresh<'a> = Either<Ready<Arc<dyn Snapshot>>, BoxFuture<'a, Arc<dyn Snapshot>>>;

/// The store. Reads are in memory and never wait; commits wait for the disk.
///
/// Whoever was answered by [`Store::commit`] finds what it wrote in every snapshot that it takes afterwards, and in
/// every watch from an earlier revision, without being called first.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Random and constant for the life of this data; a restore makes a new one.
    fn incarnation(&self) -> u64;
    /// Revisions that this life of the store left out when it began. Nobody has seen one of them in it: who has seen one
    /// comes from another life of the same data, in a future that is lost.
    fn left_out(&self) -> Range<Revision>;
    /// Lets the next commit that changes something have a revision beyond this one and do `mark` as well, whosever it is;
    /// nobody goes on from an earlier revision then, who is watching neither: it may be one of a future that is lost.
    /// Durable with that commit.
    fn skip_to(&self, beyond: Revision, mark: Operation);
    /// Commits, durably, before it returns. Who drops the future does not take the transaction back.
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError>;
    /// The newest durable state that is known here.
    fn snapshot(&self) -> Arc<dyn Snapshot>;
    /// A state that has everything that anybody was answered before this call, at whichever hub. Where this one alone
    /// writes, that is at hand.
    fn fresh(&self) -> Fresh<'_> {
        Either::Left(future::ready(self.snapshot()))
    }
    /// The state at this revision or a later one, once there is one: a client may have seen it at another hub. Waits as
    /// long as its caller does; cancel safe.
    async fn wait_for(&self, revision: Revision) -> Arc<dyn Snapshot>;
    /// One scope at exactly this revision, older ones as far back as a watch of it can start (for `continue` and
    /// exact lists). Nothing else of the snapshot is to be looked at. A revision that is not reached yet is an error
    /// too.
    fn snapshot_at(&self, of: &Scope, revision: Revision) -> Result<Arc<dyn Snapshot>, Compacted>;
    /// Gives back memory of the past. To be called every few minutes: what was there at the call before may go.
    fn compact_idle(&self) {}
    /// Events after `after` in any of the scopes; no scopes: of all API objects. Records of `internal` resources have
    /// no past: who follows them begins with [`Store::follow`].
    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted>;
    /// The newest state, and everything in the scopes that comes after it.
    fn follow(&self, scopes: Vec<Scope>) -> (Arc<dyn Snapshot>, Box<dyn Watch>) {
        loop {
            let snapshot = self.snapshot();
            // Whenever the past is not kept from there on, something newer is there already.
            if let Ok(watch) = self.watch(scopes.clone(), snapshot.revision()) {
                return (snapshot, watch);
            }
        }
    }
}

fn random_incarnation() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}
