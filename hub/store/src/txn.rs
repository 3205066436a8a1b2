//! Transactions, as whoever writes says them: what has to hold, what is to be done, how much that may be, and the
//! answer.

use std::sync::Arc;

use freewheel_hub_schema::object::{Key, Object};
use freewheel_link::names::ClusterName;

use crate::{Revision, Stored};

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
