//! A container's memory limit, over all of its instances, and the pod's and the node's above it.
//!
//! Guarantees:
//! - no container has more than its limit, linear memory, tables, stacks, what its instances take beside them and what
//!   the host holds for its handles together (`instances_share_one_limit_and_give_back_what_they_had`,
//!   `tables_count_as_the_memory_that_they_are`, `the_stack_of_every_instance_is_on_its_memory`,
//!   `what_instances_take_beside_their_memories_is_memory`, `what_the_host_holds_for_a_guest_is_on_its_memory`);
//! - what a store has taken stays booked until it goes, whatever fails in between and in whatever order wasmtime tells
//!   of it (`no_failure_gives_back_what_a_growth_before_it_took`);
//! - a memory that moves counts at the node with both of its places (`a_memory_that_moves_counts_twice_while_it_does`),
//!   also after a growth of it that failed (`after_a_growth_that_failed_a_move_counts_as_well`), and no longer than until
//!   the next (`of_moves_one_after_another_the_last_counts`);
//! - all together have no more than the node gives to guests; what is refused is booked nowhere, whoever refuses it
//!   (`all_guests_together_have_what_the_node_gives`, `what_a_module_s_own_maximum_refuses_is_booked_nowhere`).
//!
//! Who comes first at the node's bound is refused, whoever has taken it: near it the agent evicts the one that has most
//! beyond what it asked for, and that one gets nothing more from then on
//! (`a_hog_that_is_evicted_gets_nothing_more_and_its_neighbour_does`).
//!
//! Of a linear memory that moves while it grows (beyond its reservation, where addresses are scarce) the host has both
//! places for the time of the copy. The old one counts at the node alone, until the poll is over in which it moved, or the
//! next one moves: a limit is what a container may keep. It moves once for every [`BOUNDED_STEP_BYTES`] bytes.
//!
//! The native stack of an instance counts as all that its guest can touch of it
//! ([`freewheel_spoke_engine::GUEST_STACK_BYTES`]), for as long as the instance is there: a guest can touch all of it
//! in less than a tick. Of a program, which is there for long and mostly waits, that is so on its container alone, and
//! above it counts what it has touched (`on_stack.rs`).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use freewheel_spoke_account::{Full, Held, Level, MemoryAccount};
use freewheel_spoke_engine::footprint::CORE_INSTANCES_MAX;
use freewheel_spoke_engine::{BOUNDED_STEP_BYTES, GUEST_STACK_BYTES};
use wasmtime::ResourceLimiter;

mod large;

/// Elements in one table; real programs have thousands.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// What the host holds for one element of a table.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Memories and tables of one store: a component is made of a few.
pub(crate) const STORE_PARTS_MAX: usize = 64;

/// What a container has and may have.
#[derive(Debug)]
pub(crate) struct ContainerMemory {
    account: Arc<MemoryAccount>,
    refused: AtomicBool,
    /// An instance of it has had much memory.
    large: AtomicBool,
    /// Bytes that a linear memory grows to without moving.
    reserved: usize,
}

impl ContainerMemory {
    /// Where no linear memory ever moves.
    #[cfg(test)]
    pub(crate) fn new(limit: Option<u64>, above: &Arc<MemoryAccount>) -> Arc<Self> {
        Self::moving_beyond(usize::MAX, limit, above)
    }

    /// Where linear memories move that grow beyond what is reserved for each.
    pub(crate) fn moving_beyond(
        reserved: usize,
        limit: Option<u64>,
        above: &Arc<MemoryAccount>,
    ) -> Arc<Self> {
        let account = MemoryAccount::within(above, Level::Container, limit);
        let (refused, large) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { account, refused, large, reserved })
    }

    /// A part of it whose bytes are also counted by themselves.
    pub(crate) fn part(&self) -> Arc<Self> {
        Self::moving_beyond(self.reserved, None, &self.account)
    }

    /// What all of it is counted on.
    pub(crate) const fn account(&self) -> &Arc<MemoryAccount> {
        &self.account
    }

    /// The account of all guests.
    fn node(&self) -> &Arc<MemoryAccount> {
        let mut at = &self.account;
        while let Some(above) = at.above() {
            at = above;
        }
        at
    }

    /// Bytes in use, and held by the host.
    pub(crate) fn used(&self) -> usize {
        self.account.used()
    }

    /// The most that the container could have, if its pod and its node had nothing else.
    pub(crate) fn most(&self) -> usize {
        self.account.most()
    }

    /// The limit of its own, if it has one.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.account.limit()
    }

    /// Changes the limit. What is held already stays.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.account.set_limit(limit as u64);
    }

    /// Makes the limit as low as this unless more is held; whether it is.
    pub(crate) fn lower_limit(&self, limit: usize) -> bool {
        self.account.lower_limit(limit)
    }

    /// Whether the container could have this much in all.
    pub(crate) fn fits(&self, expected: usize) -> bool {
        self.account.has_room_for(expected.saturating_sub(self.used()))
    }

    /// Whether an instance was refused memory since the last time this was asked.
    pub(crate) fn take_refused(&self) -> bool {
        self.refused.swap(false, Relaxed)
    }

    /// A place for a native stack, of which nothing is touched.
    pub(crate) fn stack(&self) -> Result<Stack, Full> {
        let whole = self.account.set_apart(GUEST_STACK_BYTES)?;
        let above = self.account.above().unwrap_or(&self.account);
        Ok(Stack { _whole: whole, touched: above.nothing() })
    }

    /// A place for what the host is going to hold.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { held: self.account.nothing(), memory: self.clone() }
    }
}

/// A part of a container's memory. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    held: Held,
    memory: Arc<ContainerMemory>,
}

impl Share {
    pub(crate) const fn bytes(&self) -> usize {
        self.held.bytes()
    }

    /// All of it, as a part of its own: nothing is left here.
    pub(crate) fn take_all(&mut self) -> Self {
        Self { held: self.held.take_all(), memory: self.memory.clone() }
    }

    /// Makes it more or less. What is refused is remembered: the guest may well die of it without a word.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Full> {
        self.held.set(bytes).inspect_err(|_| self.memory.refused.store(true, Relaxed))
    }

    /// Makes it more or less if there is room, and says whether there was.
    pub(crate) fn fits(&mut self, bytes: usize) -> bool {
        self.held.set(bytes).is_ok()
    }

    /// Makes it as much as this, unless it is more, if there is room; whether it is.
    pub(crate) fn grows_to(&mut self, bytes: usize) -> bool {
        bytes <= self.bytes() || self.fits(bytes)
    }

    fn add(&mut self, more: usize) -> Result<(), Full> {
        self.set(self.bytes().saturating_add(more))
    }
}

/// The place of a native stack: all of it on the container, above it what is touched.
#[derive(Debug)]
pub(crate) struct Stack {
    _whole: Held,
    touched: Held,
}

impl Stack {
    pub(crate) fn touched(&mut self, bytes: usize) -> Result<(), Full> {
        self.touched.set(bytes)
    }
}

/// Linear memories and tables of one store.
///
/// wasmtime says that a growth has failed without saying which, and says so of growths, too, that it had asked nothing
/// for (of a table whose size overflows): who gives back on its word gives back what the guest still has. So nothing
/// goes back but with the store. What a module's own maximum refuses is not booked, and where the host itself had none
/// to give, a guest that asks on and on comes to its limit the sooner.
pub(crate) struct Limiter {
    share: Share,
    /// It has much memory.
    large: bool,
    extents: Vec<MemoryExtent>,
}

/// A linear memory, and how large it may become where it is.
struct MemoryExtent {
    /// What it was before it grew to its size, if it did.
    before: usize,
    size: usize,
    room: usize,
}

thread_local! {
    /// What memories have left since this thread began to poll the guest that it polls.
    static LEFT: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// A guest's poll is over: what its memories have left is free.
pub(crate) fn all_moved() {
    LEFT.with_borrow_mut(Vec::clear);
}

impl Limiter {
    pub(crate) fn new(memory: &Arc<ContainerMemory>) -> Self {
        Self { share: memory.share(), large: false, extents: Vec::new() }
    }

    /// Bytes that a memory has twice while it grows. Which one grows is not said: of two that are as large, the one
    /// that moves sooner; and where none is, one whose last growth has failed, which is as large as it was before.
    fn has_twice(&mut self, current: usize, desired: usize) -> usize {
        let step = usize::try_from(BOUNDED_STEP_BYTES).unwrap_or(usize::MAX);
        let reserved = self.share.memory.reserved;
        if reserved == usize::MAX {
            return 0;
        }
        let fresh = if desired <= reserved { reserved } else { desired.saturating_add(step) };
        if let Some(extent) = self.soonest(|extent| extent.size == current) {
            (extent.before, extent.size) = (current, desired);
            if desired <= extent.room {
                return 0;
            }
            extent.room = fresh;
            return current;
        }
        let grown = MemoryExtent { before: current, size: desired, room: fresh };
        match self.soonest(|extent| current != 0 && extent.before == current) {
            Some(extent) => *extent = grown,
            None => self.extents.push(grown),
        }
        // Of a new one that is nothing. Of another it is not known where it ends: it may move.
        if desired <= reserved { 0 } else { current }
    }

    /// Of those that are so, the one that moves sooner.
    fn soonest(&mut self, is: impl Fn(&MemoryExtent) -> bool) -> Option<&mut MemoryExtent> {
        let found = self.extents.iter_mut().filter(|extent| is(extent));
        found.min_by_key(|extent| extent.room)
    }

    /// Bytes of this store.
    pub(crate) const fn own(&self) -> usize {
        self.share.bytes()
    }

    fn grow(&mut self, more: usize) -> wasmtime::Result<bool> {
        // An error ends the guest with a reason; refusing would let it die of its own, with none.
        self.share.add(more)?;
        Ok(true)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Who asks for more has come back from what it had asked for before.
        all_moved();
        if maximum.is_some_and(|most| most < desired) {
            return Ok(false);
        }
        let twice = self.has_twice(current, desired);
        if twice == 0 {
            return self.grow(desired.saturating_sub(current));
        }
        let memory = &self.share.memory;
        let left = memory.node().take(twice).inspect_err(|_| {
            memory.refused.store(true, Relaxed);
        })?;
        let grown = self.grow(desired.saturating_sub(current))?;
        LEFT.with_borrow_mut(|all| all.push(left));
        Ok(grown)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|most| most < desired) || TABLE_ELEMENTS_MAX < desired {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) * TABLE_ELEMENT_BYTES)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        STORE_PARTS_MAX
    }

    fn memories(&self) -> usize {
        STORE_PARTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(outcome: wasmtime::Result<bool>) -> Full {
        *outcome.unwrap_err().downcast_ref().unwrap()
    }

    #[test]
    fn instances_share_one_limit_and_give_back_what_they_had() {
        let memory = ContainerMemory::new(Some(100), &MemoryAccount::node());
        let mut first = Limiter::new(&memory);
        let mut second = Limiter::new(&memory);
        assert!(first.memory_growing(0, 60, None).unwrap());
        let refused = full(second.memory_growing(0, 50, None));
        assert_eq!(refused, Full { level: Level::Container, limit: 100, wanted: 110, more: 50 });
        assert!(memory.take_refused());
        drop(first);
        assert!(second.memory_growing(0, 50, None).unwrap());
        assert_eq!(memory.used(), 50);
    }

    #[test]
    fn a_memory_that_moves_counts_twice_while_it_does() {
        const MIB: usize = 1 << 20;
        let node = MemoryAccount::node();
        node.set_limit(1000 << 20);
        let memory = ContainerMemory::moving_beyond(100 * MIB, Some(600 << 20), &node);
        let mut limiter = Limiter::new(&memory);
        let mut grows = |from: usize, to: usize| {
            let outcome = limiter.memory_growing(from * MIB, to * MIB, None);
            let counted = (memory.used() / MIB, node.used() / MIB);
            all_moved();
            outcome.map(|grown| (grown, counted))
        };
        assert_eq!(grows(0, 40).unwrap(), (true, (40, 40)));
        assert_eq!(grows(40, 100).unwrap(), (true, (100, 100)), "that was reserved");
        assert_eq!(grows(100, 110).unwrap(), (true, (110, 210)));
        assert_eq!(node.used(), memory.used(), "it is over");
        assert_eq!(grows(110, 174).unwrap(), (true, (174, 174)), "with its place it got a step");
        assert_eq!(grows(174, 175).unwrap(), (true, (175, 349)));
        // Another one, which begins beyond what is reserved.
        assert_eq!(grows(0, 200).unwrap(), (true, (375, 375)));
        assert_eq!(grows(200, 264).unwrap(), (true, (439, 439)));
        // Of the container there is room for it, and of the node not while it moves.
        let others = node.take(300 * MIB).unwrap();
        let refused = full(grows(264, 265).map(|(grown, _)| grown));
        assert_eq!((refused.level, memory.take_refused()), (Level::Node, true));
        drop(others);
        assert_eq!(memory.used() / MIB, 439);
    }

    /// A container on a node of plenty, whose memories move beyond 100 bytes.
    fn moving(node: &Arc<MemoryAccount>) -> Limiter {
        node.set_limit(1 << 40);
        Limiter::new(&ContainerMemory::moving_beyond(100, None, node))
    }

    #[test]
    fn after_a_growth_that_failed_a_move_counts_as_well() {
        let step = usize::try_from(BOUNDED_STEP_BYTES).unwrap();
        let node = MemoryAccount::node();
        let mut limiter = moving(&node);
        let mut twice = |current: usize, desired: usize| limiter.has_twice(current, desired);
        assert_eq!((twice(0, 90), twice(90, 300)), (0, 90));
        // The host had none to give, twice: it is still of 90 bytes.
        assert_eq!((twice(90, 400), twice(90, 500)), (90, 90));
        assert_eq!((twice(500, 500 + step), twice(500 + step, 501 + step)), (0, 500 + step));
        assert_eq!(limiter.extents.len(), 1, "it is one and the same");
        // Within what is reserved for it none moves, whatever has failed.
        let mut limiter = moving(&node);
        assert_eq!((limiter.has_twice(0, 10), limiter.has_twice(10, 99)), (0, 0));
        assert_eq!((limiter.has_twice(10, 100), limiter.has_twice(100, 101)), (0, 100));
        // A new one beside it is not taken for it.
        assert_eq!((limiter.has_twice(0, 200), limiter.extents.len()), (0, 2));
    }

    #[test]
    fn of_moves_one_after_another_the_last_counts() {
        let step = usize::try_from(BOUNDED_STEP_BYTES).unwrap();
        let node = MemoryAccount::node();
        let mut limiter = moving(&node);
        let mut from = 0;
        for number in 1..5 {
            let to = number * (step + 1000);
            assert!(limiter.memory_growing(from, to, None).unwrap());
            assert_eq!(node.used(), to + from, "of the {number}th move");
            from = to;
        }
        all_moved();
        assert_eq!(node.used(), from);
    }

    #[test]
    fn all_guests_together_have_what_the_node_gives() {
        let node = MemoryAccount::node();
        node.set_limit(100);
        let (one, other) =
            (ContainerMemory::new(None, &node), ContainerMemory::new(Some(90), &node));
        let mut first = Limiter::new(&one);
        let mut second = Limiter::new(&other);
        assert!(first.memory_growing(0, 60, None).unwrap());
        assert!(!other.fits(50) && other.fits(40));
        let refused = full(second.memory_growing(0, 50, None));
        assert_eq!(refused, Full { level: Level::Node, limit: 100, wanted: 110, more: 50 });
        assert_eq!((one.used(), other.used()), (60, 0), "nothing stays booked");
        drop(first);
        assert!(second.memory_growing(0, 50, None).unwrap());
        drop(second);
        assert_eq!(node.used(), 0);
    }

    #[test]
    fn no_failure_gives_back_what_a_growth_before_it_took() {
        let memory = ContainerMemory::new(Some(1 << 20), &MemoryAccount::node());
        let mut limiter = Limiter::new(&memory);
        // wasmtime tells of failures that it had asked for no room for, in any order.
        let fails = |limiter: &mut Limiter| {
            limiter.table_grow_failed(wasmtime::format_err!("overflow")).unwrap();
            limiter.memory_grow_failed(wasmtime::format_err!("beyond its type")).unwrap();
        };
        fails(&mut limiter);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        fails(&mut limiter);
        assert!(limiter.table_growing(0, 5, None).unwrap());
        fails(&mut limiter);
        assert_eq!(memory.used(), 60 + 5 * TABLE_ELEMENT_BYTES);
    }

    #[test]
    fn what_a_module_s_own_maximum_refuses_is_booked_nowhere() {
        let memory = ContainerMemory::new(Some(100), &MemoryAccount::node());
        let mut limiter = Limiter::new(&memory);
        assert!(limiter.memory_growing(0, 60, Some(80)).unwrap());
        assert!(!limiter.memory_growing(60, 90, Some(80)).unwrap());
        assert!(
            !limiter.memory_growing(60, 1 << 30, Some(80)).unwrap(),
            "not the container's limit"
        );
        assert!(!limiter.table_growing(0, 3, Some(2)).unwrap());
        assert!(!memory.take_refused());
        assert_eq!(memory.used(), 60);
        assert!(limiter.memory_growing(60, 80, Some(80)).unwrap());
    }

    #[test]
    fn tables_count_as_the_memory_that_they_are() {
        let memory = ContainerMemory::new(Some(1 << 20), &MemoryAccount::node());
        let mut limiter = Limiter::new(&memory);
        assert!(limiter.table_growing(0, TABLE_ELEMENTS_MAX, None).unwrap());
        assert_eq!(memory.used(), TABLE_ELEMENTS_MAX * TABLE_ELEMENT_BYTES);
        assert_eq!(
            full(limiter.table_growing(0, TABLE_ELEMENTS_MAX, None)).level,
            Level::Container
        );
        assert!(!limiter.table_growing(0, TABLE_ELEMENTS_MAX + 1, None).unwrap());
    }
}
