//! What logs may take of the device: of its disk, and of the life of its flash.
//!
//! Guarantees:
//! - all logs of the node together stay within about the bound that it was made with, however many containers there
//!   are: those that run have a half of it, each an equal share and no more than two files of [`LOG_FILE_BYTES_MAX`]
//!   (`all_logs_together_have_what_the_node_gives`); those that have ended (`ended.rs`) have the other half, and the oldest
//!   make room (`a_log_that_ends_is_counted`);
//! - a container that writes faster than [`CONTAINER_BYTES_PER_SECOND`] for longer than its burst waits, and so does
//!   one while all together write faster than [`NODE_BYTES_PER_SECOND`] (`who_writes_faster_than_it_may_waits`);
//! - what was written beyond that is owed until it is paid for
//!   (`a_line_that_is_larger_than_the_bucket_is_paid_for_in_full`);
//! - so many are written at a time ([`WRITES_AT_ONCE`]), the others wait without a thread
//!   (`a_card_that_stands_still_holds_some_threads_and_not_all`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::ended::EndedLogs;

/// The largest log file before it is set aside.
pub(crate) const LOG_FILE_BYTES_MAX: u64 = 10 << 20;
/// The smallest share that is worth a file.
const LOG_FILE_BYTES_MIN: u64 = 64 << 10;
/// Files that a container may have: two of the start that runs, and as much of those that have ended.
const LOG_FILES_PER_CONTAINER: u64 = 4;
/// Bytes per second that one container writes for long, and what it may write at once before that.
const CONTAINER_BYTES_PER_SECOND: i64 = 512 << 10;
const CONTAINER_BURST_BYTES: i64 = 16 << 20;
/// The same for all containers of the node together.
const NODE_BYTES_PER_SECOND: i64 = 2 << 20;
const NODE_BURST_BYTES: i64 = 64 << 20;

/// Logs that are written at a time: the threads are those of loads and of the dial to the hub, too, and a card that
/// takes nothing would hold all of them.
pub const WRITES_AT_ONCE: usize = 2;

/// Bytes that may be written now, and how fast more come.
#[derive(Debug)]
struct Bucket {
    /// Below zero: what is owed.
    left: i64,
    most: i64,
    per_second: i64,
    filled: Instant,
}

impl Bucket {
    fn new(most: i64, per_second: i64, now: Instant) -> Self {
        Self { left: most, most, per_second, filled: now }
    }

    /// Takes what was written; how long to wait before the next.
    fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled);
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let more = passed.saturating_mul(self.per_second) / 1000;
        if 0 < more {
            self.filled = now;
            self.left = self.left.saturating_add(more).min(self.most);
        }
        self.left = self.left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let owed = self.left.min(0).unsigned_abs();
        Duration::from_millis(owed.saturating_mul(1000) / self.per_second.unsigned_abs())
    }
}

/// What all logs of a node may take.
#[derive(Debug)]
pub struct LogBudget {
    disk: u64,
    logs: AtomicU64,
    ended: Mutex<EndedLogs>,
    rate: Mutex<Bucket>,
    turns: Semaphore,
}

impl LogBudget {
    /// Bytes of the disk for all logs together.
    #[must_use]
    pub fn new(disk: u64) -> Arc<Self> {
        let rate = Mutex::new(Bucket::new(NODE_BURST_BYTES, NODE_BYTES_PER_SECOND, Instant::now()));
        let ended = Mutex::new(EndedLogs::new(disk / 2));
        Arc::new(Self {
            disk,
            logs: AtomicU64::new(0),
            ended,
            rate,
            turns: Semaphore::new(WRITES_AT_ONCE),
        })
    }

    /// Waits for a turn to write; those who wait get theirs in the order of their coming.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// One container's part of it, until it is dropped.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        self.logs.fetch_add(1, Relaxed);
        let rate = Bucket::new(CONTAINER_BURST_BYTES, CONTAINER_BYTES_PER_SECOND, Instant::now());
        Share { budget: self.clone(), rate }
    }
}

/// One container's part.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<LogBudget>,
    rate: Bucket,
}

impl Share {
    /// How large a file may be before it is set aside.
    pub(crate) fn file(&self) -> u64 {
        let logs = self.budget.logs.load(Relaxed).max(1);
        (self.budget.disk / logs / LOG_FILES_PER_CONTAINER)
            .clamp(LOG_FILE_BYTES_MIN, LOG_FILE_BYTES_MAX)
    }

    /// The container has ended, and this is its log. Blocks.
    pub(crate) fn ended(&self, log: &Path) {
        self.budget.ended.lock().add(log);
    }

    /// Takes what was written; how long the container waits before it may write more.
    pub(crate) fn wrote(&mut self, bytes: u64) -> Duration {
        let now = Instant::now();
        self.rate.take(bytes, now).max(self.budget.rate.lock().take(bytes, now))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.logs.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_faster_than_it_may_waits() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 100, start);
        let second = |n| start + Duration::from_secs(n);
        assert_eq!(bucket.take(1000, start), Duration::ZERO, "a burst");
        assert_eq!(bucket.take(50, start), Duration::from_millis(500));
        assert_eq!(bucket.take(100, second(1)), Duration::from_millis(500), "with what it owed");
        assert_eq!(bucket.take(1000, second(60)), Duration::ZERO);
        assert_eq!(bucket.take(200, second(61)), Duration::from_secs(1));
    }

    #[test]
    fn a_line_that_is_larger_than_the_bucket_is_paid_for_in_full() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 100, start);
        assert_eq!(bucket.take(5000, start), Duration::from_secs(40));
        let early = start + Duration::from_secs(39);
        assert_eq!(bucket.take(0, early), Duration::from_secs(1), "the debt is remembered");
        assert_eq!(bucket.take(100, early), Duration::from_secs(2));
    }

    #[test]
    fn all_logs_together_have_what_the_node_gives() {
        let budget = LogBudget::new(64 << 20);
        let first = budget.share();
        assert_eq!(first.file(), LOG_FILE_BYTES_MAX);
        let more: Vec<Share> = (0..63).map(|_| budget.share()).collect();
        assert_eq!(first.file() * LOG_FILES_PER_CONTAINER * 64, 64 << 20);
        drop(more);
        assert_eq!(first.file(), LOG_FILE_BYTES_MAX);
        let crowd: Vec<Share> = (0..5000).map(|_| budget.share()).collect();
        assert_eq!(crowd[0].file(), LOG_FILE_BYTES_MIN);
    }
}
