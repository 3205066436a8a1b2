//! How many mappings of memory this process may have, and whose they are.
//!
//! ```text
//! all = seven eighths for guests (their stacks, memories and modules) + an eighth for the agent
//! ```
//!
//! Guarantees:
//! - the node offers no more pods than can each run an instance
//!   (`a_node_offers_no_more_pods_than_it_has_mappings_for`).

use std::path::Path;

/// What the kernel gives a process when nobody says something else.
const DEFAULT_MAPPINGS: u64 = 65_530;

/// What a pod may need: the stack, a memory and two tables of one instance, and a part of a module's.
const POD_MAPPINGS: u64 = 11;

/// What this process may have.
pub(crate) fn allowed(root: &Path) -> u64 {
    let text = std::fs::read_to_string(root.join("proc/sys/vm/max_map_count"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_MAPPINGS)
}

/// What of it is the guests'.
pub(crate) const fn for_guests(all: u64) -> u64 {
    all - all / 8
}

/// Pods that can all run with it.
pub(crate) fn pods(all: u64) -> u32 {
    u32::try_from(for_guests(all) / POD_MAPPINGS).unwrap_or(u32::MAX).max(1)
}
