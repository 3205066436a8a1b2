//! Room in the file itself: a deletion gives pages back to the file, and the file gives few of them back to its disk. What
//! is written next takes those before the file grows.
//!
//! Counted is what the file has on its disk, not how long it is: it grows in large steps, and the end of it was never
//! written. How much is in use redb says when it is asked, which reads all pages; since then, what was written counts
//! as more, and what was deleted not as less.
//!
//! Guarantees:
//! - it is never more than there is, and after a count all there is (`what_was_deleted_is_room_in_the_file`).

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of redb.
const PAGE_BYTES: usize = 4096;
/// As the kernel counts what a file has on its disk.
const BLOCK_BYTES: u64 = 512;

/// What of the file nothing is in.
#[derive(Debug)]
pub(crate) struct SparePages {
    /// There is none where a simulated disk stands in.
    file: Option<PathBuf>,
    /// At most so many bytes are in use; all of them until they were counted.
    used: AtomicU64,
}

impl SparePages {
    pub(super) const fn of(file: Option<PathBuf>) -> Self {
        Self { file, used: AtomicU64::new(u64::MAX) }
    }

    /// So many are in use.
    pub(super) fn counted(&self, bytes: u64) {
        self.used.store(bytes, Ordering::Relaxed);
    }

    /// A value of so many bytes was written, with its key.
    pub(super) fn written(&self, bytes: usize) {
        // What is larger than a page has pages of its own, as many as a power of two.
        let bytes = bytes.saturating_add(PAGE_BYTES).next_power_of_two() as u64;
        let more = |used: u64| Some(used.saturating_add(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// How many bytes are not.
    pub(super) fn bytes(&self) -> u64 {
        let file = self.file.as_ref().and_then(|file| std::fs::metadata(file).ok());
        let there = file.map_or(0, |file| file.blocks().saturating_mul(BLOCK_BYTES));
        there.saturating_sub(self.used.load(Ordering::Relaxed))
    }
}
