//! The native stacks that guests run on. A few that have been used are kept for the next instances.
//!
//! To map a stack, guard it and take it away again costs more than most requests do, on many cores most of all: each of
//! them has to be told.
//!
//! Guarantees:
//! - no more than [`IDLE_STACKS_KEPT`] are kept, whoever used them, with what was touched of them
//!   (`a_few_are_kept_and_used_again`);
//! - one that is to be clean is a new one (`one_that_is_to_be_clean_is_new`);
//! - below each is a page that nobody can touch (`below_each_is_a_page_that_nobody_can_touch`).

#![expect(unsafe_code, reason = "gives wasmtime memory to run on")]

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::{Result, StackCreator, StackMemory};

use crate::native::Guarded;

/// Stacks that nobody uses: as many as run at a time on a small device, and one more for each that comes meanwhile. A
/// guest touches 512 KiB of one at most.
const IDLE_STACKS_KEPT: usize = 8;

thread_local! {
    /// Where the stack is that was last given to somebody on this thread.
    static LAST_GIVEN_STACK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Does something; with the stack that it was given meanwhile, if it was given one.
pub(crate) fn given<T>(during: impl FnOnce() -> T) -> (T, Option<Range<usize>>) {
    LAST_GIVEN_STACK.set((0, 0));
    let outcome = during();
    let (start, end) = LAST_GIVEN_STACK.take();
    (outcome, (start < end).then_some(start..end))
}

/// Makes and keeps them.
pub(crate) struct Stacks {
    kept: Mutex<Vec<Guarded>>,
    this: Weak<Self>,
}

impl Stacks {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self { kept: Mutex::default(), this: this.clone() })
    }

    /// One of this size: one that was used, unless it is to be clean.
    fn take(&self, bytes: usize, clean: bool) -> std::io::Result<Guarded> {
        let used = if clean { None } else { self.kept.lock().pop() };
        match used.filter(|used| used.bytes() == bytes) {
            Some(used) => Ok(used),
            None => Guarded::map(bytes),
        }
    }

    fn keep(&self, used: Guarded) {
        let mut kept = self.kept.lock();
        if kept.len() < IDLE_STACKS_KEPT {
            kept.push(used);
        }
    }
}

// SAFETY: what it gives is memory of its own, of the size that was asked for, see below.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> Result<Box<dyn StackMemory>> {
        let memory = self.take(size, zeroed)?;
        let Range { start, end } = memory.range();
        LAST_GIVEN_STACK.set((start, end));
        Ok(Box::new(Stack { memory: Some(memory), stacks: self.this.clone() }))
    }
}

/// One that a guest runs on.
struct Stack {
    /// There until it is dropped.
    memory: Option<Guarded>,
    stacks: Weak<Stacks>,
}

// SAFETY: whole pages, mapped for as long as this is there and used by nobody else, and a guard page below.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.range().end)
    }

    fn range(&self) -> Range<usize> {
        self.memory.as_ref().map_or(0..0, Guarded::range)
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let guard = self.memory.as_ref().map_or(0..0, Guarded::guard);
        let at = std::ptr::with_exposed_provenance_mut;
        at(guard.start)..at(guard.end)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let (Some(memory), Some(stacks)) = (self.memory.take(), self.stacks.upgrade()) {
            stacks.keep(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 128 << 10;

    #[test]
    fn a_few_are_kept_and_used_again() {
        let stacks = Stacks::new();
        let all: Vec<_> =
            (0..2 * IDLE_STACKS_KEPT).map(|_| stacks.new_stack(SIZE, false).unwrap()).collect();
        let ranges: Vec<_> = all.iter().map(|stack| stack.range()).collect();
        for (stack, range) in all.iter().zip(&ranges) {
            assert_eq!(range.len(), SIZE);
            assert_eq!(stack.top() as usize, range.end);
            assert_eq!(stack.guard_range().end as usize, range.start);
            assert!(ranges.iter().filter(|other| other.contains(&range.start)).count() == 1);
        }
        drop(all);
        assert_eq!(stacks.kept.lock().len(), IDLE_STACKS_KEPT);
        let again = stacks.new_stack(SIZE, false).unwrap();
        assert!(ranges.contains(&again.range()));
        assert_eq!(stacks.new_stack(2 * SIZE, false).unwrap().range().len(), 2 * SIZE);
        drop(again);
        assert!(stacks.kept.lock().len() <= IDLE_STACKS_KEPT);
    }

    #[test]
    fn below_each_is_a_page_that_nobody_can_touch() {
        let stack = Stacks::new().new_stack(SIZE, false).unwrap();
        let (guard, range) = (stack.guard_range(), stack.range());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let access = |address: usize| {
            let at = |line: &&str| {
                let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                (number(from)..number(to)).contains(&address)
            };
            maps.lines().find(at).unwrap().split(' ').nth(1).unwrap()
        };
        assert_eq!(access(guard.start.addr()), "---p");
        assert_eq!(access(guard.end.addr() - 1), "---p");
        assert_eq!((access(range.start), access(range.end - 1)), ("rw-p", "rw-p"));
    }

    #[test]
    fn one_that_is_to_be_clean_is_new() {
        let stacks = Stacks::new();
        drop(stacks.new_stack(SIZE, false).unwrap());
        let clean = stacks.new_stack(SIZE, true).unwrap();
        assert_eq!(stacks.kept.lock().len(), 1, "the used one stays");
        drop(clean);
        assert_eq!(stacks.kept.lock().len(), 2);
    }
}
