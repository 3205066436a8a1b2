//! What clients may take of a container's memory: what its instances were started for stays theirs, and a part stays the
//! clients', so that requests can be read.
//!
//! Guarantees:
//! - what clients hold and what instances were promised is never more than the container's limit together
//!   (`clients_get_what_instances_were_not_promised`).
//!
//! Of the limits of the pod and the node, which others share, nothing can be promised.

use std::sync::Arc;

use super::request_heads;
use crate::memory::ContainerMemory;

/// What is held for clients, on the container's memory.
pub(super) struct ClientMemory {
    part: Arc<ContainerMemory>,
    /// The container's.
    limit: Option<usize>,
    /// What no instance but the first is started for.
    least: usize,
}

impl ClientMemory {
    pub(super) fn new(memory: &Arc<ContainerMemory>) -> Self {
        let least = request_heads::part_of(memory.most());
        Self { part: memory.part(), limit: memory.limit(), least }
    }

    /// The account of what is held for them.
    pub(super) fn memory(&self) -> Arc<ContainerMemory> {
        self.part.clone()
    }

    pub(super) fn used(&self) -> usize {
        self.part.used()
    }

    /// Has clients leave so much to instances; whether they do. If they do not, they are bounded as they were.
    pub(super) fn leaves(&self, promised: usize) -> bool {
        let Some(limit) = self.limit else { return true };
        let rest = limit.saturating_sub(promised);
        self.least <= rest && self.part.lower_limit(rest)
    }

    /// Bounds clients by what was promised, whatever they have already.
    pub(super) fn may_have_all_but(&self, promised: usize) {
        if let Some(limit) = self.limit {
            self.part.set_limit(limit.saturating_sub(promised).max(self.least));
        }
    }
}

/// What one instance could have of a limit, if nobody but clients had any of it.
pub(super) fn rest_of(limit: usize) -> usize {
    limit.saturating_sub(request_heads::part_of(limit))
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_account::MemoryAccount;

    use super::*;

    #[test]
    fn clients_get_what_instances_were_not_promised() {
        let container = ContainerMemory::new(Some(8 << 20), &MemoryAccount::node());
        let clients = ClientMemory::new(&container);
        let (memory, mut share) = (clients.memory(), clients.memory().share());
        assert!(clients.leaves(6 << 20));
        assert!(share.fits(2 << 20) && !share.fits((2 << 20) + 1));
        assert!(!clients.leaves(7 << 20), "they have it");
        assert!(share.fits(1 << 20));
        assert!(clients.leaves(7 << 20) && !share.fits((1 << 20) + 1));
        assert!(!clients.leaves((7 << 20) + 1), "an eighth stays theirs");
        clients.may_have_all_but(usize::MAX);
        assert_eq!(memory.limit(), Some(1 << 20));
        clients.may_have_all_but(0);
        assert!(share.fits(8 << 20));
    }
}
