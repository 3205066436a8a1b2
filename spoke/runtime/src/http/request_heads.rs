//! What hyper reads into, on the container's memory: the heads of requests from their first byte until an instance has
//! the request, and the buffers of every connection until its end. A client may send 64 KiB and then nothing, also
//! behind a whole request, and a whole head keeps what hyper has read it into while it waits, over each of thousands of
//! connections.
//!
//! ```text
//! Nothing ──first byte──▶ Comes ──the request──▶ Whole ──answer sent and body received──▶ Rests ──next byte──▶ Comes
//!                           │                      │ │                                      ▲ └▶ the longest makes room
//!                           │                      │ └▶ Sends: hyper has the last of it ────┴▶ Comes, if a byte has come
//!                           │                      └▶ Waiting: until an instance takes it
//!                           └▶ the oldest makes room
//! ```
//!
//! A buffer never gets smaller: hyper keeps what the largest head or piece of a body has made it. The one that it writes
//! from counts with it. What of an answer waits there, once hyper has all of it, counts until it has gone out.
//!
//! Guarantees:
//! - what hyper holds of a head is counted while it comes (`a_head_is_counted_while_it_comes_and_a_body_is_not`) and
//!   while its request waits (`a_request_that_waits_keeps_its_place`);
//! - what it has read into is counted for as long as the connection is there, also when a half head came behind a whole
//!   request (`what_came_behind_a_request_is_counted_until_its_connection_ends`,
//!   `half_heads_behind_whole_requests_are_on_the_memory_and_have_an_eighth_of_it`);
//! - connections that are not served have an eighth of the container's memory together, so that strangers leave its
//!   guest the rest; the head that began first makes room, and the newest stays
//!   (`the_oldest_head_makes_room_for_the_newest`,
//!   `heads_that_never_end_have_an_eighth_of_the_memory_and_the_newest_stay`); those that rest keep half of it, and
//!   heads get the other half of them, the longest rest first (`heads_and_those_that_rest_leave_each_other_half`);
//! - heads that wait have another eighth, and so has what their connections read into; a request that does not fit is
//!   turned away (`whole_heads_that_wait_for_an_instance_are_on_the_memory_and_have_an_eighth_of_it`,
//!   `a_small_request_waits_as_what_its_connection_has_read_into`);
//! - where instances leave clients little, those that are not served go before a whole request is turned away, and half
//!   of it stays for heads that come (`a_whole_request_goes_before_half_heads`);
//! - a connection whose request is being served has nothing that could have to make room
//!   (`what_comes_of_a_body_after_its_answer_has_begun_is_no_head`,
//!   `a_stream_that_is_served_stays_whatever_half_heads_strangers_send`), nor has one whose client has not taken all of its
//!   answer, and what comes behind it is counted all the same (`who_has_not_taken_its_answer_makes_no_room`);
//! - what hyper has of answers is one of them at a time, however many requests a client sends before it reads
//!   (`the_next_request_waits_until_the_last_answer_has_gone_out`, `requests_behind_each_other_are_all_answered`).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::answer_memory::{AnswerMemory, KEPT_BYTES_MAX};
use super::hyper_buffers::{BUFFER_BYTES_MAX, READ_BUFFER_BYTES_FIRST, WRITE_BUFFER_BYTES};
use crate::memory::{ContainerMemory, Share};

/// Most bytes of all that comes and rests in a container that has no limit, or a large one: as many of the usual size
/// as there are places for connections.
const HEADS_BYTES_MAX: usize = 32 << 20;

/// What one connection has at the most, beside what hyper keeps of its answers.
const CONNECTION_BYTES_MAX: usize = BUFFER_BYTES_MAX + WRITE_BUFFER_BYTES;

/// The buffers of a connection over which so much may have come that hyper keeps.
fn buffers(came: usize) -> usize {
    came.min(BUFFER_BYTES_MAX) + WRITE_BUFFER_BYTES
}

/// The heads that come over all connections of a container, and those that wait.
///
/// A head's own state is locked before either of these, and `waiting` before `open`: whoever takes them the other way
/// round waits for somebody who waits for it.
pub(super) struct RequestHeads {
    memory: Arc<ContainerMemory>,
    /// Bytes of all that come and rest, and of all that wait.
    most: usize,
    open: Mutex<Open>,
    waiting: Mutex<usize>,
}

/// Whether it rests, and when that or its head began.
type HeadKey = (bool, u64);

/// Connections that are not served: those with a head that comes, then those that rest, each the oldest first.
#[derive(Default)]
struct Open {
    next: u64,
    bytes: usize,
    /// Those of heads that come.
    coming: usize,
    parts: BTreeMap<HeadKey, Part>,
}

struct Part {
    share: Share,
    leave: CancellationToken,
}

impl Open {
    fn insert(&mut self, rests: bool, part: Part) -> HeadKey {
        let place = (rests, self.next);
        self.next += 1;
        self.count(place, part.share.bytes());
        self.parts.insert(place, part);
        place
    }

    const fn count(&mut self, (rests, _): HeadKey, more: usize) {
        self.bytes += more;
        if !rests {
            self.coming += more;
        }
    }

    fn remove(&mut self, place: HeadKey) -> Option<Part> {
        let part = self.parts.remove(&place)?;
        self.bytes -= part.share.bytes();
        if !place.0 {
            self.coming -= part.share.bytes();
        }
        Some(part)
    }

    /// Who has to go next for so much more.
    fn last(&self, more: usize, most: usize) -> Option<HeadKey> {
        let mut heads = self.parts.range(..(true, 0)).map(|(place, _)| *place);
        let (oldest, another) = (heads.next(), heads.next());
        let too_many = another.is_some() && most / 2 < self.coming + more;
        self.longest_rest().filter(|_| !too_many).or(oldest)
    }

    fn longest_rest(&self) -> Option<HeadKey> {
        self.parts.range((true, 0)..).next().map(|(place, _)| *place)
    }

    fn send_away(&mut self, place: HeadKey) {
        if let Some(part) = self.remove(place) {
            part.leave.cancel();
        }
    }

    /// Sends away one that is not served, unless it is this one: one that rests, or else the oldest head.
    fn send_one_away(&mut self, but: Option<HeadKey>) -> bool {
        let oldest = || self.parts.keys().copied().find(|place| Some(*place) != but);
        let Some(place) = self.longest_rest().or_else(oldest) else { return false };
        self.send_away(place);
        true
    }

    /// Makes room for so much more.
    fn make_room(&mut self, more: usize, most: usize) {
        while most < self.bytes + more {
            let Some(place) = self.last(more, most) else { return };
            self.send_away(place);
        }
    }

    /// Makes a part as large as this; `None`: it had to go, or there is no room.
    fn grow(&mut self, place: HeadKey, bytes: usize, most: usize) -> Option<()> {
        let more = bytes.saturating_sub(self.parts.get(&place)?.share.bytes());
        self.make_room(more, most);
        while !self.parts.get_mut(&place)?.share.grows_to(bytes) {
            if !self.send_one_away(Some(place)) {
                self.remove(place);
                return None;
            }
        }
        self.count(place, more);
        Some(())
    }
}

impl RequestHeads {
    pub(super) fn new(memory: Arc<ContainerMemory>) -> Arc<Self> {
        let most = part_of(memory.most());
        let (open, waiting) = (Mutex::default(), Mutex::default());
        Arc::new(Self { memory, most, open, waiting })
    }

    /// A connection's place; `leave` is cancelled when it has to end.
    pub(super) fn place(self: &Arc<Self>, leave: CancellationToken) -> Arc<Head> {
        Arc::new(Head { heads: self.clone(), leave, state: Mutex::new(HeadState::default()) })
    }

    /// Makes room for what comes behind an answer that goes out: it is of a connection that is served, and those that are not
    /// go before it. `None`: there is none.
    fn grow(&self, share: &mut Share, came: usize) -> Option<()> {
        while !share.grows_to(buffers(READ_BUFFER_BYTES_FIRST + came)) {
            if !self.open.lock().send_one_away(None) {
                return None;
            }
        }
        Some(())
    }

    /// Bytes of all that wait: with their connections they have twice as much, and leave half of what clients may have.
    fn waiting_most(&self) -> usize {
        let quarter = self.memory.limit().map_or(usize::MAX, |limit| limit / 4);
        quarter.max(BUFFER_BYTES_MAX).min(self.most)
    }

    /// A place among those that wait, for a head of so many bytes on a connection that reads into so many.
    fn wait(self: &Arc<Self>, head: usize, connection: usize) -> Option<Waiting> {
        let mut share = self.memory.share();
        // What a connection reads into is on the memory already, and has to be within the eighth as well.
        let most = head.max(connection);
        let mut waiting = self.waiting.lock();
        if self.waiting_most() < *waiting + most {
            return None;
        }
        while !share.fits(head) {
            if !self.open.lock().send_one_away(None) {
                return None;
            }
        }
        *waiting += most;
        Some(Waiting { heads: self.clone(), share, most })
    }
}

/// Bytes that heads may have which come, where there is so much memory; one fits in any.
pub(super) fn part_of(memory: usize) -> usize {
    (memory / 8).clamp(CONNECTION_BYTES_MAX + KEPT_BYTES_MAX, HEADS_BYTES_MAX)
}

/// The head of a request that waits for an instance.
pub(super) struct Waiting {
    heads: Arc<RequestHeads>,
    share: Share,
    /// Bytes of those that wait together.
    most: usize,
}

impl Waiting {
    /// What the head holds.
    pub(super) const fn bytes(&self) -> usize {
        self.share.bytes()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.heads.waiting.lock() -= self.most;
    }
}

/// What comes over one connection.
pub(super) struct Head {
    heads: Arc<RequestHeads>,
    leave: CancellationToken,
    state: Mutex<HeadState>,
}

#[derive(Default)]
struct HeadState {
    /// Requests that have come over the connection.
    requests: u64,
    /// Bytes that may be of the head that comes.
    came: usize,
    /// Bytes that came last: what is behind a request came with the last of it.
    last: usize,
    /// hyper has all of the answer, and not all of it has gone out.
    unsent: bool,
    /// What that holds, where it is a guest's.
    answer: Option<AnswerMemory>,
    /// What hyper keeps of the largest so far, for as long as the connection is there.
    kept: usize,
    /// The next request is there, and waits for that.
    next_waits: bool,
    now: Now,
}

#[derive(Default)]
enum Now {
    /// No byte has come yet.
    #[default]
    Nothing,
    /// A head comes.
    Comes(HeadKey),
    /// A request is whole: what comes now is its body, which is counted where it goes to, and what hyper reads it into.
    Whole(Share),
    /// The same while hyper has nothing but the last of its answer left, for which the client has no room: what comes now is
    /// of the next head; whether any has come.
    Sends(Share, bool),
    /// Between two requests; half of a head may have come behind the last one.
    Rests(HeadKey),
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "no memory is left for the request's head")
}

impl Head {
    /// So many bytes have come.
    pub(super) fn heard(&self, bytes: usize) -> io::Result<()> {
        let state = &mut *self.state.lock();
        let behind = std::mem::replace(&mut state.last, bytes);
        if let Now::Whole(share) = &mut state.now {
            // Where there is no room for it now it is counted, or has to go, when the request is over.
            share.grows_to(buffers(bytes));
            return Ok(());
        }
        if let Now::Sends(share, came) = &mut state.now {
            (*came, state.last) = (true, behind + bytes);
            return self.heads.grow(share, state.last).ok_or_else(gone);
        }
        let mut open = self.heads.open.lock();
        let place = match state.now {
            Now::Comes(place) => place,
            Now::Rests(place) => {
                let part = open.remove(place).ok_or_else(gone)?;
                self.begins(&mut open, part.share)
            }
            Now::Nothing | Now::Whole(_) | Now::Sends(..) => {
                self.begins(&mut open, self.heads.memory.share())
            }
        };
        if !matches!(state.now, Now::Comes(_)) {
            state.now = Now::Comes(place);
            state.came = behind;
        }
        state.came += bytes;
        let wanted = buffers(READ_BUFFER_BYTES_FIRST + state.came) + state.kept;
        open.grow(place, wanted, self.heads.most).ok_or_else(gone)
    }

    fn begins(&self, open: &mut Open, share: Share) -> HeadKey {
        open.insert(false, Part { share, leave: self.leave.clone() })
    }

    /// Until the answer before has gone out. hyper asks for the next one as soon as it has that, and puts heads together
    /// without a bound.
    pub(super) async fn has_sent(&self) {
        poll_fn(|_| {
            let state = &mut *self.state.lock();
            state.next_waits = state.unsent;
            if state.unsent { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// The head is whole: what its request holds while it is served, and its place until an instance takes it; `None`:
    /// there is no room to wait in.
    pub(super) fn is_whole(self: &Arc<Self>) -> (Arc<Served>, Option<Waiting>) {
        let state = &mut *self.state.lock();
        state.requests += 1;
        let served = Arc::new(Served { head: self.clone(), request: state.requests });
        let now = std::mem::take(&mut state.now);
        let came = matches!(now, Now::Comes(_));
        let share = match now {
            Now::Comes(place) | Now::Rests(place) => {
                self.heads.open.lock().remove(place).map(|part| part.share)
            }
            Now::Whole(share) | Now::Sends(share, _) => Some(share),
            Now::Nothing => None,
        };
        let waiting = share.as_ref().and_then(|share| {
            let own = (READ_BUFFER_BYTES_FIRST + state.came).min(BUFFER_BYTES_MAX);
            let read_into = share.bytes().saturating_sub(WRITE_BUFFER_BYTES + state.kept);
            // One that came together with the request before it is in as much as hyper has read into.
            self.heads.wait(if came { own } else { read_into }, read_into)
        });
        state.now = Now::Whole(share.unwrap_or_else(|| self.heads.memory.share()));
        (served, waiting)
    }

    /// The last of an answer has gone out; whether the next request has waited for that, and is to be looked at again.
    #[must_use]
    pub(super) fn is_sent(&self) -> bool {
        let state = &mut *self.state.lock();
        (state.unsent, state.answer) = (false, None);
        if std::mem::take(&mut state.next_waits) {
            return true;
        }
        match std::mem::take(&mut state.now) {
            Now::Sends(share, true) => {
                let mut open = self.heads.open.lock();
                state.came = state.last;
                state.now = Now::Comes(self.begins(&mut open, share));
                open.make_room(0, self.heads.most);
            }
            now => {
                state.now = now;
                if matches!(state.now, Now::Sends(..)) {
                    self.rests(state);
                }
            }
        }
        false
    }

    /// The request is over, but for what of its answer hyper may still have.
    fn is_over(&self, state: &mut HeadState) {
        if !state.unsent {
            return self.rests(state);
        }
        state.now = match std::mem::take(&mut state.now) {
            Now::Whole(share) => Now::Sends(share, false),
            now => now,
        };
    }

    /// The request is over; what hyper has read into stays.
    fn rests(&self, state: &mut HeadState) {
        let (Now::Whole(share) | Now::Sends(share, _)) = &mut state.now else { return };
        if !share.grows_to(buffers(state.last.max(READ_BUFFER_BYTES_FIRST)) + state.kept) {
            self.leave.cancel();
        }
        let share = std::mem::replace(share, self.heads.memory.share());
        let mut open = self.heads.open.lock();
        let place = open.insert(true, Part { share, leave: self.leave.clone() });
        open.make_room(0, self.heads.most);
        state.now = Now::Rests(place);
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        if let Now::Comes(place) | Now::Rests(place) = self.state.get_mut().now {
            self.heads.open.lock().remove(place);
        }
    }
}

/// A request that is served: its answer and its body hold this, and what comes after both is the next head.
pub(super) struct Served {
    head: Arc<Head>,
    request: u64,
}

impl Served {
    /// hyper has all of its answer, or will get no more of it; what that holds.
    pub(super) fn sends(&self, answer: Option<AnswerMemory>) {
        let mut state = self.head.state.lock();
        if state.requests == self.request {
            state.unsent = true;
            state.kept = answer.as_ref().map_or(0, AnswerMemory::kept).max(state.kept);
            state.answer = answer.map(AnswerMemory::body_has_come);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut state = self.head.state.lock();
        // A guest may keep a body that has ended while the next request is served.
        if state.requests == self.request {
            self.head.is_over(&mut state);
        }
    }
}

#[cfg(test)]
mod tests;
