//! The default backend: one redb file, group commit, fsync before a commit is acknowledged.
//!
//! ```text
//! encoding  keys and values on disk, frozen
//! disk      where the file lives; a simulated disk may stand in
//! log       batches as redb transactions, and the way back after the disk failed
//! ```
//!
//! Guarantees: what was acknowledged survives `kill -9` and a power cut; no transaction is ever half
//! there; a file of a newer format is refused unharmed.

mod disk;
mod encoding;
mod log;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

pub use disk::{Disk, FileDisk};
pub use encoding::Unreadable;

use crate::board::Board;
use crate::committer::Committer;
use crate::ring::Limits;
use crate::{CommitError, Committed, Compacted, Revision, Scope, Snapshot, Store, Txn, Watch};
use log::RedbLog;

/// The format that this build writes.
const FORMAT: u64 = 1;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer build wrote it.
    #[error("the store has format {found}, this build knows up to {known}: use a newer hub")]
    Newer {
        /// Format on disk.
        found: u64,
        /// Newest format of this build.
        known: u64,
    },
    /// The file cannot be opened.
    #[error("cannot open the store's file")]
    Disk(#[source] std::io::Error),
    /// redb refuses it.
    #[error("cannot read the store")]
    Database(#[source] Box<redb::Error>),
    /// Something in it makes no sense.
    #[error("the store is damaged")]
    Unreadable(#[from] Unreadable),
    /// It lacks what every store has.
    #[error("the store lacks its incarnation or revision")]
    Incomplete,
    /// The writer's thread cannot be started.
    #[error("cannot start the store's writer")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    fn from<E: Into<redb::Error>>(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }

    /// The whole chain of causes as one text.
    fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// A store in a redb file.
pub struct RedbStore {
    incarnation: u64,
    board: Arc<Board>,
    committer: Committer,
}

impl RedbStore {
    /// Opens or makes the store in this directory. Reads all of it: call it where blocking is fine.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed then.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_on(FileDisk::new(directory), Limits::default())
    }

    /// Opens or makes the store on any disk.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn open_on(disk: impl Disk, limits: Limits) -> Result<Self, OpenError> {
        let opened = RedbLog::open(disk)?;
        let board = Board::new(opened.state, limits);
        let committer =
            Committer::start(Arc::clone(&board), opened.log).map_err(OpenError::Thread)?;
        Ok(Self { incarnation: opened.incarnation, board, committer })
    }
}

#[async_trait]
impl Store for RedbStore {
    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn skip_to(&self, beyond: Revision) {
        self.committer.skip_to(beyond);
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.committer.commit(txn).await
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.board.state()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Arc<dyn Snapshot>, Compacted> {
        Ok(self.board.state_at(revision)?)
    }

    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted> {
        self.board.watch(scopes, after)
    }
}
