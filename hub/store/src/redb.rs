//! The default backend: one redb file, group commit, fsync before a commit is acknowledged.
//!
//! ```text
//! format    the tables of a database, and the numbers of its own; open_error  why it cannot be opened
//! encoding  keys and values on disk, frozen
//! disk      where the file lives; a simulated disk may stand in
//! witness   which revision was acknowledged, beside the file
//! overlay   a disk that keeps its writes to itself
//! check     reads a database through and through before anything is built upon it
//! compaction  gives back to the disk what is free in the file, at a start
//! progress  tells how far that has come
//! retry     how long a disk that refused is left alone
//! log       batches as redb transactions, and the way back after the disk failed
//!   reseal    writes anew what lies otherwise than it would be written now
//! spare_pages  room in the file itself
//! ```
//!
//! Guarantees:
//! - what was acknowledged survives `kill -9` and a power cut (`every_acknowledged_write_survives_kill_9`,
//!   `a_power_cut_loses_nothing_acknowledged_and_leaves_no_half`);
//! - no transaction is ever half there (`a_power_cut_loses_nothing_acknowledged_and_leaves_no_half`);
//! - a store of another build is refused unharmed (`a_store_of_another_build_is_told_and_left_alone`);
//! - and so is a damaged one: whichever bit of it flips, it opens with the same objects or says its name
//!   (`a_flipped_bit_of_a_closed_store_changes_nothing_or_is_told`,
//!   `a_flipped_bit_of_a_killed_store_changes_nothing_or_is_told`, `a_store_that_was_cut_or_emptied_is_told`);
//! - a store is made whole or not at all (`a_store_killed_while_it_is_made_is_made_again`);
//! - opening says what it reads and when it is through (`opening_says_what_it_reads_and_when_it_is_through`);
//! - what is to be sealed lies nowhere open, neither after changes nor after deletions
//!   (`what_is_sealed_is_nowhere_in_the_file`), and without its key the store is refused and left alone
//!   (`a_store_without_its_key_is_told_and_left_alone`);
//! - what was deleted is room again, before the file grows (`what_was_deleted_is_room_in_the_file`);
//! - a disk that can be read and takes no writes is enough to open
//!   (`a_store_opens_on_a_disk_that_takes_no_writes_and_heals`).

mod check;
mod compaction;
mod disk;
mod encoding;
mod format;
mod log;
mod open_error;
mod overlay;
mod progress;
mod retry;
mod spare_pages;
mod witness;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

pub use disk::{Disk, FileDisk, Reads};
pub use encoding::Unreadable;
pub use open_error::OpenError;

use crate::committer::Committer;
use crate::history::Limits;
use crate::prepare::Skip;
use crate::watch_cache::WatchCache;
use crate::{CommitError, Committed, Compacted, Operation, Resealed, Revision, Scope, Sealer};
use crate::{Snapshot, Store, Txn, Unsealed, Watch};
use log::RedbLog;
use spare_pages::SparePages;

/// Revisions that a life leaves out at its beginning at least, weeks of writes, and by chance beyond that.
const LEFT_OUT_MIN: Revision = 1 << 24;
const LEFT_OUT_BY_CHANCE: Revision = 1 << 32;

/// A store in a redb file.
pub struct RedbStore {
    incarnation: u64,
    cache: Arc<WatchCache>,
    committer: Committer,
    spare: Arc<SparePages>,
    stale: bool,
    refused: Option<String>,
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
        Self::start(RedbLog::open(disk, true, Arc::new(Unsealed))?, limits)
    }

    /// Opens the store on this disk, or makes it where it `may_make` one. What the sealer says is sealed.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn open_sealed(
        disk: impl Disk,
        may_make: bool,
        sealer: Arc<dyn Sealer>,
    ) -> Result<Self, OpenError> {
        Self::start(RedbLog::open(disk, may_make, sealer)?, Limits::default())
    }

    /// Has what is written next begin beyond revisions of its own: where the folder is an older copy, what came after the
    /// copy had others, and no number is used twice but by chance. To be called before anything is written.
    pub fn begin_life(&self) {
        let opened = self.cache.state().revision;
        // Of an empty store nobody knows anything.
        if opened != 0 {
            let by_chance = crate::random_incarnation() % LEFT_OUT_BY_CHANCE;
            self.committer.leave_out(opened + LEFT_OUT_MIN + by_chance);
        }
    }

    /// Whether some values lay otherwise on disk, when it was opened, than they would have been written then.
    #[must_use]
    pub fn was_stale(&self) -> bool {
        self.stale
    }

    /// Why the disk took no writes when it was opened, if it did not: what is stored is served, and every write asks the
    /// disk again.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// One step of writing anew what lies otherwise than the sealer would have it now: a few thousand values at most are
    /// looked at, and about a megabyte is written, between two batches of commits. The first step begins at nothing.
    /// When a step says that nothing is left, everything that it was told to change is durable, and not even redb's way
    /// back to the commit before leads to what was there.
    ///
    /// # Errors
    /// When the disk refuses: a later step may go on from there.
    pub async fn reseal(&self, from: Vec<u8>) -> Result<Resealed, CommitError> {
        self.committer.reseal(from).await
    }

    /// Room in the file itself, as far as it is [known](Self::count_spare): what is written takes it before the file grows.
    #[must_use]
    pub fn spare_bytes(&self) -> u64 {
        self.spare.bytes()
    }

    /// Counts the pages that are in use, all of which are read for it between two batches of commits.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn count_spare(&self) -> Result<(), CommitError> {
        self.committer.count_spare().await
    }

    fn start(opened: log::Opened<impl Disk>, limits: Limits) -> Result<Self, OpenError> {
        let cache = WatchCache::new(opened.state, limits);
        let spare = opened.log.spare();
        let committer =
            Committer::start(Arc::clone(&cache), opened.log).map_err(OpenError::Thread)?;
        let log::Opened { incarnation, stale, refused, .. } = opened;
        Ok(Self { incarnation, cache, committer, spare, stale, refused })
    }
}

#[async_trait]
impl Store for RedbStore {
    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn left_out(&self) -> Range<Revision> {
        self.cache.left_out()
    }

    fn skip_to(&self, beyond: Revision, mark: Operation) {
        self.committer.skip_to(Skip { beyond, mark: Some(mark) });
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.committer.commit(txn).await
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

    fn compact_idle(&self) {
        self.cache.compact_idle();
    }

    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted> {
        self.cache.watch(scopes, after)
    }
}
