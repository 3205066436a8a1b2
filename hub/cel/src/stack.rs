//! A stack that holds what expressions need: the parser and the evaluator take some frames for each level of one, more than a
//! worker's stack has room for.
//!
//! Guarantees:
//! - there is one thread for all that is done together (`what_is_where_there_is_room_needs_no_other_thread`);
//! - that there is no thread is told from what is wrong with the work (`no_thread_is_told_from_a_panic`).

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, Builder};

/// Room for all that an expression may need. What is not used of it costs nothing.
pub const STACK_BYTES: usize = 128 << 20;

thread_local! {
    /// The stack that this thread was made with here.
    static ROOM: Cell<usize> = const { Cell::new(0) };
}

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The host has no thread, or no memory for its stack, at the moment.
    #[error("there is no thread to look at the expression at the moment; try again")]
    NoThread,
    /// It panicked.
    #[error("there is no room to look at the expression")]
    Panicked,
}

/// Does this work on a stack of this size: on this thread's, if that is one, else on that of a thread of its own.
///
/// # Errors
/// There is no thread for it, or it panicked.
pub fn on_a_stack_of<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T, NoRoom> {
    if bytes <= ROOM.get() {
        // What it leaves half done is its own, and goes with it.
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| NoRoom::Panicked);
    }
    let work = || {
        ROOM.set(bytes);
        work()
    };
    thread::scope(|scope| {
        let thread = thread(bytes).spawn_scoped(scope, work).map_err(|_| NoRoom::NoThread)?;
        thread.join().map_err(|_| NoRoom::Panicked)
    })
}

/// Begins this work where there is room for any expression, and does not wait for it.
///
/// # Errors
/// There is no thread for it.
pub fn begin_where_there_is_room(work: impl FnOnce() + Send + 'static) -> Result<(), NoRoom> {
    let work = || {
        ROOM.set(STACK_BYTES);
        work();
    };
    thread(STACK_BYTES).spawn(work).map(drop).map_err(|_| NoRoom::NoThread)
}

fn thread(bytes: usize) -> Builder {
    Builder::new().name("cel".to_owned()).stack_size(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_where_there_is_room_needs_no_other_thread() {
        let own = || thread::current().id();
        let both = || (own(), on_a_stack_of(1 << 20, own), on_a_stack_of(4 << 20, own));
        let (outer, inner, larger) = on_a_stack_of(2 << 20, both).unwrap();
        assert_eq!(Ok(outer), inner);
        assert!(larger.is_ok() && larger != Ok(outer) && outer != own());
        let (told, done) = std::sync::mpsc::channel();
        begin_where_there_is_room(move || {
            let _ = told.send(on_a_stack_of(STACK_BYTES, own) == Ok(own()));
        })
        .unwrap();
        assert_eq!(done.recv(), Ok(true));
    }

    #[test]
    fn no_thread_is_told_from_a_panic() {
        assert_eq!(on_a_stack_of(usize::MAX / 4, || 1), Err(NoRoom::NoThread));
        let panics = || on_a_stack_of(1 << 20, || panic!("as a test wants it"));
        assert_eq!(panics(), Err::<(), _>(NoRoom::Panicked));
        assert_eq!(on_a_stack_of(2 << 20, panics), Ok(Err(NoRoom::Panicked)));
    }
}
