//! A container's memory limit, over all of its instances and all of their memories, and the node's.
//!
//! Guarantees: no container has more than its limit, and all together no more than the node gives to guests:
//! one without a limit ends alone, and takes neither the agent nor its neighbours along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use wasmtime::ResourceLimiter;

/// Elements in one table; real programs have thousands.
const MAX_TABLE: usize = 100_000;

/// Core instances, memories and tables of one store: a component is made of a few.
const MAX_PARTS: usize = 256;

/// The guest asked for more memory than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OomKilled {
    #[error("memory limit of {limit} bytes reached: {wanted} bytes were asked for")]
    Limit { limit: usize, wanted: usize },
    #[error(
        "the node's memory is used up: guests may have {limit} bytes together, {wanted} were asked for"
    )]
    Node { limit: usize, wanted: usize },
}

/// Memory that all guests of the node have together.
#[derive(Debug)]
pub(crate) struct NodeMemory {
    limit: usize,
    used: AtomicUsize,
}

impl NodeMemory {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }
}

/// What a container has and may have.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    used: AtomicUsize,
    refused: AtomicBool,
    node: Arc<NodeMemory>,
}

impl Memory {
    pub(crate) fn new(limit: Option<u64>, node: Arc<NodeMemory>) -> Arc<Self> {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Arc::new(Self { limit, used: AtomicUsize::new(0), refused: AtomicBool::new(false), node })
    }

    /// Bytes of linear memory in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether one more instance like the last would still fit.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        let fits = |used: &AtomicUsize, limit: usize| {
            used.load(Relaxed).checked_add(bytes).is_some_and(|sum| sum <= limit)
        };
        fits(&self.used, self.limit) && fits(&self.node.used, self.node.limit)
    }

    /// Whether an instance was refused memory since the last time this was asked.
    pub(crate) fn take_refused(&self) -> bool {
        self.refused.swap(false, Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), OomKilled> {
        let outcome = match grow(&self.used, bytes, self.limit) {
            Err(wanted) => Err(OomKilled::Limit { limit: self.limit, wanted }),
            Ok(()) => grow(&self.node.used, bytes, self.node.limit).map_err(|wanted| {
                self.used.fetch_sub(bytes, Relaxed);
                OomKilled::Node { limit: self.node.limit, wanted }
            }),
        };
        if outcome.is_err() {
            self.refused.store(true, Relaxed);
        }
        outcome
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
        self.node.used.fetch_sub(bytes, Relaxed);
    }
}

/// Adds within the limit; else says how much it would have been.
fn grow(used: &AtomicUsize, bytes: usize, limit: usize) -> Result<(), usize> {
    let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
    let outcome = used.fetch_update(Relaxed, Relaxed, add);
    outcome.map(drop).map_err(|used| used.saturating_add(bytes))
}

/// One store's share of it.
pub(crate) struct Limiter {
    memory: Arc<Memory>,
    own: usize,
    last: usize,
}

impl Limiter {
    pub(crate) const fn new(memory: Arc<Memory>) -> Self {
        Self { memory, own: 0, last: 0 }
    }

    /// Bytes of this store.
    pub(crate) const fn own(&self) -> usize {
        self.own
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        // An error ends the guest with a reason; refusing would let it die of its own, with none.
        self.memory.take(more)?;
        self.own += more;
        self.last = more;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The host had none, or the module's own maximum was in the way: what was taken goes back.
        let last = std::mem::take(&mut self.last);
        self.memory.give_back(last);
        self.own -= last;
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }

    fn instances(&self) -> usize {
        MAX_PARTS
    }

    fn tables(&self) -> usize {
        MAX_PARTS
    }

    fn memories(&self) -> usize {
        MAX_PARTS
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.memory.give_back(self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_share_one_limit_and_give_back_what_they_had() {
        let memory = Memory::new(Some(100), NodeMemory::new(1000));
        let mut first = Limiter::new(memory.clone());
        let mut second = Limiter::new(memory.clone());
        assert!(first.memory_growing(0, 60, None).unwrap());
        let refused = second.memory_growing(0, 50, None).unwrap_err();
        assert_eq!(refused.downcast_ref(), Some(&OomKilled::Limit { limit: 100, wanted: 110 }));
        assert!(memory.take_refused());
        drop(first);
        assert!(second.memory_growing(0, 50, None).unwrap());
        assert_eq!(memory.used(), 50);
    }

    #[test]
    fn all_guests_together_have_what_the_node_gives() {
        let node = NodeMemory::new(100);
        let (one, other) = (Memory::new(None, node.clone()), Memory::new(Some(90), node.clone()));
        let mut first = Limiter::new(one.clone());
        let mut second = Limiter::new(other.clone());
        assert!(first.memory_growing(0, 60, None).unwrap());
        assert!(!other.has_room_for(50));
        let refused = second.memory_growing(0, 50, None).unwrap_err();
        assert_eq!(refused.downcast_ref(), Some(&OomKilled::Node { limit: 100, wanted: 110 }));
        assert_eq!((one.used(), other.used()), (60, 0), "nothing stays booked");
        drop(first);
        assert!(second.memory_growing(0, 50, None).unwrap());
        drop(second);
        assert_eq!(node.used.load(Relaxed), 0);
    }
}
