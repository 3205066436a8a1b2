//! Heads of requests on the container's memory, from their first byte until an instance has the request: a client may
//! send 64 KiB and then nothing, and a whole head keeps what hyper has read it into while it waits, over each of
//! thousands of connections.
//!
//! ```text
//! Nothing ──first byte──▶ Comes ──the request──▶ Whole ──answer sent and body received──▶ Nothing
//!                           │                      └▶ Waiting: until an instance takes it
//!                           └▶ the oldest makes room
//! ```
//!
//! Guarantees:
//! - what hyper holds of a head is counted while it comes (`a_head_is_counted_while_it_comes_and_a_body_is_not`) and while
//!   its request waits (`a_request_that_waits_keeps_its_place`);
//! - heads that come have an eighth of the container's memory together, so that strangers leave its guest the rest; the
//!   one that began first makes room, and the newest stays (`the_oldest_head_makes_room_for_the_newest`,
//!   `heads_that_never_end_have_an_eighth_of_the_memory_and_the_newest_stay`);
//! - heads that wait have another eighth, and a request that does not fit is turned away
//!   (`whole_heads_that_wait_for_an_instance_are_on_the_memory_and_have_an_eighth_of_it`);
//! - a connection whose request is being served has no head that could have to make room
//!   (`what_comes_of_a_body_after_its_answer_has_begun_is_no_head`,
//!   `a_stream_that_is_served_stays_whatever_half_heads_strangers_send`).

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

/// The heads that come over all connections of a container, and those that wait.
pub(super) struct Heads {
    memory: Arc<Memory>,
    /// The largest head that hyper takes.
    largest: usize,
    /// Bytes of all that come, and of all that wait.
    most: usize,
    coming: Mutex<Coming>,
    waiting: Mutex<usize>,
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
    fn remove(&mut self, number: u64) -> Option<Share> {
        let part = self.heads.remove(&number)?;
        self.bytes -= part.share.bytes();
        Some(part.share)
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
        let (coming, waiting) = (Mutex::default(), Mutex::default());
        Arc::new(Self { memory, largest, most, coming, waiting })
    }

    /// A connection's place; `leave` is cancelled when it has to end.
    pub(super) fn place(self: &Arc<Self>, leave: CancellationToken) -> Arc<Head> {
        Arc::new(Head { heads: self.clone(), leave, state: Mutex::new(State::default()) })
    }

    /// A place among those that wait.
    fn wait(self: &Arc<Self>, share: Share) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        let sum = *waiting + share.bytes();
        if self.most < sum {
            return None;
        }
        *waiting = sum;
        Some(Waiting { heads: self.clone(), share })
    }
}

/// The head of a request that waits for an instance.
pub(super) struct Waiting {
    heads: Arc<Heads>,
    share: Share,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.heads.waiting.lock() -= self.share.bytes();
    }
}

/// The head that comes over one connection.
pub(super) struct Head {
    heads: Arc<Heads>,
    leave: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Requests that have come over the connection.
    requests: u64,
    now: Now,
}

#[derive(Clone, Copy, Default)]
enum Now {
    /// Nothing has come of the next head.
    #[default]
    Nothing,
    /// It comes: its number.
    Comes(u64),
    /// A request is whole: what comes now is its body, which is counted where it goes to.
    Whole,
}

impl Head {
    /// So many bytes have come.
    pub(super) fn heard(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut coming = self.heads.coming.lock();
        let number = match state.now {
            Now::Whole => return Ok(()),
            Now::Comes(number) => number,
            Now::Nothing => {
                let number = coming.next;
                coming.next += 1;
                let part = Part { share: self.heads.memory.share(), leave: self.leave.clone() };
                coming.heads.insert(number, part);
                state.now = Now::Comes(number);
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

    /// The head is whole: what its request holds while it is served, and its place until an instance takes it; `None`:
    /// there is no room to wait in.
    pub(super) fn is_whole(self: &Arc<Self>) -> (Arc<Served>, Option<Waiting>) {
        let mut state = self.state.lock();
        state.requests += 1;
        let served = Arc::new(Served { head: self.clone(), request: state.requests });
        let share = match std::mem::replace(&mut state.now, Now::Whole) {
            Now::Comes(number) => self.heads.coming.lock().remove(number),
            Now::Nothing | Now::Whole => None,
        };
        drop(state);
        let share = share.or_else(|| {
            // It came together with the request before it: in as much as hyper reads at a time.
            let mut share = self.heads.memory.share();
            share.fits(self.heads.largest).then_some(share)
        });
        (served, share.and_then(|share| self.heads.wait(share)))
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        if let Now::Comes(number) = self.state.get_mut().now {
            self.heads.coming.lock().remove(number);
        }
    }
}

/// A request that is served: its answer and its body hold this, and what comes after both is the next head.
pub(super) struct Served {
    head: Arc<Head>,
    request: u64,
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut state = self.head.state.lock();
        // A guest may keep a body that has ended while the next request is served.
        if state.requests == self.request {
            state.now = Now::Nothing;
        }
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
    fn a_head_is_counted_while_it_comes_and_a_body_is_not() {
        let (memory, heads) = heads(8 << 20);
        let head = || heads.place(CancellationToken::new());
        let first = head();
        first.heard(1).unwrap();
        assert_eq!(memory.used(), FIRST + 1);
        first.heard(1 << 20).unwrap();
        assert_eq!(memory.used(), LARGEST, "hyper holds no more");
        let (served, waiting) = first.is_whole();
        drop(waiting.unwrap());
        first.heard(1 << 20).unwrap();
        assert_eq!(memory.used(), 0);
        drop(served);
        first.heard(1).unwrap();
        let second = head();
        second.heard(1).unwrap();
        assert_eq!(memory.used(), 2 * (FIRST + 1));
        drop(first);
        drop(second);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_request_that_waits_keeps_its_place() {
        let (memory, heads) = heads(8 << 20);
        let places: Vec<_> = (0..40).map(|_| heads.place(CancellationToken::new())).collect();
        let mut waiting = Vec::new();
        for (index, place) in places.iter().enumerate() {
            // One that came with the request before it costs as much as it could.
            if index != 3 {
                place.heard(LARGEST).unwrap();
            }
            waiting.push(place.is_whole().1);
        }
        let fit: Vec<bool> = waiting.iter().map(Option::is_some).collect();
        let expected: Vec<bool> = (0..40).map(|number| number < 16).collect();
        assert_eq!(fit, expected, "an eighth holds 16 of 64 KiB");
        assert_eq!(memory.used(), 1 << 20);
        waiting.truncate(1);
        assert_eq!(memory.used(), LARGEST);
        places[39].heard(1).unwrap();
        assert!(places[39].is_whole().1.is_some());
    }

    #[test]
    fn what_comes_of_a_body_after_its_answer_has_begun_is_no_head() {
        let (memory, heads) = heads(8 << 20);
        let place = heads.place(CancellationToken::new());
        place.heard(1).unwrap();
        let (answer, _) = place.is_whole();
        let body = answer.clone();
        drop(answer);
        place.heard(1).unwrap();
        assert_eq!(memory.used(), 0);
        let (next, _) = place.is_whole();
        drop(body);
        place.heard(1).unwrap();
        assert_eq!(memory.used(), 0, "the next one is served by now");
        drop(next);
        place.heard(1).unwrap();
        assert_eq!(memory.used(), FIRST + 1);
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
        drop(places[39].is_whole());
        places[24].heard(0).unwrap();
        assert_eq!(memory.used(), 15 * LARGEST);
    }

    #[test]
    fn in_the_smallest_container_one_head_fits_and_a_full_one_takes_none() {
        let (memory, heads) = heads(LARGEST as u64);
        let first = heads.place(CancellationToken::new());
        first.heard(LARGEST).unwrap();
        assert!(first.is_whole().1.is_some());
        let mut guest = memory.share();
        guest.set(LARGEST).unwrap();
        let refused = heads.place(CancellationToken::new()).heard(1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(memory.used(), LARGEST);
    }
}
