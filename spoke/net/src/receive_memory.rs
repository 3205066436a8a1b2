//! What waits for one pod to read it, over all of its connections or all of its UDP ports.
//!
//! Guarantees:
//! - it is counted on the pod's account, the more of the budget is used the less one connection more may have,
//!   and pods of little memory have a small budget (`a_small_pod_has_a_small_budget_and_a_full_node_has_none`);
//! - what strangers send leaves a pod most of its memory, however many they are
//!   (`what_strangers_send_leaves_a_small_pod_most_of_its_memory`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use freewheel_spoke_account::MemoryAccount;

use crate::unread::Unread;

/// Most bytes that wait in one pipe. 256 KiB keeps both ends busy on one core; more only costs memory.
pub const PIPE_BYTES_MAX: usize = 256 << 10;

/// Bytes that may wait for one pod before its pipes become narrow, or its datagrams get lost.
pub const POD_RECEIVE_BYTES_MAX: usize = 8 << 20;

/// The budget of a pod that has hardly any memory: more than a datagram.
const POD_RECEIVE_BYTES_MIN: usize = 128 << 10;

/// What one pipe still takes once the budget is used up, so that every connection keeps moving.
pub(crate) const NARROW_PIPE_BYTES: usize = 8 << 10;

/// The same in a pod with a limit of memory: an eighth of that, over all the sockets that the limit gives it.
pub(crate) const NARROWEST_PIPE_BYTES: usize = 2 << 10;

/// What a piece costs beside its bytes: its allocation, and its place in a queue that is short. Uncounted, a writer of
/// single bytes would make the node hold fifty times what the bounds say. The places of a longer queue count by
/// themselves.
pub(crate) const PIECE_OVERHEAD_BYTES: usize = 64;

/// Memory of what waits for one pod to read it.
#[derive(Debug)]
pub struct ReceiveMemory {
    account: Arc<MemoryAccount>,
    budget: usize,
    narrow: usize,
    bytes: AtomicUsize,
    /// What waits in the link beside it.
    unread: Arc<Unread>,
}

impl ReceiveMemory {
    /// Nothing waits yet. The budget is an eighth of what the account may hold.
    #[must_use]
    pub fn new(account: Arc<MemoryAccount>) -> Arc<Self> {
        let budget = account.limit().map_or(POD_RECEIVE_BYTES_MAX, |limit| {
            (limit / 8).clamp(POD_RECEIVE_BYTES_MIN, POD_RECEIVE_BYTES_MAX)
        });
        let narrow = account.limit().map_or(NARROW_PIPE_BYTES, |_| NARROWEST_PIPE_BYTES);
        let (bytes, unread) = (AtomicUsize::new(0), Unread::new(account.clone()));
        Arc::new(Self { account, budget, narrow, bytes, unread })
    }

    pub(crate) const fn unread(&self) -> &Arc<Unread> {
        &self.unread
    }

    pub(crate) fn add(&self, count: usize) {
        self.bytes.fetch_add(count, Relaxed);
        self.account.count(count);
    }

    pub(crate) fn sub(&self, count: usize) {
        self.bytes.fetch_sub(count, Relaxed);
        self.account.give_back(count);
    }

    /// What was as large as this before is as large as that now.
    pub(crate) fn changed(&self, before: usize, now: usize) {
        if before < now {
            self.add(now - before);
        } else if now < before {
            self.sub(before - now);
        }
    }

    /// Adds what may as well get lost, if the budget has room for it.
    pub(crate) fn try_add(&self, count: usize) -> bool {
        let fit = |bytes: usize| bytes.checked_add(count).filter(|sum| *sum <= self.budget);
        let fits =
            !self.account.node_is_full() && self.bytes.fetch_update(Relaxed, Relaxed, fit).is_ok();
        if fits {
            self.account.count(count);
        }
        fits
    }

    /// How much one pipe may hold now.
    pub(crate) fn capacity(&self) -> usize {
        if self.account.node_is_full() {
            return self.narrow;
        }
        (self.budget.saturating_sub(self.bytes()) / 2).clamp(self.narrow, PIPE_BYTES_MAX)
    }

    /// How many there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_account::Level;

    use super::*;

    #[test]
    fn a_small_pod_has_a_small_budget_and_a_full_node_has_none() {
        let node = MemoryAccount::node();
        let pod = MemoryAccount::within(&node, Level::Pod, Some(16 << 20));
        let waiting = ReceiveMemory::new(pod.clone());
        assert_eq!(waiting.capacity(), PIPE_BYTES_MAX);
        assert!(waiting.try_add(2 << 20) && !waiting.try_add(1));
        assert_eq!(
            (waiting.capacity(), pod.used(), node.used()),
            (NARROWEST_PIPE_BYTES, 2 << 20, 2 << 20)
        );
        waiting.sub(2 << 20);
        node.set_limit(100);
        let _all = node.take(100).unwrap();
        assert_eq!(waiting.capacity(), NARROWEST_PIPE_BYTES);
        assert!(!waiting.try_add(1));
    }
}
