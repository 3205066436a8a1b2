//! The disk under the store: whether it takes what is written, and how much room is left.
//!
//! ```text
//! commit ─▶ store ─ refused, or no word for long ─▶ failing ─ every few seconds a trial ─▶ taken ─▶ well again
//! ```
//!
//! Guarantees:
//! - every refused write names the folder and the room that is left on its disk
//!   (`a_full_disk_refuses_writes_loses_nothing_and_heals`);
//! - a disk that takes the largest object again is noticed without anybody's help, and no sooner: on a full disk
//!   small writes still find a gap now and then (`a_disk_that_refused_is_tried_until_it_takes_a_write`,
//!   `a_full_disk_refuses_writes_loses_nothing_and_heals`);
//! - room in the store's own file counts as room (`what_is_deleted_is_room_again`), but where the file can grow no more
//!   by a large object (`room_in_pieces_is_none_on_a_full_disk`);
//! - a disk that stands still, with neither a yes nor a no, counts as one that refuses
//!   (`a_disk_that_stands_still_is_told_until_it_goes_on`).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::redb::RedbStore;
use freewheel_hub_store::{CommitError, Committed, Layer, MAX_OBJECT_BYTES, Operation, Store, Txn};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::sealing::Sealing;
use super::spare_room::{COUNT_EVERY, SpareRoom};
use super::store_metrics::CommitMetrics;

/// Less room than this and the hub is not ready: the store's file grows in steps of many megabytes, and
/// an operator should hear of it before the first write is refused.
pub(super) const FREE_BYTES_MIN: u64 = 64 << 20;
/// What the largest object takes in the store's file.
const LARGEST_BYTES: u64 = 2 * MAX_OBJECT_BYTES.next_power_of_two() as u64;
/// How soon a disk that refused is tried again, at first and at last: every try opens the database anew.
const DISK_RETRY_FIRST_AND_MAX: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(15));

/// A write without an outcome for so long tells of a disk that stands still: one that is busy takes a tenth of that.
const DISK_STALLED_AFTER: Duration = Duration::from_secs(10);
/// How often it is looked for one.
const STALL_CHECK_EVERY: Duration = Duration::from_secs(5);

/// Writes that wait for the disk, by when they began to.
#[derive(Default)]
struct PendingWrites {
    next: u64,
    waiting: BTreeMap<u64, Instant>,
}

/// A place in line, until there is an outcome or nobody waits for it.
struct PendingWrite<'a> {
    disk: &'a Disk,
    number: u64,
}

impl Drop for PendingWrite<'_> {
    fn drop(&mut self) {
        self.disk.line.lock().waiting.remove(&self.number);
    }
}

/// What is known of the disk.
pub struct Disk {
    folder: PathBuf,
    /// Bytes of it that are free.
    free: fn(&Path) -> io::Result<u64>,
    /// Room in the store's own file.
    pub(super) spare: SpareRoom,
    /// Why it refused the last write that had to reach it.
    failing: Mutex<Option<String>>,
    refused: Notify,
    line: Mutex<PendingWrites>,
    /// The store's writer has ended: no disk will help.
    stopped: CancellationToken,
    /// What became of transactions.
    pub(super) commits: Arc<CommitMetrics>,
}

impl Disk {
    /// Of the disk that this folder is on.
    pub fn new(folder: &Path) -> Arc<Self> {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        let (refused, stopped) = (Notify::new(), CancellationToken::new());
        Arc::new(Self {
            folder,
            free: on_disk,
            spare: SpareRoom::default(),
            failing: Mutex::default(),
            refused,
            line: Mutex::default(),
            stopped,
            commits: Arc::default(),
        })
    }

    /// What its store has found when it was opened.
    pub fn begins(&self, store: &RedbStore) {
        if let Some(why) = store.refused() {
            self.refuses(why);
        }
    }

    /// Fails while writes are refused.
    pub fn takes_writes(&self) -> Result<(), String> {
        self.failing.lock().clone().map_or(Ok(()), Err)
    }

    /// Fails when little room is left.
    pub fn has_room(&self) -> Result<(), String> {
        match self.room() {
            Ok(free) if free < FREE_BYTES_MIN => Err(format!(
                "{} has {} MiB free, less than {}",
                self.folder.display(),
                free >> 20,
                FREE_BYTES_MIN >> 20
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("cannot look at {}: {error}", self.folder.display())),
        }
    }

    /// Where it is looked at.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes that what is written finds: those that are free on the disk, and those in the store's own file. What is free
    /// in that may be in pieces which are too small for a large object, for which it has to grow.
    pub(super) fn room(&self) -> io::Result<u64> {
        let free = self.free()?;
        let spare = if LARGEST_BYTES <= free { self.spare.bytes() } else { 0 };
        Ok(free.saturating_add(spare))
    }

    fn free(&self) -> io::Result<u64> {
        (self.free)(&self.folder)
    }

    /// Whether it is worth a look what the store's own file has.
    fn is_short(&self) -> bool {
        self.free().is_ok_and(|free| free < FREE_BYTES_MIN)
    }

    /// The store's words and where to look.
    fn explain(&self, why: &str) -> String {
        let folder = self.folder.display();
        match self.free() {
            Ok(free) => format!("{why} (the disk of {folder} has {} MiB free)", free >> 20),
            Err(_) => format!("{why} (the disk of {folder})"),
        }
    }

    fn refuses(&self, why: &str) {
        if self.failing.lock().replace(why.to_owned()).is_none() {
            warn!(error = why, folder = %self.folder.display(), "the disk refuses writes");
        }
        self.refused.notify_one();
    }

    fn waits(&self, since: Instant) -> PendingWrite<'_> {
        let mut line = self.line.lock();
        let number = line.next;
        line.next += 1;
        line.waiting.insert(number, since);
        PendingWrite { disk: self, number }
    }

    /// Looks now and then whether the oldest write has waited for too long.
    async fn watch_for_stalls(&self) {
        loop {
            sleep(STALL_CHECK_EVERY).await;
            let oldest = self.line.lock().waiting.first_key_value().map(|(_, since)| *since);
            let Some(since) = oldest.filter(|since| DISK_STALLED_AFTER <= since.elapsed()) else {
                continue;
            };
            if self.takes_writes().is_ok() {
                let seconds = since.elapsed().as_secs();
                self.refuses(&format!("the disk stands still: a write waits for {seconds} s"));
            }
        }
    }

    /// Tries a disk that has refused until it takes a write, over and over.
    ///
    /// # Errors
    /// When the store's writer has ended: a hub that can only read is none.
    pub async fn watch(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = self.stopped.cancelled() => Err(io::Error::other(CommitError::Stopped)),
            () = self.try_again_and_again(&*store) => Ok(()),
            () = self.watch_for_stalls() => Ok(()),
            () = self.spare.count_again_and_again(COUNT_EVERY, || self.is_short()) => Ok(()),
        }
    }

    async fn try_again_and_again(&self, store: &dyn Store) {
        let mut tries = 0;
        loop {
            self.refused.notified().await;
            let mut pause = DISK_RETRY_FIRST_AND_MAX.0;
            while self.takes_writes().is_err() {
                sleep(pause).await;
                tries += 1;
                pause = (pause * 2).min(DISK_RETRY_FIRST_AND_MAX.1);
                // The second gives the room back; a refusal notes itself on its way.
                if store.commit(trial(tries, MAX_OBJECT_BYTES)).await.is_ok()
                    && store.commit(trial(tries, 0)).await.is_ok()
                {
                    *self.failing.lock() = None;
                    info!(folder = %self.folder.display(), "the disk takes writes again");
                }
            }
        }
    }
}

/// Bytes that are free on the disk of a folder.
fn on_disk(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// A write that means nothing and differs from the one before.
fn trial(number: u64, size: usize) -> Txn {
    let resource = Resource::new("internal", "disktrials");
    let key = Key::new(&resource, &ClusterName::root(), "", "hub");
    let mut body = number.to_be_bytes().to_vec();
    body.resize(size.max(body.len()), 0);
    let object = Object { header: Header::default(), body: body.into() };
    Txn { expect: Vec::new(), operations: vec![Operation::Put(key, object)] }
}

/// A store whose disk is watched.
pub struct WatchedStore {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its disk.
    pub disk: Arc<Disk>,
    /// Says which transactions cannot be written for want of a key.
    pub sealing: Option<Arc<Sealing>>,
}

#[async_trait]
impl Layer for WatchedStore {
    fn below(&self) -> &dyn Store {
        &*self.store
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let began = Instant::now();
        if let Some(sealing) = &self.sealing {
            sealing.admits(&txn).map_err(CommitError::Unavailable)?;
        }
        let mut commit = self.store.commit(txn);
        // What is answered at once has not asked the disk.
        let outcome = match poll_fn(|cx| Poll::Ready(commit.as_mut().poll(cx))).await {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let _waits = self.disk.waits(began);
                commit.await
            }
        };
        self.disk.commits.note(&outcome, began.elapsed());
        outcome.map_err(|error| match error {
            CommitError::Unavailable(why) => {
                self.disk.refuses(&why);
                CommitError::Unavailable(self.disk.explain(&why))
            }
            CommitError::Stopped => {
                self.disk.stopped.cancel();
                error
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests;
