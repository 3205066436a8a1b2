//! What sockets have of their pod: a place in its count, and a port that goes back when they do.
//!
//! Guarantees:
//! - a pod never has more than [`MAX_SOCKETS`] sockets, whoever opens them
//!   (`a_pod_has_a_bounded_number_of_sockets`);
//! - and fewer when it has little memory (`a_pod_of_little_memory_has_few_sockets_and_a_small_budget`);
//! - beyond those, [`SOCKETS_KEPT_FOR_PROBES`] are kept for the node's own connections, which strangers do not take
//!   (`a_crowd_leaves_a_place_for_the_node_itself`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::error::NetError;
use crate::receive_memory::NARROWEST_PIPE_BYTES;

/// Most sockets of one pod: listeners, connections' ends and UDP ports. An end costs at most 600 bytes when idle, and the
/// places that its queue keeps 1,024, so a pod's share of the host's memory stays below its budget of waiting bytes.
pub const MAX_SOCKETS: usize = 4096;

/// Memory of a pod that gives it one socket more: eight times what a connection may hold when the budget is used up.
const MEMORY_PER_SOCKET: usize = 8 * NARROWEST_PIPE_BYTES;

/// Sockets of a pod that has hardly any memory.
const SOCKETS_MIN: usize = 64;

/// Places beyond those that everybody may take: the first few for port-forward, whose connections last, and all of
/// them for probes.
pub(crate) const SOCKETS_KEPT_FOR_FORWARDS: usize = 8;
pub(crate) const SOCKETS_KEPT_FOR_PROBES: usize = 16;

/// How many sockets a pod has and may have.
pub(crate) struct Sockets {
    count: Arc<AtomicUsize>,
    most: usize,
}

/// A place in a pod's count of sockets; dropping it frees the place.
pub struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Sockets {
    /// Those of a pod with this limit of memory.
    pub(crate) fn new(memory: Option<usize>) -> Self {
        let most = |limit: usize| (limit / MEMORY_PER_SOCKET).clamp(SOCKETS_MIN, MAX_SOCKETS);
        Self { count: Arc::default(), most: memory.map_or(MAX_SOCKETS, most) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// How many it may have.
    pub(crate) const fn most(&self) -> usize {
        self.most
    }

    /// Takes a place for one more, who may take so many of those that are kept.
    pub(crate) fn slot(&self, kept: usize) -> Result<Slot, NetError> {
        let slot = |count: usize| (count < self.most + kept).then_some(count + 1);
        match self.count.fetch_update(Relaxed, Relaxed, slot) {
            Ok(_) => Ok(Slot(self.count.clone())),
            Err(_) => Err(NetError::TooMany),
        }
    }
}

/// Who gave a socket its port.
pub(crate) trait Lender<S>: Send + Sync {
    /// Frees the port of this socket, unless another one has it by now.
    fn release(&self, port: u16, of: &S);
}
