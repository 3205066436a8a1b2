//! Memory that the allocator of this process keeps although nobody needs it, and giving it back.
//!
//! glibc returns the top of each thread's heap only, and one small thing above keeps all below.
//!
//! Guarantees:
//! - what was freed is given back, whatever lies above it (`what_was_freed_below_something_kept_is_given_back`).

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(
        unsafe_code,
        reason = "tells glibc's allocator to give back what it does not need; a decision in ARCHITECTURE.md"
    )
)]

use std::time::Duration;

/// How often memory is looked at, which costs a read of a line.
pub const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Less than this is not worth the allocator's locks.
pub const TRIM_WORTH_BYTES: u64 = 8 << 20;

/// Bytes of memory that this process has.
#[must_use]
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 =
        text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

/// Gives back what is free. It waits for locks and walks all that is free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: malloc_trim takes no pointer, touches free memory only and takes the allocator's own locks; it may
    // be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Threads share so many heaps. glibc would make eight for each core, each of which keeps its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn set_heaps_max(most: i32) {
    // SAFETY: it takes no pointer, sets one number and takes the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, most);
    }
}

/// Other allocators give back by themselves, or cannot be told.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
/// Nor how many heaps there are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn set_heaps_max(_: i32) {}

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
