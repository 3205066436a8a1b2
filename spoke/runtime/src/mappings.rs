//! Mappings of this process's memory: the kernel gives a process so many (`vm.max_map_count`), which all pods, the
//! agent's threads and its allocator share. Whoever has none left cannot allocate either, and aborts.
//!
//! ```text
//! instance = its stack (2) + each linear memory (5) + each table (1)        module = its artifact (5)
//! ```
//!
//! So are addresses, of which some kernels have few (39 bits on many a Raspberry Pi): a linear memory reserves more of
//! them than it ever touches, and where they end before the mappings do, it counts as as many mappings as they are
//! worth.
//!
//! Not held: on 32 bits, where there are addresses for a dozen memories, a memory counts as
//! [`LINEAR_MEMORY_MAPPINGS_MAX`] and no more, so that pods can run at all.
//!
//! Guarantees:
//! - where addresses are scarce, all memories together leave the agent its own (`addresses_are_shared_out_as_well`);
//! - nobody has more than is counted (`what_runs_has_no_more_mappings_than_are_counted`);
//! - a pod has no more than it may, all pods leave the agent its own, and who gets none is told
//!   (`who_gets_no_mappings_is_told_and_hurts_nobody`);
//! - a handler has as many instances as there are mappings for, and its requests wait for those
//!   (`requests_wait_for_the_mappings_of_an_instance`).

use std::sync::Arc;

use freewheel_link::profile::{MemoryProfile, Profile};
use freewheel_spoke_account::{Held, Level, MemoryAccount};
use freewheel_spoke_engine::{BOUNDED_RESERVATION_BYTES, GUARDED_RESERVATION_BYTES};
use wasmtime::ResourcesRequired;

use crate::memory::STORE_PARTS_MAX;

/// The stack and its guard.
const STACK_MAPPINGS: usize = 2;

/// A linear memory: a guard before it, zeros before its image, the image, what it may touch behind that, and the rest
/// of its place.
const LINEAR_MEMORY_MAPPINGS: usize = 5;

/// What a linear memory counts as at most.
const LINEAR_MEMORY_MAPPINGS_MAX: usize = 1024;

/// A large one is an allocation of its own.
const TABLE_MAPPINGS: usize = 1;

/// An artifact's file: code between what is only read, and images of memories.
const MODULE_MAPPINGS: usize = 5;

/// There is none left. The text is what the user reads in the container's state.
#[derive(Debug, thiserror::Error)]
#[error(
    "the {whose} has as many mappings of memory as it may, {limit} for all of its instances and their memories; the \
     device's are bounded by its vm.max_map_count"
)]
pub(crate) struct NoneLeft {
    whose: &'static str,
    limit: usize,
}

/// What a linear memory counts as when there are so many addresses and mappings for all.
pub(crate) fn of_memory(profile: &Profile, addresses: u64, mappings: u64) -> usize {
    let reserved = match profile.memory {
        MemoryProfile::Guard4g => GUARDED_RESERVATION_BYTES,
        MemoryProfile::Bounded => BOUNDED_RESERVATION_BYTES,
    };
    let worth = addresses.checked_div(mappings).unwrap_or(0).max(1);
    usize::try_from(reserved.div_ceil(worth))
        .unwrap_or(LINEAR_MEMORY_MAPPINGS_MAX)
        .clamp(LINEAR_MEMORY_MAPPINGS, LINEAR_MEMORY_MAPPINGS_MAX)
}

/// Pods that can each run an instance of one memory.
#[must_use]
pub fn pods(profile: &Profile, addresses: u64, mappings: u64) -> u32 {
    let each = STACK_MAPPINGS + of_memory(profile, addresses, mappings) + 2 * TABLE_MAPPINGS;
    u32::try_from(mappings / each as u64).unwrap_or(u32::MAX).max(1)
}

/// How many an instance takes whose memories count as `memory` each.
pub(crate) fn of_instance(needs: Option<&ResourcesRequired>, memory: usize) -> usize {
    // Nobody can say it of what is given modules to make instances of, which no pod is.
    let parts =
        |needs: &ResourcesRequired| (needs.num_memories as usize, needs.num_tables as usize);
    let (memories, tables) = needs.map_or((STORE_PARTS_MAX, STORE_PARTS_MAX), parts);
    STACK_MAPPINGS + memories.saturating_mul(memory) + tables.saturating_mul(TABLE_MAPPINGS)
}

/// Takes those of an instance.
pub(crate) fn take(account: &Arc<MemoryAccount>, count: usize) -> Result<Held, NoneLeft> {
    account.take(count).map_err(|full| {
        let whose = if full.level == Level::Node { "node" } else { "pod" };
        NoneLeft { whose, limit: full.limit }
    })
}

/// Takes those of a module.
pub(crate) fn take_module(node: &Arc<MemoryAccount>) -> Result<Held, NoneLeft> {
    take(node, MODULE_MAPPINGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_counts_as_what_its_addresses_are_worth() {
        let (all, usual) = (448 << 30, 57_339);
        let bounded =
            Profile::candidates().into_iter().find(|p| p.memory == MemoryProfile::Bounded);
        let bounded = bounded.unwrap();
        let scarce = of_memory(&bounded, all, usual);
        assert!(usual * BOUNDED_RESERVATION_BYTES <= scarce as u64 * all, "{scarce}");
        assert_eq!(scarce, 32);
        assert_eq!(
            of_memory(&bounded, 112 << 40, usual),
            LINEAR_MEMORY_MAPPINGS,
            "there are enough"
        );
        assert_eq!(of_memory(&bounded, 2 << 30, usual), LINEAR_MEMORY_MAPPINGS_MAX);
        assert_eq!(of_memory(&bounded, all, 0), LINEAR_MEMORY_MAPPINGS_MAX);
        assert_eq!(pods(&bounded, all, usual), 57_339 / 36);
    }
}
