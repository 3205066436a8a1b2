//! One direction of a connection: a bounded queue of bytes with one reader and one writer.
//!
//! Guarantees: bytes come out in the order they went in, nothing is lost between a writer's close and the
//! reader's end, and a reader that does not read holds at most [`CAPACITY`] and, over all connections of
//! its pod, little more than [`BUDGET`], also when it was written byte by byte.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

/// Most bytes that wait in one pipe. 256 KiB keeps both ends busy on one core; more only costs memory.
pub const CAPACITY: usize = 256 << 10;

/// Bytes that may wait for one pod's readers before its pipes become narrow.
pub const BUDGET: usize = 8 << 20;

/// What one pipe still takes once the pod's budget is used up, so that every connection keeps moving.
const NARROW: usize = 8 << 10;

/// What a piece costs beside its bytes: its place in the queue and its allocation. Uncounted, a writer of
/// single bytes would make the node hold fifty times what the bounds say.
const PIECE: usize = 64;

/// Memory of what waits for one pod to read it, over all its connections.
#[derive(Debug, Default)]
pub struct Waiting(AtomicUsize);

impl Waiting {
    fn add(&self, count: usize) {
        self.0.fetch_add(count, Relaxed);
    }

    fn sub(&self, count: usize) {
        self.0.fetch_sub(count, Relaxed);
    }

    fn capacity(&self) -> usize {
        if self.0.load(Relaxed) < BUDGET { CAPACITY } else { NARROW }
    }

    /// How many there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// How a pipe ended for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The writer closed; everything was read.
    Closed,
    /// The connection broke.
    Reset,
}

/// The reader is gone: nothing can be written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    len: usize,
    closed: bool,
    broken: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One direction of a connection.
pub struct Pipe {
    state: Mutex<State>,
    waiting: Arc<Waiting>,
}

impl Pipe {
    /// A pipe whose bytes wait on account of its reader.
    #[must_use]
    pub fn new(reader: Arc<Waiting>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), waiting: reader })
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
            if bytes.is_empty() {
                return Ok(());
            }
            state.len += bytes.len() + PIECE;
            self.waiting.add(bytes.len() + PIECE);
            state.queue.push_back(bytes);
            state.reader.take()
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
            if state.reset {
                return Err(End::Reset);
            }
            let (bytes, freed) = match state.queue.front_mut() {
                Some(front) if max < front.len() => (front.split_to(max), max),
                Some(front) => {
                    let freed = front.len() + PIECE;
                    (state.queue.pop_front().unwrap_or_default(), freed)
                }
                None if state.closed => return Err(End::Closed),
                None => return Ok(None),
            };
            let before = state.len;
            state.len -= freed;
            self.waiting.sub(freed);
            // The writer is woken once half of the pipe is free: two tasks that wake each other for every
            // read spend their time in the scheduler.
            let half = self.waiting.capacity() / 2;
            let crossed = half <= before && state.len < half;
            let writer = if crossed || state.len == 0 { state.writer.take() } else { None };
            (bytes, writer)
        };
        wake(writer);
        Ok(Some(bytes))
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

    /// The writer is done; the reader gets what is left.
    pub fn close_write(&self) {
        self.change(|state| {
            state.closed = true;
            0
        });
    }

    /// The reader is done; what is left is dropped.
    pub fn close_read(&self) {
        self.change(|state| {
            state.broken = true;
            state.clear()
        });
    }

    /// The connection breaks; what is left is dropped.
    pub fn reset(&self) {
        self.change(|state| {
            state.reset = true;
            state.clear()
        });
    }

    fn change(&self, change: impl FnOnce(&mut State) -> usize) {
        let (reader, writer) = {
            let mut state = self.state.lock();
            self.waiting.sub(change(&mut state));
            (state.reader.take(), state.writer.take())
        };
        wake(reader);
        wake(writer);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.waiting.sub(self.state.get_mut().clear());
    }
}

impl State {
    fn ended_for_writer(&self) -> bool {
        self.broken || self.closed || self.reset
    }

    fn clear(&mut self) -> usize {
        self.queue.clear();
        std::mem::take(&mut self.len)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> Arc<Pipe> {
        Pipe::new(Arc::default())
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
    fn a_full_pipe_takes_nothing_until_half_of_it_is_read() {
        let pipe = pipe();
        pipe.push(Bytes::from(vec![0; CAPACITY])).unwrap();
        assert_eq!(pipe.room(), Ok(0));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pipe.poll_writable(&mut cx).is_pending());
        pipe.pull(CAPACITY / 2 + 1).unwrap();
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
        let waiting = Arc::new(Waiting::default());
        let pipes: Vec<_> = (0..100).map(|_| Pipe::new(waiting.clone())).collect();
        for pipe in &pipes {
            let room = pipe.room().unwrap();
            pipe.push(Bytes::from(vec![0; room])).unwrap();
        }
        assert!(waiting.bytes() <= BUDGET + 100 * (NARROW + PIECE), "{}", waiting.bytes());
        drop(pipes);
        assert_eq!(waiting.bytes(), 0);
    }

    #[test]
    fn single_bytes_count_as_what_they_cost() {
        let waiting = Arc::new(Waiting::default());
        let pipe = Pipe::new(waiting.clone());
        let mut pieces = 0;
        while pipe.room() != Ok(0) {
            pipe.push(Bytes::from_static(b"x")).unwrap();
            pieces += 1;
        }
        assert!(pieces <= CAPACITY / PIECE, "{pieces} pieces wait");
        let mut read = 0;
        while let Ok(Some(bytes)) = pipe.pull(100) {
            read += bytes.len();
        }
        assert_eq!((read, waiting.bytes()), (pieces, 0), "all of it comes out");
    }
}
