//! Memory that is taken while reports are written. A report of a few bytes may be about a pod of a megabyte, which is read
//! and written whole for it.
//!
//! ```text
//! report ─▶ the spoke's room ─▶ the room of all ─▶ read, change, write ─▶ both are free again
//! ```
//!
//! Guarantees:
//! - what is written side by side for one spoke has a bound in bytes, and so has what is written for all
//!   (`what_is_written_at_once_has_a_bound_for_each_spoke_and_for_all`);
//! - large pods of one spoke keep no other's reports waiting (`reports_on_large_pods_are_written_few_at_a_time`);
//! - what is larger than all of the room is written alone (`what_is_larger_than_the_room_is_written_alone`).

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// What one spoke's writes may take at once: some 250 pods of usual size, or one of the largest.
const SPOKE_KIB_MAX: u32 = 16 << 10;
/// And those of all.
const ALL_KIB_MAX: u32 = 64 << 10;

/// Of all spokes.
#[derive(Clone)]
pub(crate) struct WriteRoom(Arc<Semaphore>);

/// Of a session of one spoke.
pub(crate) struct SpokeWriteRoom {
    own: Semaphore,
    all: WriteRoom,
}

/// Room for one write, until this is dropped.
pub(crate) struct WritePermit<'a> {
    _own: Option<SemaphorePermit<'a>>,
    _all: Option<SemaphorePermit<'a>>,
}

impl Default for WriteRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_KIB_MAX as usize)))
    }
}

impl WriteRoom {
    /// For a session.
    pub(crate) fn of_spoke(&self) -> SpokeWriteRoom {
        SpokeWriteRoom { own: Semaphore::new(SPOKE_KIB_MAX as usize), all: self.clone() }
    }
}

impl SpokeWriteRoom {
    /// Waits for room for so many bytes. Who comes first is first.
    pub(crate) async fn take(&self, bytes: usize) -> WritePermit<'_> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX).min(SPOKE_KIB_MAX);
        // Neither is ever closed. Its own first: who has none of that keeps nobody out of the other.
        let own = self.own.acquire_many(kib).await.ok();
        let all = self.all.0.acquire_many(kib).await.ok();
        WritePermit { _own: own, _all: all }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const MIB: usize = 1 << 20;

    /// As many writes of this size as there is room for now.
    fn fill(spoke: &SpokeWriteRoom, bytes: usize) -> Vec<WritePermit<'_>> {
        std::iter::from_fn(|| spoke.take(bytes).now_or_never()).take(10_000).collect()
    }

    #[test]
    fn what_is_written_at_once_has_a_bound_for_each_spoke_and_for_all() {
        let room = WriteRoom::default();
        let spokes: Vec<_> = (0..6).map(|_| room.of_spoke()).collect();
        let taken: Vec<_> = spokes.iter().map(|spoke| fill(spoke, 4 * MIB)).collect();
        let numbers: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(numbers, [4, 4, 4, 4, 0, 0], "each has a quarter at most");
        drop(taken);
        assert_eq!(fill(&spokes[5], 64 << 10).len(), 256, "and all of it comes back");
    }

    #[test]
    fn what_is_larger_than_the_room_is_written_alone() {
        let room = WriteRoom::default();
        let spoke = room.of_spoke();
        let small = spoke.take(1).now_or_never().unwrap();
        assert!(spoke.take(usize::MAX).now_or_never().is_none());
        drop(small);
        let large = spoke.take(usize::MAX).now_or_never().unwrap();
        assert!(spoke.take(1).now_or_never().is_none());
        drop(large);
        assert!(spoke.take(1).now_or_never().is_some());
    }
}
