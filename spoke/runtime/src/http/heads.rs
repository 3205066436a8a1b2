//! Heads of requests that are not whole yet, on the container's memory: a client may send 64 KiB and then nothing, over
//! each of thousands of connections.
//!
//! Guarantees:
//! - what hyper holds of a head is counted while it comes (`a_head_is_counted_until_it_is_whole_and_a_body_is_not`);
//! - all heads of a container have an eighth of its memory together, so that strangers leave its guest the rest; the one
//!   that began first makes room, and the newest stays (`the_oldest_head_makes_room_for_the_newest`,
//!   `heads_that_never_end_have_an_eighth_of_the_memory_and_the_newest_stay`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::memory::{Memory, Share};

/// What hyper reads into from the start, whatever comes.
const FIRST: usize = 8 << 10;

/// Most bytes of all heads of a container that has no limit, or a large one: more than a thousand of the usual size.
const MOST: usize = 16 << 20;

/// The heads that come over all connections of a container.
pub(super) struct Heads {
    memory: Arc<Memory>,
    /// The largest head that hyper takes.
    largest: usize,
    /// Bytes of all together.
    most: usize,
    coming: Mutex<Coming>,
}

/// Heads by when they began.
#[derive(Default)]
struct Coming {
    next: u64,
    bytes: usize,
    heads: BTreeMap<u64, Part>,
}

struct Part {
    share: Share,
    leave: CancellationToken,
}

impl Coming {
    fn remove(&mut self, number: u64) {
        if let Some(part) = self.heads.remove(&number) {
            self.bytes -= part.share.bytes();
        }
    }

    /// Makes room for so much more by sending the oldest away.
    fn make_room(&mut self, more: usize, most: usize) {
        while most < self.bytes + more {
            let Some((_, oldest)) = self.heads.pop_first() else { return };
            self.bytes -= oldest.share.bytes();
            oldest.leave.cancel();
        }
    }
}

impl Heads {
    /// `largest`: the largest head that hyper takes; one fits in any container.
    pub(super) fn new(memory: Arc<Memory>, largest: usize) -> Arc<Self> {
        let largest = largest.max(FIRST);
        let most = (memory.most() / 8).clamp(largest, MOST);
        Arc::new(Self { memory, largest, most, coming: Mutex::default() })
    }

    /// A connection's place; `leave` is cancelled when it has to end.
    pub(super) fn place(self: &Arc<Self>, leave: CancellationToken) -> Head {
        Head { heads: self.clone(), leave, state: Mutex::new(State::Nothing) }
    }
}

/// The head that comes over one connection.
pub(super) struct Head {
    heads: Arc<Heads>,
    leave: CancellationToken,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
enum State {
    /// Nothing has come of it.
    Nothing,
    /// It comes: its number.
    Comes(u64),
    /// The request is whole: what comes now is its body, which is counted where it goes to.
    Whole,
}

impl Head {
    /// So many bytes have come.
    pub(super) fn heard(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut coming = self.heads.coming.lock();
        let number = match *state {
            State::Whole => return Ok(()),
            State::Comes(number) => number,
            State::Nothing => {
                let number = coming.next;
                coming.next += 1;
                let part = Part { share: self.heads.memory.share(), leave: self.leave.clone() };
                coming.heads.insert(number, part);
                *state = State::Comes(number);
                number
            }
        };
        let gone = || {
            let text = "no memory is left for the request's head";
            io::Error::new(io::ErrorKind::OutOfMemory, text)
        };
        let held = coming.heads.get(&number).map(|part| part.share.bytes()).ok_or_else(gone)?;
        let wanted = (held.max(FIRST) + bytes).min(self.heads.largest);
        coming.make_room(wanted - held, self.heads.most);
        let part = coming.heads.get_mut(&number).ok_or_else(gone)?;
        if !part.share.fits(wanted) {
            coming.remove(number);
            return Err(gone());
        }
        coming.bytes += wanted - held;
        Ok(())
    }

    /// The head is whole: the request is with its handler.
    pub(super) fn is_whole(&self) {
        self.becomes(State::Whole);
    }

    /// The answer has begun: what comes now may be the next head.
    pub(super) fn begins(&self) {
        self.becomes(State::Nothing);
    }

    fn becomes(&self, next: State) {
        let mut state = self.state.lock();
        if let State::Comes(number) = std::mem::replace(&mut *state, next) {
            self.heads.coming.lock().remove(number);
        }
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.begins();
    }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_net::Account;

    use super::*;

    const LARGEST: usize = 64 << 10;

    fn heads(limit: u64) -> (Arc<Memory>, Arc<Heads>) {
        let memory = Memory::new(Some(limit), &Account::node());
        (memory.clone(), Heads::new(memory, LARGEST))
    }

    #[test]
    fn a_head_is_counted_until_it_is_whole_and_a_body_is_not() {
        let (memory, heads) = heads(8 << 20);
        let head = || heads.place(CancellationToken::new());
        let first = head();
        first.heard(1).unwrap();
        assert_eq!(memory.used(), FIRST + 1);
        first.heard(1 << 20).unwrap();
        assert_eq!(memory.used(), LARGEST, "hyper holds no more");
        first.is_whole();
        first.heard(1 << 20).unwrap();
        assert_eq!(memory.used(), 0);
        first.begins();
        first.heard(1).unwrap();
        let second = head();
        second.heard(1).unwrap();
        assert_eq!(memory.used(), 2 * (FIRST + 1));
        drop(first);
        drop(second);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn the_oldest_head_makes_room_for_the_newest() {
        let (memory, heads) = heads(8 << 20);
        let leave: Vec<_> = (0..40).map(|_| CancellationToken::new()).collect();
        let places: Vec<_> = leave.iter().map(|leave| heads.place(leave.clone())).collect();
        for place in &places {
            place.heard(LARGEST).unwrap();
            assert!(memory.used() <= 1 << 20, "{}", memory.used());
        }
        let sent_away: Vec<bool> = leave.iter().map(CancellationToken::is_cancelled).collect();
        let expected: Vec<bool> = (0..40).map(|number| number < 24).collect();
        assert_eq!(sent_away, expected, "16 of 64 KiB stay");
        assert!(places[0].heard(1).is_err(), "what was sent away takes nothing more");
        places[39].is_whole();
        places[24].heard(0).unwrap();
        assert_eq!(memory.used(), 15 * LARGEST);
    }

    #[test]
    fn in_the_smallest_container_one_head_fits_and_a_full_one_takes_none() {
        let (memory, heads) = heads(LARGEST as u64);
        let first = heads.place(CancellationToken::new());
        first.heard(LARGEST).unwrap();
        first.is_whole();
        let mut guest = memory.share();
        guest.set(LARGEST).unwrap();
        let refused = heads.place(CancellationToken::new()).heard(1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(memory.used(), LARGEST);
    }
}
