//! Gives back to the disk what is free in a store's file, when that is most of it.
//!
//! redb cuts the end of a file off when it is free, and moves nothing by itself: where one object lies near the end, a
//! store from which nearly all was deleted keeps the disk as full as it was. A start is the time to compact: nobody reads
//! or writes yet.
//!
//! Guarantees:
//! - a file that is mostly free is small after a start (`what_was_deleted_is_given_back_at_the_next_start`);
//! - no file is compacted in which there is much to move, or little to win (`what_is_moved_has_a_bound`);
//! - a kill or a power cut at any moment of it leaves all objects as they were
//!   (`a_compaction_killed_anywhere_loses_nothing`, `a_power_cut_while_the_file_is_compacted_changes_nothing`).

use std::time::Instant;

use redb::Database;

/// A smaller file is left as it is.
const FILE_BYTES_MIN: u64 = 16 << 20;
/// A file is mostly free when what is stored is less than this part of it: pages of redb are up to half empty.
const STORED_SHARE_DIVISOR: u64 = 4;
/// Beyond this nothing is moved: it would keep a hub on a slow disk from starting for minutes.
const STORED_BYTES_MAX: u64 = 1 << 30;

/// Whether a file of this length is mostly free, with so much stored in it.
pub(super) const fn is_due(file: u64, stored: u64) -> bool {
    FILE_BYTES_MIN <= file && stored <= STORED_BYTES_MAX && stored < file / STORED_SHARE_DIVISOR
}

/// Moves all to the beginning of the file and cuts off the rest. What fails is told, and leaves what was durable; the
/// database has to be opened anew then.
pub(super) fn run(mut database: Database, file: &str, bytes: u64) -> Option<Database> {
    tracing::info!(file, bytes, "most of the store's file is free; it is compacted");
    let began = Instant::now();
    match database.compact() {
        Ok(_) => {
            let seconds = began.elapsed().as_secs_f32();
            tracing::info!(file, seconds, "the store's file is compacted");
            Some(database)
        }
        Err(error) => {
            tracing::warn!(file, %error, "the store's file could not be compacted; it is left as large as it is");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_has_a_bound() {
        const MIB: u64 = 1 << 20;
        assert!(is_due(16 * MIB, 0));
        assert!(!is_due(15 * MIB, 0), "little to win");
        assert!(is_due(100 * MIB, 24 * MIB));
        assert!(!is_due(100 * MIB, 25 * MIB), "its pages may be half empty");
        assert!(is_due(5000 * MIB, 1024 * MIB));
        assert!(!is_due(9000 * MIB, 1025 * MIB), "too much to move");
    }
}
