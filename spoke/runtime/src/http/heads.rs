//! Heads of requests that are not whole yet, on the container's memory: a client may send 64 KiB and then nothing, over
//! each of thousands of connections.
//!
//! Guarantees: what hyper holds of a head is counted while it comes; a connection whose head finds no memory is broken
//! off, and no other.

use std::io;

use parking_lot::Mutex;

use crate::memory::Share;

/// What hyper reads into from the start, whatever comes.
const FIRST: usize = 8 << 10;

/// The head that comes over one connection.
pub(super) struct Head {
    state: Mutex<State>,
    most: usize,
}

struct State {
    share: Share,
    /// The request is whole: what comes now is its body, which is counted where it goes to.
    whole: bool,
}

impl Head {
    /// `most`: the largest head that hyper takes.
    pub(super) fn new(share: Share, most: usize) -> Self {
        Self { state: Mutex::new(State { share, whole: false }), most }
    }

    /// So many bytes have come.
    pub(super) fn heard(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.whole {
            return Ok(());
        }
        let held = (state.share.bytes().max(FIRST) + bytes).min(self.most.max(FIRST));
        if state.share.fits(held) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::OutOfMemory, "no memory is left for the request's head"))
    }

    /// The head is whole: the request is with its handler.
    pub(super) fn is_whole(&self) {
        let mut state = self.state.lock();
        state.whole = true;
        state.share.fits(0);
    }

    /// The answer has begun: what comes now may be the next head.
    pub(super) fn begins(&self) {
        self.state.lock().whole = false;
    }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_net::Account;

    use super::*;
    use crate::memory::Memory;

    #[test]
    fn a_head_is_counted_until_it_is_whole_and_a_body_is_not() {
        let memory = Memory::new(Some(100 << 10), &Account::node());
        let head = |memory| Head::new(Memory::share(memory), 64 << 10);
        let first = head(&memory);
        first.heard(1).unwrap();
        assert_eq!(memory.used(), FIRST + 1);
        first.heard(1 << 20).unwrap();
        assert_eq!(memory.used(), 64 << 10, "hyper holds no more");
        let second = head(&memory);
        let refused = second.heard(60 << 10).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        first.is_whole();
        first.heard(1 << 20).unwrap();
        assert_eq!(memory.used(), 0);
        second.heard(50 << 10).unwrap();
        first.begins();
        assert!(first.heard(50 << 10).is_err());
        drop(second);
        first.heard(50 << 10).unwrap();
    }
}
