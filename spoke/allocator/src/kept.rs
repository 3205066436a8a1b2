//! Pieces of memory that a thread has freed, by their size.
//!
//! A piece has its size's class by its layout alone, and none has a header. A signal's handler may not allocate, as without
//! all this: the source has locks, which its thread may hold.
//!
//! Guarantees:
//! - whoever holds a piece holds it alone, with what was written to it (`pieces_are_their_holders_alone`);
//! - a thread keeps a bounded number of bytes, and nothing once it has ended (`a_thread_keeps_little_and_leaves_nothing`)
//!   or has asked for that (`a_thread_that_asks_for_it_keeps_nothing`);
//! - what is freed is what is given next to the same thread, if it has a class and that has room for it
//!   (`what_was_freed_is_given_again`);
//! - a call within another one of the same thread is served by the source (`a_call_within_a_call_goes_to_the_source`);
//! - a class is large enough for all that is of it (`a_size_fits_into_its_class`);
//! - lists are those of the thread that runs at the time, also in a function that goes on in another thread
//!   (`no_caller_takes_the_lists_into_itself`).

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::ptr::null_mut;

#[cfg(test)]
use tests::SOURCE;
/// Where pieces come from.
#[cfg(not(test))]
const SOURCE: std::alloc::System = std::alloc::System;

/// Keeps pieces for the thread that frees them.
pub(crate) struct Allocator;

/// Classes up to eight of these differ by one; every doubling beyond has four.
const UNIT_BYTES: usize = 16;
/// What musl's allocator has before each piece: with it a piece fills its units, and no part of one more.
const HEADER_BYTES: usize = 4;
const LARGEST_BYTES: usize = (16 << 10) - HEADER_BYTES;
const CLASS_COUNT: usize = 36;
/// What a thread keeps of one class, at most: so many pieces and bytes, but at least two pieces.
const PIECES_MAX: usize = 64;
const CLASS_BYTES_MAX: usize = 8 << 10;
/// What every source aligns to by itself.
const ALIGN_BYTES: usize = 2 * size_of::<usize>();

/// The class of all sizes from the next smaller one's up to its own; `None` for what is not kept.
#[inline(always)]
const fn class(layout: Layout) -> Option<usize> {
    if LARGEST_BYTES < layout.size()
        || ALIGN_BYTES < layout.align()
        || layout.size() < layout.align()
    {
        return None;
    }
    // The last unit that is begun, counted from zero.
    let last = (layout.size() + HEADER_BYTES - 1) / UNIT_BYTES;
    if last < 8 {
        return Some(last);
    }
    let doublings = last.ilog2() as usize;
    Some(8 + (doublings - 3) * 4 + (last >> (doublings - 2)) % 4)
}

/// What every piece of a class is asked from the source with.
#[inline(always)]
const fn piece(class: usize) -> Layout {
    let units = match class.checked_sub(8) {
        None => class + 1,
        Some(beyond) => (5 + beyond % 4) << (beyond / 4 + 1),
    };
    // What is smaller than ALIGN_BYTES asks for no more than the half of it, and a source may see to an alignment that is more than
    // the size by a way of its own.
    let align = if units == 1 { 8 } else { ALIGN_BYTES };
    // SAFETY: both are powers of two, and no class is larger than LARGEST_BYTES.
    unsafe { Layout::from_size_align_unchecked(units * UNIT_BYTES - HEADER_BYTES, align) }
}

/// Free pieces of one class: each holds the address of the next.
#[derive(Clone, Copy)]
struct List {
    first: *mut u8,
    room: usize,
}

/// What one thread keeps.
struct Kept([List; CLASS_COUNT]);

thread_local!(static KEPT: RefCell<Kept> = const { RefCell::new(Kept::new()) });

impl Kept {
    const fn new() -> Self {
        let mut lists = [List { first: null_mut(), room: 0 }; CLASS_COUNT];
        let mut at = 0;
        while at < CLASS_COUNT {
            lists[at].room = pieces_max(at);
            at += 1;
        }
        Self(lists)
    }
}

const fn pieces_max(class: usize) -> usize {
    let pieces = CLASS_BYTES_MAX / piece(class).size();
    if pieces < 2 {
        2
    } else if PIECES_MAX < pieces {
        PIECES_MAX
    } else {
        pieces
    }
}

impl List {
    /// Null when there is none.
    #[inline(always)]
    fn take(&mut self) -> *mut u8 {
        let first = self.first;
        if !first.is_null() {
            // SAFETY: a piece in the list is free, large enough, and begins with what `keep` wrote.
            self.first = unsafe { first.cast::<*mut u8>().read() };
            self.room += 1;
        }
        first
    }

    /// Whether there was room for it.
    ///
    /// # Safety
    /// The piece came from the source with the layout of this list's class, and nobody else has it.
    #[inline(always)]
    unsafe fn keep(&mut self, piece: *mut u8) -> bool {
        if self.room == 0 {
            return false;
        }
        // SAFETY: it is ours, and of all classes at least 12 bytes that begin at a multiple of 8.
        unsafe { piece.cast::<*mut u8>().write(self.first) };
        self.first = piece;
        self.room -= 1;
        true
    }
}

impl Kept {
    fn give_back(&mut self) {
        for (class, list) in self.0.iter_mut().enumerate() {
            loop {
                let free = list.take();
                if free.is_null() {
                    break;
                }
                // SAFETY: what is in the list came from the source with the layout of its class.
                unsafe { SOURCE.dealloc(free, piece(class)) };
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Gives back what the calling thread has kept, and keeps nothing for it from here on: for threads that are many, and that
/// free what others have allocated.
#[inline(never)]
pub fn keep_nothing() {
    // A thread at its end keeps nothing already.
    let _ = KEPT.try_with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut() {
            kept.give_back();
            kept.0.iter_mut().for_each(|list| list.room = 0);
        }
    });
}

/// The thread's list of a class, while the thread has any and does nothing with them: it frees things at its end, too.
#[inline(always)]
fn with<R>(class: usize, then: impl FnOnce(&mut List) -> R) -> Option<R> {
    let list = |kept: &RefCell<Kept>| Some(then(&mut kept.try_borrow_mut().ok()?.0[class]));
    KEPT.try_with(list).ok().flatten()
}

// SAFETY: a piece is in the hands of the source, of one list or of one caller, and goes from one to the next in the
// calls below; its layout towards the source is that of its class, which follows from the caller's layout alone. A list is
// its own thread's: guests run on stacks of their own, which may go on in another thread in the middle of a function, and
// a function that had one of these calls in itself could keep the address of the former thread's lists over that. None
// does, and in the calls themselves nobody changes threads.
unsafe impl GlobalAlloc for Allocator {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { SOURCE.alloc(layout) };
        };
        match with(class, List::take) {
            Some(kept) if !kept.is_null() => kept,
            // SAFETY: no class is of size zero.
            Some(_) | None => unsafe { SOURCE.alloc(piece(class)) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        let Some(class) = class(layout) else {
            // SAFETY: the caller's promise; what has no class came from the source with this layout.
            return unsafe { SOURCE.dealloc(old, layout) };
        };
        // SAFETY: it came from `alloc` with a layout of this class, and the caller gives it up.
        if with(class, |list| unsafe { list.keep(old) }) != Some(true) {
            // SAFETY: as above, and no list has taken it.
            unsafe { SOURCE.dealloc(old, piece(class)) };
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class(layout).is_none() {
            // Fresh pages are zero already.
            // SAFETY: the caller's promise.
            return unsafe { SOURCE.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise, and a new piece has at least the layout's size.
        unsafe {
            let new = self.alloc(layout);
            if !new.is_null() {
                new.write_bytes(0, layout.size());
            }
            new
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: the size is not zero and does not overflow with this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let (was, is) = (class(layout), class(wanted));
        if was.is_none() && is.is_none() {
            // Large ones may move as whole pages, which copies nothing.
            // SAFETY: the caller's promise.
            return unsafe { SOURCE.realloc(old, layout, size) };
        }
        if was == is {
            return old;
        }
        // SAFETY: the two pieces are different ones, both of at least the bytes that are copied.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                new.copy_from_nonoverlapping(old, size.min(layout.size()));
                self.dealloc(old, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;

    use super::*;

    /// The system's allocator, counting what it has given.
    pub(super) struct Counted {
        bytes: AtomicUsize,
        calls: AtomicUsize,
    }

    pub(super) static SOURCE: Counted =
        Counted { bytes: AtomicUsize::new(0), calls: AtomicUsize::new(0) };

    // SAFETY: all of it is the system's allocator.
    unsafe impl GlobalAlloc for Counted {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            self.bytes.fetch_add(layout.size(), Ordering::SeqCst);
            self.calls.fetch_add(1, Ordering::SeqCst);
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
            self.bytes.fetch_sub(layout.size(), Ordering::SeqCst);
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(old, layout) }
        }
    }

    /// One test at a time counts, and its thread has given back what it has kept before the next one's turn.
    fn alone(test: fn()) {
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock();
        if let Err(failed) = std::thread::spawn(test).join() {
            std::panic::resume_unwind(failed);
        }
        assert_eq!(SOURCE.bytes.load(Ordering::SeqCst), 0, "a test has kept what it had");
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 1).unwrap()
    }

    fn alloc(size: usize) -> *mut u8 {
        // SAFETY: no test asks for nothing.
        let new = unsafe { Allocator.alloc(layout(size)) };
        assert!(!new.is_null());
        new
    }

    fn free(old: *mut u8, size: usize) {
        // SAFETY: tests free what they have, once, with its size.
        unsafe { Allocator.dealloc(old, layout(size)) }
    }

    #[test]
    fn a_size_fits_into_its_class() {
        let mut before = None;
        for size in 1..=LARGEST_BYTES {
            let class = class(layout(size)).unwrap();
            assert!(size <= piece(class).size(), "{size}");
            assert_eq!((piece(class).size() + HEADER_BYTES) % UNIT_BYTES, 0, "{size}");
            // No smaller class would do, and none is left out.
            let smaller = class.checked_sub(1).map(|smaller| piece(smaller).size());
            assert!(smaller < Some(size), "{size}: {smaller:?}");
            assert!(before == Some(class) || before == class.checked_sub(1), "{size}");
            before = Some(class);
        }
        assert_eq!(before, Some(CLASS_COUNT - 1));
        assert_eq!(piece(CLASS_COUNT - 1).size(), LARGEST_BYTES);
        assert_eq!(class(layout(LARGEST_BYTES + 1)), None);
        for aligned in [(64, 64), (8, 16)] {
            assert_eq!(class(Layout::from_size_align(aligned.0, aligned.1).unwrap()), None);
        }
    }

    #[test]
    fn no_caller_takes_the_lists_into_itself() {
        let ours = include_str!("kept.rs").split("#[cfg(test)]\nmod tests").next().unwrap();
        let (lists, calls) = ours.split_once("unsafe impl GlobalAlloc for Allocator").unwrap();
        assert_eq!(lists.matches("KEPT.").count(), 2, "by one way, but at a thread's beginning");
        assert!(!calls.contains("KEPT"));
        let apart = calls.matches("    #[inline(never)]\n    unsafe fn ").count();
        assert_eq!((apart, calls.matches("fn ").count()), (4, 4), "each of them");
    }

    #[test]
    fn what_was_freed_is_given_again() {
        alone(|| {
            let first = alloc(100);
            free(first, 100);
            let calls = SOURCE.calls.load(Ordering::SeqCst);
            assert_eq!(alloc(97), first);
            assert_eq!(SOURCE.calls.load(Ordering::SeqCst), calls);
            free(first, 97);
            // Another thread has none of it.
            let other = std::thread::spawn(|| {
                let other = alloc(100);
                let address = other.addr();
                free(other, 100);
                address
            });
            assert_ne!(other.join().unwrap(), first.addr());
        });
    }

    #[test]
    fn a_call_within_a_call_goes_to_the_source() {
        alone(|| {
            let kept = alloc(100);
            free(kept, 100);
            KEPT.with(|lists| {
                let _busy = lists.borrow_mut();
                let other = alloc(100);
                assert_ne!(other, kept);
                free(other, 100);
            });
            assert_eq!(alloc(100), kept);
            free(kept, 100);
        });
    }

    #[test]
    fn a_thread_keeps_little_and_leaves_nothing() {
        alone(|| {
            let before = SOURCE.bytes.load(Ordering::SeqCst);
            let much = || {
                for class in 0..CLASS_COUNT {
                    let size = piece(class).size();
                    let pieces: Vec<_> = (0..1000).map(|_| alloc(size)).collect();
                    pieces.into_iter().for_each(|piece| free(piece, size));
                }
                SOURCE.bytes.load(Ordering::SeqCst)
            };
            let kept = std::thread::spawn(much).join().unwrap() - before;
            assert!((128 << 10..512 << 10).contains(&kept), "{kept}");
            assert_eq!(SOURCE.bytes.load(Ordering::SeqCst), before);
        });
    }

    #[test]
    fn a_thread_that_asks_for_it_keeps_nothing() {
        alone(|| {
            let before = SOURCE.bytes.load(Ordering::SeqCst);
            let held = || SOURCE.bytes.load(Ordering::SeqCst) - before;
            let thread = || {
                let more = || {
                    for size in (0..CLASS_COUNT).map(|class| piece(class).size()) {
                        free(alloc(size), size);
                    }
                };
                more();
                let kept = held();
                keep_nothing();
                let left = held();
                more();
                (kept, left, held())
            };
            let joined = std::thread::scope(|scope| scope.spawn(thread).join());
            let (kept, left, then) = joined.unwrap();
            assert!(0 < kept, "as any other thread");
            assert_eq!((left, then), (0, 0));
        });
    }

    #[test]
    fn pieces_are_their_holders_alone() {
        alone(pieces);
    }

    /// Pieces of all sizes come, grow, shrink and go, each filled with a byte of its own.
    fn pieces() {
        let mut dice = fastrand::Rng::with_seed(7);
        let mut held: Vec<(*mut u8, usize, u8)> = Vec::new();
        for turn in 0..200_000_u32 {
            let size = 1 + (dice.usize(..3 * LARGEST_BYTES) >> dice.u32(..14));
            let mark = turn.to_le_bytes()[0];
            let (piece, size) = match dice.u32(..4) {
                0 | 1 if 300 < held.len() => continue,
                0 => (alloc(size), size),
                1 => {
                    // SAFETY: the size is not zero.
                    let piece = unsafe { Allocator.alloc_zeroed(layout(size)) };
                    assert!(all(piece, size, 0), "{size}");
                    (piece, size)
                }
                _ if held.is_empty() => continue,
                2 => {
                    let (piece, old, mark) = held.swap_remove(dice.usize(..held.len()));
                    // SAFETY: the piece is held with this layout.
                    let moved = unsafe { Allocator.realloc(piece, layout(old), size) };
                    assert!(all(moved, old.min(size), mark), "{old} {size}");
                    (moved, size)
                }
                _ => {
                    let (piece, size, mark) = held.swap_remove(dice.usize(..held.len()));
                    assert!(all(piece, size, mark), "{size}");
                    free(piece, size);
                    continue;
                }
            };
            assert_eq!(piece.addr() % 8, 0);
            // SAFETY: the piece is ours and of this size.
            unsafe { piece.write_bytes(mark, size) };
            held.push((piece, size, mark));
        }
        for (piece, size, mark) in held {
            assert!(all(piece, size, mark), "{size}");
            free(piece, size);
        }
    }

    fn all(piece: *mut u8, size: usize, mark: u8) -> bool {
        // SAFETY: tests ask for what they hold and have filled.
        unsafe { std::slice::from_raw_parts(piece, size) }.iter().all(|byte| *byte == mark)
    }
}
