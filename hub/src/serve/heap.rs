//! Gives memory back after a load.
//!
//! What the past holds goes after some minutes ([`Store::rest`]), and the allocator then keeps the pages: glibc
//! returns the top of each thread's heap only, and one small thing above keeps all below. So it is told to look,
//! when there is something to gain and nobody writes.
//!
//! Guarantees:
//! - what a load made the hub hold is given back soon after it, but for the past
//!   (`memory_is_given_back_after_a_load`);
//! - the past goes with it when it is old (`the_past_is_given_back_when_it_is_old`).

#![expect(
    unsafe_code,
    reason = "tells glibc's allocator to give back what it does not need; a decision in ARCHITECTURE.md"
)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_store::Store;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How often memory is looked at, which costs a read of a line.
const HEAP_CHECK_EVERY: Duration = Duration::from_secs(5);
/// Every so many looks the past is thinned.
const HISTORY_TRIM_EVERY_CHECKS: u32 = 60;
/// Every so many looks memory is given back although somebody writes.
const TRIM_EVERY_CHECKS_MAX: u32 = 120;
/// Less than this is not worth the allocator's locks.
const TRIM_WORTH_BYTES: u64 = 8 << 20;

/// Looks again and again until `stop`.
pub async fn run_maintenance(store: Arc<dyn Store>, stop: CancellationToken) -> io::Result<()> {
    let (mut kept, mut last, mut looks) = (resident(), store.snapshot().revision(), 0_u32);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(HEAP_CHECK_EVERY) => {}
        }
        looks = looks.wrapping_add(1);
        let thinned = looks.is_multiple_of(HISTORY_TRIM_EVERY_CHECKS);
        if thinned {
            store.compact_idle();
        }
        let revision = store.snapshot().revision();
        let quiet = std::mem::replace(&mut last, revision) == revision;
        // What the past has just let go of is free, and does not show as growth.
        let worth = thinned || kept + TRIM_WORTH_BYTES < resident();
        if worth && (quiet || looks.is_multiple_of(TRIM_EVERY_CHECKS_MAX)) {
            let before = resident();
            // It waits for locks and walks all that is free.
            tokio::task::spawn_blocking(give_back).await.map_err(io::Error::other)?;
            kept = resident();
            debug!(before, now = kept, "memory given back");
        }
    }
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 =
        text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: malloc_trim takes no pointer, touches free memory only and takes the allocator's own locks; it may
    // be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give back by themselves, or cannot be told.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn what_was_freed_below_something_kept_is_given_back() {
        let before = resident();
        // Small pieces, every hundredth of which stays: no heap has a free top.
        let mut pieces: Vec<Option<Box<[u8; 3000]>>> =
            (0..40_000).map(|_| Some(Box::new([7; 3000]))).collect();
        for (at, piece) in pieces.iter_mut().enumerate() {
            if at % 100 != 0 {
                *piece = None;
            }
        }
        let held = resident();
        give_back();
        let left = resident();
        assert!(before + (100 << 20) < held, "{before} {held}: the allocator kept it");
        assert!(left + (80 << 20) < held, "{before} {held} {left}");
        assert!(pieces.iter().flatten().all(|piece| piece[0] == 7));
    }
}
