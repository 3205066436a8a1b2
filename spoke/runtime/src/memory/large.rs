//! Guests of much memory: they leave the lane of the others before they can work on it.
//!
//! One instruction (`memory.fill`, `memory.copy`, `memory.init`) works on as much memory as there is, and no tick ends
//! it: compiled code looks at the clock before it begins. So whoever gets more than [`LARGE_MEMORY_BYTES`] waits for it
//! until it is on the other lane, where each guest that runs has a thread of its own (`lanes.rs`). All that its
//! container makes from then on begins there.
//!
//! Guarantees:
//! - no guest of the ordinary lane has more than that
//!   (`who_has_much_memory_leaves_the_others_before_it_can_work_on_it`,
//!   `a_handler_that_had_much_memory_once_stays_away`,
//!   `one_instruction_over_a_large_memory_holds_up_no_neighbour`).

use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use wasmtime::{ResourceLimiter, ResourceLimiterAsync, Result};

use super::{ContainerMemory, Limiter};

/// The most that a guest of the ordinary lane has: memory that is touched for the first time costs about a second per
/// gibibyte, and nobody is to be held up for much more than a tick.
const LARGE_MEMORY_BYTES: usize = 16 << 20;

impl ContainerMemory {
    /// Whether an instance of it has had much memory.
    pub(crate) fn is_large(&self) -> bool {
        self.large.load(Relaxed)
    }

    /// An instance gets much memory.
    pub(crate) fn set_large(&self) {
        self.large.store(true, Relaxed);
    }
}

impl Limiter {
    /// Whether its guest has much memory with this, and had not before.
    fn becomes_large(&mut self, more: usize) -> bool {
        let all = self.own().saturating_add(more);
        if self.large || all <= LARGE_MEMORY_BYTES {
            return false;
        }
        self.large = true;
        self.share.memory.set_large();
        true
    }
}

#[async_trait]
impl ResourceLimiterAsync for Limiter {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let allowed = maximum.is_none_or(|most| desired <= most);
        if allowed && self.becomes_large(desired.saturating_sub(current)) {
            // Whoever polls it finds it on the wrong lane.
            tokio::task::yield_now().await;
        }
        ResourceLimiter::memory_growing(self, current, desired, maximum)
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        ResourceLimiter::table_growing(self, current, desired, maximum)
    }

    fn instances(&self) -> usize {
        ResourceLimiter::instances(self)
    }

    fn tables(&self) -> usize {
        ResourceLimiter::tables(self)
    }

    fn memories(&self) -> usize {
        ResourceLimiter::memories(self)
    }
}
