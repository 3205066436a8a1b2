//! What a container has written and nobody has put on disk yet.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use bytes::Bytes;
use freewheel_spoke_account::MemoryAccount;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::task::coop::cooperative;

/// What a piece costs beside its bytes: a guest that writes byte by byte must not make the node hold
/// many times the bound.
const PIECE_OVERHEAD_BYTES: usize = 64;

/// Bytes that wait for the disk, stdout and stderr of all instances together. Then the guest waits.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// Bytes that wait for the disk, and the spoke itself adds nothing to them: it does not wait as guests do.
const WAITING_NOTES_BYTES_MAX: usize = 4 * WAITING_BYTES_MAX;

/// So much is written without waiting for more.
const WRITE_AT_ONCE_BYTES: usize = WAITING_BYTES_MAX / 2;

/// Bytes that one handle may write at a time.
const WRITE_PERMIT_BYTES: usize = 4096;

/// Bytes that all handles to one of an instance's streams may have been promised and not written. Streams that were
/// given room at the same moment may all use it, so that each may be so far beyond the bound: it counts for its
/// instance.
pub const PROMISED_BYTES_MAX: usize = 4 * WRITE_PERMIT_BYTES;

/// Writes for which a guest need not ask again: each has a place beside its bytes.
const WRITES_WITHOUT_CHECK: usize = 64;

/// Bytes of a line by the spoke itself.
const NOTE_BYTES_MAX: usize = 16 << 10;

/// Which stream a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A piece of output.
pub(crate) struct Piece {
    /// Whose: each instance has streams of its own.
    pub(crate) stream: u64,
    pub(crate) source: Source,
    pub(crate) time: SystemTime,
    /// Nothing: the stream is gone, and a line that it has begun ends here.
    pub(crate) bytes: Bytes,
}

/// The stream of what the spoke itself says.
const OWN_STREAM: u64 = 0;

#[derive(Default)]
struct SinkState {
    queue: VecDeque<Piece>,
    /// Streams that there were.
    streams: u64,
    bytes: usize,
    writers: Vec<Waker>,
    drain: Option<Waker>,
    /// The drain waits for [`WRITE_AT_ONCE_BYTES`].
    gathers: bool,
    closed: bool,
    /// The container's end was told: its pod may be removed.
    end_reported: bool,
    /// Messages of the spoke's that were left out.
    lost: u64,
}

struct Inner {
    state: Mutex<SinkState>,
    /// Whose memory it is that waits here. The bound is the sink's: who is at its limit may say so.
    account: Option<Arc<MemoryAccount>>,
    /// What is on disk; its end tells followers that no more will come.
    written: watch::Sender<Written>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(Waited { account: self.account.take(), bytes: self.state.get_mut().bytes });
    }
}

/// What was taken and counts until this goes.
pub(crate) struct Waited {
    account: Option<Arc<MemoryAccount>>,
    bytes: usize,
}

impl Drop for Waited {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.give_back(self.bytes);
        }
    }
}

/// How far a log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes that the disk has taken.
    pub bytes: u64,
    /// Files that were set aside.
    pub turns: u64,
}

/// A container's output on its way to the disk.
#[derive(Clone)]
pub struct LogSink(Arc<Inner>);

impl Default for LogSink {
    fn default() -> Self {
        Self::new()
    }
}

impl LogSink {
    /// Nothing was written yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with(None)
    }

    /// The same; what waits here is on this account.
    #[must_use]
    pub fn of(account: Arc<MemoryAccount>) -> Self {
        Self::with(Some(account))
    }

    fn with(account: Option<Arc<MemoryAccount>>) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            account,
            written: watch::channel(Written::default()).0,
        }))
    }

    /// One of an instance's streams.
    #[must_use]
    pub fn stream(&self, source: Source) -> LogStream {
        let number = {
            let mut state = self.0.state.lock();
            state.streams += 1;
            state.streams
        };
        let (sink, open, promised) = (self.clone(), AtomicBool::new(false), AtomicUsize::new(0));
        LogStream {
            origin: Arc::new(Origin { sink, number, source, open, promised }),
            permit: 0,
            writes: 0,
        }
    }

    /// A line by the spoke itself, where the user of the container will look for it. Left out, and counted, while the
    /// disk is so slow that much waits for it.
    pub fn note(&self, line: &str) {
        let line = &line[..line.floor_char_boundary(NOTE_BYTES_MAX)];
        let lost = {
            let mut state = self.0.state.lock();
            if WAITING_NOTES_BYTES_MAX <= state.bytes {
                state.lost += 1;
                return;
            }
            std::mem::take(&mut state.lost)
        };
        let line = match lost {
            0 => format!("{line}\n"),
            lost => {
                format!("freewheel: {lost} messages are missing here, the disk is slow\n{line}\n")
            }
        };
        self.push(OWN_STREAM, Source::Stderr, Bytes::from(line));
    }

    /// Changes whenever lines have reached the file; ends when the container's log is complete.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Written> {
        self.0.written.subscribe()
    }

    pub(crate) fn wrote(&self, written: Written) {
        self.0.written.send_replace(written);
    }

    /// No more output will come.
    pub fn close(&self) {
        let drain = {
            let mut state = self.0.state.lock();
            state.closed = true;
            state.drain.take()
        };
        if let Some(drain) = drain {
            drain.wake();
        }
    }

    /// Whether no more will come.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.state.lock().closed
    }

    /// The container's end is told now, whatever still waits here.
    pub fn tell(&self) {
        self.0.state.lock().end_reported = true;
    }

    /// Whether the log's directory may be removed any time.
    pub(crate) fn is_end_reported(&self) -> bool {
        self.0.state.lock().end_reported
    }

    fn push(&self, stream: u64, source: Source, bytes: Bytes) {
        let drain = {
            let mut state = self.0.state.lock();
            if state.closed {
                return;
            }
            let takes = bytes.len() + PIECE_OVERHEAD_BYTES;
            state.bytes += takes;
            if let Some(account) = &self.0.account {
                account.count(takes);
            }
            state.queue.push_back(Piece { stream, source, time: SystemTime::now(), bytes });
            if state.gathers && state.bytes < WRITE_AT_ONCE_BYTES {
                None
            } else {
                state.drain.take()
            }
        };
        if let Some(drain) = drain {
            drain.wake();
        }
    }

    fn room(&self) -> usize {
        let state = self.0.state.lock();
        // What is written to a closed sink goes nowhere; without room its writer would ask for ever.
        if state.closed { WAITING_BYTES_MAX } else { WAITING_BYTES_MAX.saturating_sub(state.bytes) }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock();
        if state.bytes < WAITING_BYTES_MAX || state.closed {
            return Poll::Ready(());
        }
        if !state.writers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.writers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ready when much waits, or no more will come.
    pub(crate) fn poll_much(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock();
        if state.closed || WRITE_AT_ONCE_BYTES <= state.bytes {
            return Poll::Ready(());
        }
        state.gathers = true;
        state.drain = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes everything that waits, as it was written, for output that goes to no file; `None`: it is closed and empty.
    /// Cancel safe.
    pub async fn taken(&self) -> Option<Vec<(Source, Bytes)>> {
        // Who writes without a pause leaves others of the thread a turn.
        let (pieces, _) = cooperative(std::future::poll_fn(|cx| self.poll_take(cx))).await?;
        Some(pieces.into_iter().map(|piece| (piece.source, piece.bytes)).collect())
    }

    /// Takes everything that waits; `None`: it is closed and empty.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(VecDeque<Piece>, Waited)>> {
        let (pieces, bytes, writers) = {
            let mut state = self.0.state.lock();
            state.gathers = false;
            if state.queue.is_empty() {
                if state.closed {
                    return Poll::Ready(None);
                }
                state.drain = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let bytes = std::mem::take(&mut state.bytes);
            (std::mem::take(&mut state.queue), bytes, std::mem::take(&mut state.writers))
        };
        for writer in writers {
            writer.wake();
        }
        Poll::Ready(Some((pieces, Waited { account: self.0.account.clone(), bytes })))
    }
}

/// One of an instance's output streams, for all handles to it.
struct Origin {
    sink: LogSink,
    number: u64,
    source: Source,
    /// Whether it is within a line.
    open: AtomicBool,
    /// Bytes that its handles were promised. They are all one guest's, so that no two of them ask at the same time.
    promised: AtomicUsize,
}

impl Origin {
    fn push(&self, bytes: Bytes) {
        let Some(last) = bytes.last() else { return };
        self.open.store(*last != b'\n', Relaxed);
        self.sink.push(self.number, self.source, bytes);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if *self.open.get_mut() {
            self.sink.push(self.number, self.source, Bytes::new());
        }
    }
}

/// More was written than was asked for: who does that could fill the node's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unasked;

/// A handle to one of an instance's output streams.
pub struct LogStream {
    origin: Arc<Origin>,
    /// What the guest was told that it may write.
    permit: usize,
    /// How often it has written of it.
    writes: usize,
}

impl LogStream {
    /// Another handle to it.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { origin: self.origin.clone(), permit: 0, writes: 0 }
    }

    /// What it may be promised, if it gives back what it was.
    fn left(&self) -> usize {
        (PROMISED_BYTES_MAX + self.permit)
            .saturating_sub(self.origin.promised.load(Relaxed))
            .min(WRITE_PERMIT_BYTES)
    }

    /// It is promised so much, and no more what it was before.
    fn promise(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.permit, bytes);
        self.origin.promised.fetch_add(bytes, Relaxed);
        self.origin.promised.fetch_sub(before, Relaxed);
    }

    /// Waits until there is room.
    pub async fn ready(&self) {
        if self.left() == 0 {
            // While the guest waits, it does not write what its other handles were promised.
            std::future::pending::<()>().await;
        }
        std::future::poll_fn(|cx| self.origin.sink.poll_room(cx)).await;
    }

    /// Writes of what was asked for.
    ///
    /// # Errors
    /// When it is more than that, or in too many pieces.
    pub fn write(&mut self, bytes: Bytes) -> Result<(), Unasked> {
        let left =
            self.permit.checked_sub(bytes.len()).filter(|_| self.writes < WRITES_WITHOUT_CHECK);
        let left = left.ok_or(Unasked)?;
        self.writes += 1;
        self.promise(left);
        self.origin.push(bytes);
        Ok(())
    }

    /// Asks for room: so many bytes may be written.
    pub fn check_write(&mut self) -> usize {
        self.promise(self.origin.sink.room().min(self.left()));
        self.writes = 0;
        self.permit
    }

    /// Writes all of it, as fast as there is room.
    ///
    /// # Errors
    /// None that is known.
    pub async fn write_all(&mut self, mut bytes: Bytes) -> Result<(), Unasked> {
        while !bytes.is_empty() {
            self.ready().await;
            let room = self.check_write().min(bytes.len());
            self.write(bytes.split_to(room))?;
        }
        self.promise(0);
        Ok(())
    }

    /// Waits for room, and asks for none of it: who flushes does not write.
    pub async fn write_ready(&self) -> usize {
        loop {
            self.ready().await;
            if let room @ 1.. = self.origin.sink.room().min(self.left()) {
                return room;
            }
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.promise(0);
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.origin.sink.poll_room(cx));
        let count = buf.len().min(self.origin.sink.room().max(1));
        self.origin.push(Bytes::copy_from_slice(&buf[..count]));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
