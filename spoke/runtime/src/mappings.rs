//! Mappings of this process's memory: the kernel gives a process so many (`vm.max_map_count`), which all pods, the
//! agent's threads and its allocator share. Whoever has none left cannot allocate either, and aborts.
//!
//! ```text
//! instance = its stack (2) + each linear memory (5) + each table (1)        module = its artifact (5)
//! ```
//!
//! Guarantees:
//! - nobody has more than is counted (`what_runs_has_no_more_mappings_than_are_counted`);
//! - a pod has no more than it may, all pods leave the agent its own, and who gets none is told
//!   (`who_gets_no_mappings_is_told_and_hurts_nobody`);
//! - a handler has as many instances as there are mappings for, and its requests wait for those
//!   (`requests_wait_for_the_mappings_of_an_instance`).

use std::sync::Arc;

use freewheel_spoke_net::{Account, Held, Level};
use wasmtime::ResourcesRequired;

use crate::memory::MAX_PARTS;

/// The stack and its guard.
const STACK: usize = 2;

/// A linear memory: a guard before it, zeros before its image, the image, what it may touch behind that, and the rest of
/// its place.
const MEMORY: usize = 5;

/// A large one is an allocation of its own.
const TABLE: usize = 1;

/// An artifact's file: code between what is only read, and images of memories.
const MODULE: usize = 5;

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

/// How many an instance takes.
pub(crate) fn of_instance(needs: Option<&ResourcesRequired>) -> usize {
    // Nobody can say it of what is given modules to make instances of, which no pod is.
    let parts =
        |needs: &ResourcesRequired| (needs.num_memories as usize, needs.num_tables as usize);
    let (memories, tables) = needs.map_or((MAX_PARTS, MAX_PARTS), parts);
    STACK + memories.saturating_mul(MEMORY) + tables.saturating_mul(TABLE)
}

/// Takes those of an instance.
pub(crate) fn take(account: &Arc<Account>, count: usize) -> Result<Held, NoneLeft> {
    account.take(count).map_err(|full| {
        let whose = if full.level == Level::Node { "node" } else { "pod" };
        NoneLeft { whose, limit: full.limit }
    })
}

/// Takes those of a module.
pub(crate) fn take_module(node: &Arc<Account>) -> Result<Held, NoneLeft> {
    take(node, MODULE)
}
