//! Gives memory back that containers and modules have left.
//!
//! What is made for a container in the agent's own heap (its environment, its module's tables) is freed when it ends,
//! and the allocator then keeps the pages: glibc returns the top of each thread's heap only, and one small thing above
//! keeps all below. Such pages would count as in use on a device where others are evicted for it.
//!
//! Guarantees:
//! - what containers took is given back soon after they have ended
//!   (`what_containers_left_below_something_kept_is_given_back`).

#![expect(
    unsafe_code,
    reason = "tells glibc's allocator to give back what it does not need; a decision in ARCHITECTURE.md"
)]

use std::io;
use std::time::Duration;

/// How often memory is looked at, which costs a read of a line.
const HEAP_CHECK_EVERY: Duration = Duration::from_secs(5);
/// Every so many looks memory is given back although no growth was seen: guests that end may hide it.
const TRIM_EVERY_CHECKS: u32 = 60;
/// Less than this is not worth the allocator's locks.
const TRIM_WORTH_BYTES: u64 = 8 << 20;
/// Heaps that threads share. glibc would make eight for each core, each of which keeps its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS_MAX: i32 = 2;

/// Looks again and again, in a thread of its own: it waits for locks and walks all that is free.
pub(crate) fn maintain() -> io::Result<()> {
    few_heaps();
    let looks = || {
        let mut heap = Heap { kept: resident(), looks: 0 };
        loop {
            std::thread::sleep(HEAP_CHECK_EVERY);
            heap.look();
        }
    };
    std::thread::Builder::new().name("heap".to_owned()).spawn(looks).map(drop)
}

/// What this process had when memory was given back, or the least since then.
struct Heap {
    kept: u64,
    looks: u32,
}

impl Heap {
    fn look(&mut self) {
        let now = resident();
        self.kept = self.kept.min(now);
        self.looks = self.looks.wrapping_add(1);
        if self.kept + TRIM_WORTH_BYTES < now || self.looks.is_multiple_of(TRIM_EVERY_CHECKS) {
            give_back();
            self.kept = resident();
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
fn few_heaps() {
    // SAFETY: it takes no pointer, sets one number and takes the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX);
    }
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
fn few_heaps() {}
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container of a namespace with many Services comes and goes; what stays of it is little.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn container() -> Vec<String> {
        let service = |at: usize| (format!("SERVICE_{at}_PORT"), format!("tcp://10.128.0.9:{at}"));
        let environment: Vec<_> = (0..400_000).map(service).collect();
        environment.into_iter().step_by(1000).map(|(name, _)| name).collect()
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn what_containers_left_below_something_kept_is_given_back() {
        let mut heap = Heap { kept: resident(), looks: 0 };
        let before = heap.kept;
        let mut kept = Vec::new();
        for turn in 0..5 {
            kept.extend(std::thread::spawn(container).join().unwrap());
            let held = resident();
            heap.look();
            let left = resident();
            assert!(before + (32 << 20) < held, "turn {turn}: {before} {held}: nothing was kept");
            assert!(left < before + (24 << 20), "turn {turn}: {before} {held} {left}");
        }
        assert_eq!(kept.len(), 5 * 400);
    }
}
