//! Revisions: transactions with preconditions, consistent snapshots, watches from a revision.
//!
//! ```text
//! txn       what a transaction does to a state: expectations, limits, events
//! state     the persistent ordered map of one moment, O(1) to keep
//! ring      recent events, shared by all watchers; each is called by its bell
//! board     what readers see: the newest durable state and the ring
//! committer checks, batches, makes durable, publishes
//! memory    the backend for tests and simulations; nothing survives
//! redb      the default: embedded, group commit, fsync before acknowledging
//! objects   the pipeline that every writer of API objects goes through
//! clock     time and chance as traits
//! ```
//!
//! Guarantees:
//! - a commit is answered after it is durable (`nothing_is_answered_or_seen_before_it_is_durable`,
//!   `every_acknowledged_write_survives_kill_9`);
//! - a reader sees only durable revisions, and always a whole one
//!   (`nothing_is_answered_or_seen_before_it_is_durable`, `a_revision_is_never_torn`);
//! - watches deliver each revision once, in order (`events_come_once_and_in_order`);
//! - or say that it is gone (`a_watcher_that_fell_behind_is_told`).

mod bell;
mod board;
pub mod clock;
mod committer;
pub mod memory;
pub mod objects;
pub mod redb;
mod ring;
mod state;
mod txn;

pub use ring::Limits;

use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use freewheel_hub_api::object::{Key, Object};

/// Counts up by one per committed transaction that changed something; the first is 1.
pub type Revision = u64;

/// Most operations in one transaction. What one request of a person comes to is never more: the largest is a
/// Service that takes or gives back every node port there is, each of them two records.
pub const MAX_OPERATIONS: usize = 8_192;
/// Largest body of one object in bytes.
pub const MAX_OBJECT_BYTES: usize = freewheel_link::limits::API_OBJECT;
/// What the body of an object on its way out may have beyond that: when it goes, and who is waited for. The
/// largest object can be deleted as well.
pub const GOING_BYTES: usize = 4 << 10;

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
        let owner = size_of::<freewheel_hub_api::object::Owner>() + 100;
        size_of::<Self>()
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

/// What must hold for a transaction to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is nothing under the key.
    Absent(Key),
    /// There is something under the key.
    Present(Key),
    /// The key was last written at this revision.
    Revision(Key, Revision),
    /// The key holds an object with this UID.
    Uid(Key, String),
}

impl Expect {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Present(key) | Self::Revision(key, _) | Self::Uid(key, _) => {
                key
            }
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes the object.
    Put(Key, Object),
    /// Removes what is there; nothing there is no error.
    Delete(Key),
}

/// All or nothing: every expectation holds and every operation is done at one revision, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Checked in order against the state just before.
    pub expect: Vec<Expect>,
    /// At most [`MAX_OPERATIONS`].
    pub operations: Vec<Operation>,
}

/// What a commit answers.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision that now includes it. When nothing changed (every put equals what was there),
    /// the store's current revision, and no event is made.
    pub revision: Revision,
    /// For each operation: the object after it (`Put`) or before it (`Delete`).
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
    /// Too many operations or too large an object.
    #[error("{0}")]
    TooLarge(String),
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
    pub resource: freewheel_hub_api::object::Resource,
    /// One cluster, or all.
    pub cluster: Option<freewheel_link::names::ClusterName>,
    /// One namespace, or all; only with a cluster.
    pub namespace: Option<Arc<str>>,
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

/// The store. Reads are in memory and never wait; commits wait for the disk.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Random and constant for the life of this data; a restore makes a new one.
    fn incarnation(&self) -> u64;
    /// Lets the next commit have a revision beyond this one, and nobody go on from the revisions in between:
    /// they were those of a future that is lost. Durable with that commit.
    fn skip_to(&self, beyond: Revision);
    /// Commits, durably, before it returns. Who drops the future does not take the transaction back.
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError>;
    /// The newest durable state.
    fn snapshot(&self) -> Arc<dyn Snapshot>;
    /// The state at exactly this revision, older ones as far back as a watch can start (for
    /// `continue` and exact lists). A revision that is not reached yet is an error too.
    fn snapshot_at(&self, revision: Revision) -> Result<Arc<dyn Snapshot>, Compacted>;
    /// Gives back memory of the past. To be called every few minutes: what was there at the call before may go.
    fn rest(&self) {}
    /// Events after `after` in any of the scopes; no scopes: of everything.
    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted>;
}

fn random_incarnation() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}
