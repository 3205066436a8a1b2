//! Gives memory back that containers and modules have left.
//!
//! What is made for a container in the agent's own heap (its environment, its module's tables) is freed when it ends,
//! and the allocator then keeps the pages: glibc returns the top of each thread's heap only, and one small thing above
//! keeps all below. Such pages would count as in use on a device where others are evicted for it.
//!
//! Guarantees:
//! - what containers took is given back soon after they have ended
//!   (`what_containers_left_below_something_kept_is_given_back`).

use std::io;

use freewheel_link::heap::{CHECK_EVERY, TRIM_WORTH_BYTES, give_back, resident, set_heaps_max};

/// Every so many looks memory is given back although no growth was seen: guests that end may hide it.
const TRIM_EVERY_CHECKS: u32 = 60;
/// Heaps that threads share.
const HEAPS_MAX: i32 = 2;

/// Looks again and again, in a thread of its own: it waits for locks and walks all that is free. musl's allocator gives
/// back by itself, and cannot be told.
pub(crate) fn maintain() -> io::Result<()> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Ok(());
    }
    set_heaps_max(HEAPS_MAX);
    let looks = || {
        let mut heap = Heap { kept: resident(), looks: 0 };
        loop {
            std::thread::sleep(CHECK_EVERY);
            heap.check();
        }
    };
    std::thread::Builder::new().name("heap".to_owned()).spawn(looks).map(drop)
}

/// Has the allocator keep nothing of what the calling thread frees, where it would.
pub(crate) fn keep_nothing() {
    #[cfg(target_env = "musl")]
    freewheel_spoke_allocator::keep_nothing();
}

/// What this process had when memory was given back, or the least since then.
struct Heap {
    kept: u64,
    looks: u32,
}

impl Heap {
    fn check(&mut self) {
        let now = resident();
        self.kept = self.kept.min(now);
        self.looks = self.looks.wrapping_add(1);
        if self.kept + TRIM_WORTH_BYTES < now || self.looks.is_multiple_of(TRIM_EVERY_CHECKS) {
            give_back();
            self.kept = resident();
        }
    }
}

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
            heap.check();
            let left = resident();
            assert!(before + (32 << 20) < held, "turn {turn}: {before} {held}: nothing was kept");
            assert!(left < before + (24 << 20), "turn {turn}: {before} {held} {left}");
        }
        assert_eq!(kept.len(), 5 * 400);
    }
}
