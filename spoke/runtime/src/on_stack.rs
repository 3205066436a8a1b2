//! A program on its native stack, and how much of that it has touched.
//!
//! A program that waits has touched a few pages of half a mebibyte. So the pod and the node count what it has touched,
//! found out each time that it parks: when it waits, and at each tick. What those that run touch until then is kept
//! free of the node's memory, a stack for each thread that runs guests.
//!
//! Guarantees:
//! - what a program has touched of its stack is on the node's memory while it waits
//!   (`the_node_counts_what_a_program_has_touched_of_its_stack`);
//! - one that touches what there is no room for ends (`a_program_that_touches_more_stack_than_there_is_room_for_ends`).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use freewheel_spoke_agent::ports::Exit;
use freewheel_spoke_engine::GUEST_STACK_BYTES;
use rustix::param::page_size;

use crate::memory::Stack;
use crate::{exit, stacks};

/// Bytes that the kernel has about a page, in `/proc/self/pagemap`.
const PAGEMAP_ENTRY_BYTES: usize = size_of::<u64>();

/// The page is in memory, or in swap.
const TOUCHED: u64 = 3 << 62;

/// Entries of the largest stack, read at once.
const PAGEMAP_ENTRIES_AT_ONCE: usize = 512;

/// What the kernel knows of this process's pages.
pub(crate) struct Pages(Option<File>);

impl Pages {
    /// Without them every stack counts in full.
    pub(crate) fn open() -> Self {
        Self(File::open("/proc/self/pagemap").ok())
    }

    /// Bytes that were touched of a stack.
    fn touched(&self, stack: &Range<usize>) -> usize {
        let count = self.0.as_ref().and_then(|file| count(file, stack));
        count.map_or(GUEST_STACK_BYTES, |pages| pages * page_size())
    }
}

fn count(file: &File, stack: &Range<usize>) -> Option<usize> {
    let (first, end) = (stack.start / page_size(), stack.end / page_size());
    let mut entries = [0; PAGEMAP_ENTRIES_AT_ONCE * PAGEMAP_ENTRY_BYTES];
    let mut touched = 0;
    for at in (first..end).step_by(PAGEMAP_ENTRIES_AT_ONCE) {
        let some = &mut entries[..PAGEMAP_ENTRIES_AT_ONCE.min(end - at) * PAGEMAP_ENTRY_BYTES];
        file.read_exact_at(some, (at * PAGEMAP_ENTRY_BYTES) as u64).ok()?;
        let some = some.as_chunks().0.iter();
        touched += some.filter(|entry| u64::from_ne_bytes(**entry) & TOUCHED != 0).count();
    }
    Some(touched)
}

/// A program and its stack.
pub(crate) struct OnStack<F> {
    guest: Pin<Box<F>>,
    stack: Option<Range<usize>>,
    pages: Arc<Pages>,
    place: Stack,
}

impl<F> OnStack<F> {
    pub(crate) fn new(guest: F, place: Stack, pages: Arc<Pages>) -> Self {
        Self { guest: Box::pin(guest), stack: None, pages, place }
    }
}

impl<F: Future<Output = Exit>> Future for OnStack<F> {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Exit> {
        let this = &mut *self;
        let (polled, stack) = stacks::given(|| this.guest.as_mut().poll(cx));
        if polled.is_ready() {
            return polled;
        }
        // Its store goes on with the one that it has.
        this.stack = stack.or(this.stack.take());
        let touched = this.stack.as_ref().map_or(0, |stack| this.pages.touched(stack));
        match this.place.touched(touched) {
            Ok(()) => Poll::Pending,
            Err(full) => Poll::Ready(exit::out_of_memory(full.to_string())),
        }
    }
}
