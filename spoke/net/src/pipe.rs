//! One direction of a connection: a bounded queue of bytes with one reader and one writer.
//!
//! Guarantees:
//! - bytes come out in the order in which they went in, and nothing is lost on the way
//!   (`a_writer_waits_for_a_slow_reader_and_nothing_is_lost`);
//! - nor between a writer's close and the reader's end (`what_was_written_before_the_close_is_still_read`);
//! - a reader that does not read holds at most [`PIPE_BYTES_MAX`](crate::CAPACITY) and, over all connections of its
//!   pod, little more than its budget (`a_full_pipe_takes_nothing_until_half_of_it_is_read`,
//!   `a_pod_that_reads_nothing_holds_little_more_than_its_budget`);
//! - also when it was written byte by byte, or by a guest that does not ask for room
//!   (`single_bytes_count_as_what_they_cost`, `a_guest_writes_no_more_than_it_was_promised`);
//! - what is counted is what is held, also once most of it was read: the places of the queue
//!   (`places_count_while_they_are_there`) and the whole of a piece of which something is left, which so may be held
//!   beside a pipe's bytes (`a_piece_counts_whole_until_all_of_it_was_read`);
//! - a writer that asks for room takes none from anybody before it writes: what it was promised and what has become too
//!   much meanwhile is on its own account (`who_is_promised_room_takes_none_of_its_reader_s`).

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use freewheel_spoke_account::Queue;
use parking_lot::Mutex;

use crate::gates::Tally;
use crate::receive_memory::{PIECE_OVERHEAD_BYTES, ReceiveMemory};
use crate::unread::UnreadWindow;

/// How a pipe ended for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The writer closed; everything was read.
    Closed,
    /// The connection broke, or the writer went before it was done.
    Reset,
}

/// Why a guest's bytes were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The reader is gone.
    #[error("the connection is closed")]
    Broken,
    /// It has not asked for so much room.
    #[error("write exceeds what check-write allowed")]
    NotReserved,
}

/// The reader is gone: nothing can be written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

#[derive(Default)]
struct PipeState {
    queue: Queue<Piece>,
    /// Bytes that are left to read, with what their pieces cost.
    len: usize,
    /// Bytes of the first piece that were read: it is held, and counted, until all of it was.
    read: usize,
    /// Bytes that are counted on the writer's account.
    lent: usize,
    /// Room that a guest was told of and has not used.
    reserved: usize,
    closed: bool,
    /// It was closed before its writer was done.
    cut: bool,
    broken: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    tally: Option<Tally>,
}

/// Bytes that wait.
struct Piece {
    bytes: Bytes,
    /// They are on the writer's account.
    lent: bool,
}

/// One direction of a connection.
pub struct Pipe {
    state: Mutex<PipeState>,
    waiting: Arc<ReceiveMemory>,
    /// Of the writer.
    lender: Arc<ReceiveMemory>,
}

impl Pipe {
    /// A pipe whose bytes wait on account of its reader, and on its writer's those that were promised a place which is
    /// gone.
    #[must_use]
    pub fn new(reader: Arc<ReceiveMemory>, writer: Arc<ReceiveMemory>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), waiting: reader, lender: writer })
    }

    /// Counts what goes through it from here on.
    pub(crate) fn count(&self, tally: Tally) {
        self.state.lock().tally = Some(tally);
    }

    /// How many bytes may be written now; 0: wait for [`Pipe::poll_writable`].
    ///
    /// # Errors
    /// When the pipe takes no bytes any more.
    pub fn room(&self) -> Result<usize, Broken> {
        let state = self.state.lock();
        if state.ended_for_writer() {
            return Err(Broken);
        }
        Ok(self.waiting.capacity().saturating_sub(state.len))
    }

    /// Whether somebody may still write it.
    pub(crate) fn has_writer(&self) -> bool {
        let state = self.state.lock();
        !(state.closed || state.reset)
    }

    /// Whether somebody may still read it.
    pub(crate) fn has_reader(&self) -> bool {
        let state = self.state.lock();
        !(state.broken || state.reset)
    }

    /// Writes bytes. The caller has asked for [`Pipe::room`].
    ///
    /// # Errors
    /// When the pipe takes no bytes any more.
    pub fn push(&self, bytes: Bytes) -> Result<(), Broken> {
        let reader = {
            let mut state = self.state.lock();
            if state.ended_for_writer() {
                return Err(Broken);
            }
            self.put(&mut state, bytes, false)
        };
        wake(reader);
        Ok(())
    }

    /// Puts bytes into the queue; who is to be woken.
    fn put(&self, state: &mut PipeState, bytes: Bytes, lent: bool) -> Option<Waker> {
        if bytes.is_empty() {
            return None;
        }
        let cost = bytes.len() + PIECE_OVERHEAD_BYTES;
        state.len += cost;
        if lent {
            state.lent += cost;
            self.lender.add(cost);
        } else {
            self.waiting.add(cost);
        }
        if let Some(tally) = &mut state.tally {
            tally.add(bytes.len());
        }
        let places = state.queue.bytes();
        state.queue.push_back(Piece { bytes, lent });
        self.waiting.changed(places, state.queue.bytes());
        state.reader.take()
    }

    /// Promises room of at most `most` bytes to the next [`Pipe::push_reserved`]; 0: wait for
    /// [`Pipe::poll_writable`]. What was promised before is forgotten.
    ///
    /// # Errors
    /// When the pipe takes no bytes any more.
    pub fn reserve(&self, most: usize) -> Result<usize, Broken> {
        let mut state = self.state.lock();
        if state.ended_for_writer() {
            return Err(Broken);
        }
        state.reserved = self.waiting.capacity().saturating_sub(state.len).min(most);
        Ok(state.reserved)
    }

    /// Writes bytes into the room that was promised. All of the promise is used up by it.
    ///
    /// # Errors
    /// When there are more bytes than that, or the pipe takes none any more.
    pub fn push_reserved(&self, bytes: Bytes) -> Result<(), NotTaken> {
        let reader = {
            let mut state = self.state.lock();
            if state.ended_for_writer() {
                return Err(NotTaken::Broken);
            }
            if state.reserved < bytes.len() {
                return Err(NotTaken::NotReserved);
            }
            state.reserved = 0;
            let lent = self.waiting.capacity() < state.len + bytes.len();
            self.put(&mut state, bytes, lent)
        };
        wake(reader);
        Ok(())
    }

    /// Reads at most `max` bytes; `None`: none are there now.
    ///
    /// # Errors
    /// With the way the pipe ended.
    pub fn pull(&self, max: usize) -> Result<Option<Bytes>, End> {
        let (bytes, writer) = {
            let state = &mut *self.state.lock();
            let Some(front) = state.front()? else { return Ok(None) };
            let bytes = front.slice(..max.min(front.len()));
            (bytes, state.consume(max, self))
        };
        wake(writer);
        Ok(Some(bytes))
    }

    /// The bytes that are next, which stay where they are; `None`: none are there now.
    ///
    /// # Errors
    /// With the way the pipe ended.
    pub(crate) fn front(&self) -> Result<Option<Bytes>, End> {
        self.state.lock().front().map(|front| front.cloned())
    }

    /// Takes away so many of the bytes of [`Pipe::front`].
    pub(crate) fn consume(&self, count: usize) {
        let writer = self.state.lock().consume(count, self);
        wake(writer);
    }

    /// Waits until [`Pipe::pull`] has something to say.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.queue.is_empty() || state.closed || state.reset {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the writer is done, whatever is left to read. For the task that reads.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.closed || state.reset {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until [`Pipe::room`] is not 0.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        // An empty pipe always takes bytes, whatever the budget says: its reader has nothing to do first.
        if state.ended_for_writer() || state.len < self.waiting.capacity() {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Counts the window of a stream that goes on beyond the pipe and is not read now.
    pub(crate) fn count_unread(&self, bytes: usize) -> UnreadWindow {
        self.waiting.unread().count(bytes)
    }

    /// The writer is done; the reader gets what is left.
    pub fn close_write(&self) {
        self.change(|state| state.closed = true);
    }

    /// The writer goes before it is done: the reader gets what is left, and then hears that the rest is missing.
    /// After [`Pipe::close_write`] it changes nothing.
    pub fn break_off(&self) {
        self.change(|state| {
            state.cut |= !state.closed;
            state.closed = true;
        });
    }

    /// The reader is done; what is left is dropped.
    pub fn close_read(&self) {
        self.change(|state| {
            state.broken = true;
            self.clear(state);
        });
    }

    /// The connection breaks; what is left is dropped.
    pub fn reset(&self) {
        self.change(|state| {
            state.reset = true;
            self.clear(state);
        });
    }

    /// Drops what is left.
    fn clear(&self, state: &mut PipeState) {
        let places = std::mem::take(&mut state.queue).bytes();
        let held = std::mem::take(&mut state.len) + std::mem::take(&mut state.read);
        let lent = std::mem::take(&mut state.lent);
        self.lender.sub(lent);
        self.waiting.sub(held - lent + places);
    }

    fn change(&self, change: impl FnOnce(&mut PipeState)) {
        let (reader, writer) = {
            let mut state = self.state.lock();
            change(&mut state);
            (state.reader.take(), state.writer.take())
        };
        wake(reader);
        wake(writer);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut state = std::mem::take(self.state.get_mut());
        self.clear(&mut state);
    }
}

impl PipeState {
    fn ended_for_writer(&self) -> bool {
        self.broken || self.closed || self.reset
    }

    fn front(&mut self) -> Result<Option<&mut Bytes>, End> {
        match self.queue.front_mut() {
            _ if self.reset => Err(End::Reset),
            None if self.cut => Err(End::Reset),
            None if self.closed => Err(End::Closed),
            front => Ok(front.map(|piece| &mut piece.bytes)),
        }
    }

    /// Takes at most so many bytes of the first piece away. Who is to be woken, because there is room.
    fn consume(&mut self, count: usize, of: &Pipe) -> Option<Waker> {
        let Piece { bytes: front, lent } = self.queue.front_mut()?;
        let (before, lent) = (self.len, *lent);
        if count < front.len() {
            bytes::Buf::advance(front, count);
            self.read += count;
            self.len -= count;
        } else {
            let left = front.len() + PIECE_OVERHEAD_BYTES;
            let (freed, places) = (left + std::mem::take(&mut self.read), self.queue.bytes());
            self.queue.pop_front();
            self.len -= left;
            if lent {
                self.lent -= freed;
                of.lender.sub(freed);
            } else {
                of.waiting.sub(freed);
            }
            of.waiting.changed(places, self.queue.bytes());
        }
        // The writer is woken once half of the pipe is free: two tasks that wake each other for every
        // read spend their time in the scheduler.
        let half = of.waiting.capacity() / 2;
        let crossed = half <= before && self.len < half;
        if crossed || self.len == 0 { self.writer.take() } else { None }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_account::MemoryAccount;

    use super::*;
    use crate::receive_memory::{NARROW_PIPE_BYTES, PIPE_BYTES_MAX, POD_RECEIVE_BYTES_MAX};

    fn waiting() -> Arc<ReceiveMemory> {
        ReceiveMemory::new(MemoryAccount::node())
    }

    /// A pipe whose writer has memory of its own.
    fn of(reader: &Arc<ReceiveMemory>) -> Arc<Pipe> {
        Pipe::new(reader.clone(), waiting())
    }

    fn pipe() -> Arc<Pipe> {
        of(&waiting())
    }

    #[test]
    fn what_was_written_before_the_close_is_still_read() {
        let pipe = pipe();
        pipe.push(Bytes::from_static(b"last words")).unwrap();
        pipe.close_write();
        assert_eq!(pipe.pull(4), Ok(Some(Bytes::from_static(b"last"))));
        assert_eq!(pipe.pull(100), Ok(Some(Bytes::from_static(b" words"))));
        assert_eq!(pipe.pull(100), Err(End::Closed));
        assert_eq!(pipe.push(Bytes::from_static(b"x")), Err(Broken));
    }

    #[test]
    fn a_writer_that_went_too_early_is_no_end() {
        let pipe = pipe();
        pipe.push(Bytes::from_static(b"half a wo")).unwrap();
        pipe.break_off();
        assert_eq!(pipe.pull(100), Ok(Some(Bytes::from_static(b"half a wo"))));
        assert_eq!(pipe.pull(100), Err(End::Reset));
        let whole = self::pipe();
        whole.close_write();
        whole.break_off();
        assert_eq!(whole.pull(100), Err(End::Closed));
    }

    #[test]
    fn a_full_pipe_takes_nothing_until_half_of_it_is_read() {
        let pipe = pipe();
        pipe.push(Bytes::from(vec![0; PIPE_BYTES_MAX])).unwrap();
        assert_eq!(pipe.room(), Ok(0));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pipe.poll_writable(&mut cx).is_pending());
        pipe.pull(PIPE_BYTES_MAX / 2 + 1).unwrap();
        assert!(pipe.poll_writable(&mut cx).is_ready());
    }

    #[test]
    fn a_reader_that_left_breaks_the_writer() {
        let pipe = pipe();
        pipe.push(Bytes::from_static(b"unread")).unwrap();
        pipe.close_read();
        assert_eq!(pipe.room(), Err(Broken));
    }

    #[test]
    fn a_pod_that_reads_nothing_holds_little_more_than_its_budget() {
        let waiting = waiting();
        let pipes: Vec<_> = (0..100).map(|_| of(&waiting)).collect();
        for pipe in &pipes {
            let room = pipe.room().unwrap();
            pipe.push(Bytes::from(vec![0; room])).unwrap();
        }
        assert!(
            waiting.bytes()
                <= POD_RECEIVE_BYTES_MAX + 100 * (NARROW_PIPE_BYTES + PIECE_OVERHEAD_BYTES),
            "{}",
            waiting.bytes()
        );
        drop(pipes);
        assert_eq!(waiting.bytes(), 0);
    }

    #[test]
    fn single_bytes_count_as_what_they_cost() {
        let waiting = waiting();
        let pipe = of(&waiting);
        let mut pieces = 0;
        while pipe.room() != Ok(0) {
            pipe.push(Bytes::from_static(b"x")).unwrap();
            pieces += 1;
        }
        assert!(pieces <= PIPE_BYTES_MAX / PIECE_OVERHEAD_BYTES, "{pieces} pieces wait");
        let mut read = 0;
        while let Ok(Some(bytes)) = pipe.pull(100) {
            read += bytes.len();
        }
        assert_eq!((read, waiting.bytes()), (pieces, 0), "all of it comes out");
    }

    /// Bytes of a queue's places, of which the first few count as a part of the connection.
    fn places(pipe: &Pipe) -> usize {
        pipe.state.lock().queue.bytes()
    }

    #[test]
    fn places_count_while_they_are_there() {
        let waiting = waiting();
        let pipe = of(&waiting);
        let mut pieces = 0;
        while pipe.room() != Ok(0) {
            pipe.push(Bytes::from_static(b"x")).unwrap();
            pieces += 1;
        }
        let each = 1 + PIECE_OVERHEAD_BYTES;
        let most = places(&pipe);
        assert!((pieces - 16) * size_of::<Piece>() <= most, "{most} bytes for {pieces} pieces");
        assert_eq!(waiting.bytes(), pieces * each + most);
        for left in (0..pieces).rev() {
            pipe.pull(1).unwrap().unwrap();
            let now = places(&pipe);
            assert_eq!(waiting.bytes(), left * each + now);
            assert!(now <= 4 * (left + 1) * size_of::<Piece>(), "{now} bytes for {left} pieces");
        }
        assert_eq!((waiting.bytes(), places(&pipe)), (0, 0));
        // Whoever ends it has its places go, too.
        for end in [Pipe::close_read, Pipe::reset] {
            let pipe = of(&waiting);
            (0..1000).for_each(|_| pipe.push(Bytes::from_static(b"x")).unwrap());
            assert!(0 < places(&pipe));
            end(&pipe);
            assert_eq!((waiting.bytes(), places(&pipe)), (0, 0));
        }
    }

    #[test]
    fn a_piece_counts_whole_until_all_of_it_was_read() {
        const PIECE: usize = 64 << 10;
        let (reader, writer) = (waiting(), waiting());
        let pipe = Pipe::new(reader.clone(), writer.clone());
        pipe.push(Bytes::from(vec![7; PIECE])).unwrap();
        pipe.pull(PIECE - 1).unwrap().unwrap();
        assert_eq!(reader.bytes(), PIECE + PIECE_OVERHEAD_BYTES, "it is still there");
        let room = PIPE_BYTES_MAX - 1 - PIECE_OVERHEAD_BYTES;
        assert_eq!(pipe.room(), Ok(room), "and no writer waits for it");
        pipe.consume(1);
        assert_eq!(reader.bytes(), 0);
        // The same of one that is on its writer's account, and of what nobody reads to its end.
        let promised = pipe.reserve(PIECE).unwrap();
        let others = of(&reader);
        (0..40).for_each(|_| others.push(Bytes::from(vec![7; PIPE_BYTES_MAX])).unwrap());
        pipe.push_reserved(Bytes::from(vec![7; promised])).unwrap();
        pipe.pull(promised - 1).unwrap().unwrap();
        assert_eq!(writer.bytes(), PIECE + PIECE_OVERHEAD_BYTES);
        drop(others);
        pipe.close_read();
        assert_eq!((reader.bytes(), writer.bytes()), (0, 0));
    }

    #[test]
    fn a_guest_writes_no_more_than_it_was_promised() {
        let waiting = waiting();
        let pipe = of(&waiting);
        let write = |count: usize| pipe.push_reserved(Bytes::from(vec![0; count]));
        assert_eq!(write(1), Err(NotTaken::NotReserved), "it has not asked");
        assert_eq!(pipe.reserve(100), Ok(100));
        assert_eq!(write(101), Err(NotTaken::NotReserved));
        write(60).unwrap();
        assert_eq!(write(40), Err(NotTaken::NotReserved), "one write for one promise");
        assert_eq!(waiting.bytes(), 60 + PIECE_OVERHEAD_BYTES, "what was not used is nobody's");
        pipe.reserve(1000).unwrap();
        pipe.close_write();
        assert_eq!(waiting.bytes(), 60 + PIECE_OVERHEAD_BYTES);
        assert_eq!(write(1), Err(NotTaken::Broken));
    }

    #[test]
    fn who_is_promised_room_takes_none_of_its_reader_s() {
        const PROMISE: usize = 64 << 10;
        let (reader, writer) = (waiting(), waiting());
        let pipe = || Pipe::new(reader.clone(), writer.clone());
        let silent: Vec<_> = (0..1000).map(|_| pipe()).collect();
        assert!(silent.iter().all(|pipe| pipe.reserve(PROMISE) == Ok(PROMISE)));
        let honest = pipe();
        assert_eq!(honest.room(), Ok(PIPE_BYTES_MAX), "nobody has written anything");
        assert_eq!((reader.bytes(), writer.bytes()), (0, 0));
        // They keep what they were promised, and the reader its budget.
        for pipe in &silent[..300] {
            pipe.push_reserved(Bytes::from(vec![7; PROMISE])).unwrap();
        }
        let all = 300 * (PROMISE + PIECE_OVERHEAD_BYTES);
        assert!(reader.bytes() <= POD_RECEIVE_BYTES_MAX, "{}", reader.bytes());
        assert_eq!(reader.bytes() + writer.bytes(), all);
        for pipe in &silent[..300] {
            assert_eq!(pipe.pull(PROMISE).unwrap().unwrap().len(), PROMISE);
        }
        assert_eq!((reader.bytes(), writer.bytes()), (0, 0));
        // Nor does anything stay counted of what nobody has read.
        for pipe in &silent[300..] {
            pipe.push_reserved(Bytes::from(vec![7; 1 << 10])).unwrap();
        }
        silent[300].reset();
        drop(silent);
        assert_eq!((reader.bytes(), writer.bytes()), (0, 0));
    }
}
