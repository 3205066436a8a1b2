//! Carries the bytes of a pod's connection to and from a stream outside of it, with no memory of its own.
//!
//! Guarantees:
//! - what a slow stream has not taken stays in the pod's pipe, where it is counted
//!   (`slow_clients_from_outside_share_the_budget_of_the_pod_that_serves_them`);
//! - what a pod leaves unread in a stream of the link is on its account, until it reads
//!   (`what_a_deaf_pod_leaves_in_the_link_is_on_its_account`, `a_pod_that_has_read_leaves_nothing_in_the_link`);
//! - a peer that has gone is noticed while the pod reads nothing, or has been told its end
//!   (`a_peer_that_has_gone_is_noticed_by_a_pod_that_reads_nothing`), and what it had said in order is still read
//!   (`what_was_said_in_order_is_read_when_its_peer_has_gone`); a pod that has said all and reads nothing has no peer for
//!   longer than a minute (`a_pod_that_has_said_all_and_reads_nothing_is_broken_off`);
//! - others of the thread have a turn, also when both sides are always ready, and so has each of the two directions
//!   (`what_is_carried_without_a_pause_gives_others_a_turn`).

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_link::limits::STREAM_WINDOW_BYTES;
use freewheel_link::stop_poll::StopPoll;
use freewheel_link::transport;
use freewheel_spoke_agent::uplink::Duplex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;
use tokio::time::Instant;

use crate::conn::{Conn, ConnIo};
use crate::pipe::{Broken, End};
use crate::unread::UnreadWindow;
use crate::watched_stream::{Watched, Watcher};

/// Bytes that are read at once.
const READ_CHUNK_BYTES: usize = 64 << 10;
/// How long a pod that has said all may read nothing. That its peer has gone cannot be heard by then, and the stream has
/// a place on the link; Linux gives one whose program has closed it as long.
const SAID_ALL_TIMEOUT: Duration = Duration::from_secs(60);

thread_local! {
    /// Where streams are read into before it is known how much there is: one for each thread, not for each
    /// connection.
    static SCRATCH: Cell<Box<[u8]>> = Cell::default();
}

/// A stream to another node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether its other end takes no more. Nobody is woken when that changes.
    fn is_stopped(&mut self, _: &mut Context<'_>) -> bool {
        false
    }
}

impl Stream for transport::Stream {
    fn is_stopped(&mut self, cx: &mut Context<'_>) -> bool {
        self.send.is_stopped(cx)
    }
}

impl Stream for Box<dyn Stream> {
    fn is_stopped(&mut self, cx: &mut Context<'_>) -> bool {
        (**self).is_stopped(cx)
    }
}

/// A client of the kernel's has no place on the link that it could keep.
impl<W, S> Stream for Watched<W, S>
where
    W: Watcher + Send + Unpin + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
}

/// How the carrying of bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides have said all.
    Whole,
    /// The pod has said all, and does not listen any more.
    Unheard,
    /// Something is missing.
    Broken,
}

/// Carries bytes between a connection's end and a stream until both directions have ended, or until `outage`: half
/// of a stream may be silent for ever when its link has gone. `window`: bytes that wait in the stream itself, in this
/// process, when they are not read.
pub(crate) async fn carry(
    end: &ConnIo,
    stream: &mut impl Stream,
    window: usize,
    outage: impl Future<Output = ()>,
) -> Ended {
    let mut bridge = Bridge { window, ..Bridge::default() };
    let copied = tokio::select! {
        biased;
        copied = poll_fn(|cx| bridge.poll(end.conn(), Pin::new(stream), cx)) => copied,
        () = outage => Err(ErrorKind::ConnectionReset.into()),
    };
    match copied {
        Ok(()) => Ended::Whole,
        Err(error) => {
            // A broken stream must not look like a finished one to the pod.
            end.reset();
            match error.kind() {
                ErrorKind::BrokenPipe => Ended::Unheard,
                _ => Ended::Broken,
            }
        }
    }
}

/// Somebody on another node, or a client of the hub's, talks to a pod.
#[async_trait]
impl Duplex for ConnIo {
    async fn carry(self: Box<Self>, stream: transport::Stream) {
        let mut stream: Box<dyn Stream> = Box::new(stream);
        carry(&self, &mut stream, STREAM_WINDOW_BYTES, pending()).await;
    }
}

/// How far both directions are.
#[derive(Default)]
struct Bridge {
    outward: Half,
    inward: Half,
    /// Who is first uses up the turn: they change places.
    inward_first: bool,
    unflushed: bool,
    window: usize,
    /// The window, while the pod does not read.
    unread: Option<UnreadWindow>,
    /// Since when it does not.
    deaf_since: Option<Instant>,
    looks: StopPoll,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Half {
    #[default]
    Carrying,
    Closing,
    Done,
}

impl Bridge {
    /// Ready when both directions have ended.
    fn poll<S: Stream>(
        &mut self,
        conn: &Conn,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut ended = true;
        self.inward_first = !self.inward_first;
        for inward in [self.inward_first, !self.inward_first] {
            let stream = stream.as_mut();
            let half =
                if inward { self.inward(conn, stream, cx) } else { self.outward(conn, stream, cx) };
            ended &= half?.is_ready();
        }
        if ended { Poll::Ready(Ok(())) } else { self.poll_gone(stream, cx) }
    }

    /// Ready when the peer has gone and nothing is read of the stream, which would tell.
    fn poll_gone<S: Stream>(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let is_unread = self.deaf_since.is_some() || self.inward == Half::Done;
        if self.window == 0 || !is_unread {
            return Poll::Pending;
        }
        let is_deaf = self.deaf_since.is_some_and(|since| SAID_ALL_TIMEOUT <= since.elapsed());
        let is_over = self.outward == Half::Done && is_deaf;
        let stream = stream.get_mut();
        ready!(self.looks.poll(cx, |cx| is_over || stream.is_stopped(cx)));
        match self.inward {
            // The pod has what it was told, and nobody hears its answer.
            Half::Done => Poll::Ready(Ok(())),
            Half::Carrying | Half::Closing => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
        }
    }

    /// From the pod.
    fn outward<S: Stream>(
        &mut self,
        conn: &Conn,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.outward == Half::Carrying {
            let turn = ready!(poll_proceed(cx));
            match conn.rx.front() {
                Ok(Some(bytes)) => {
                    let count = ready!(stream.as_mut().poll_write(cx, &bytes))?;
                    if count == 0 {
                        return Poll::Ready(Err(ErrorKind::WriteZero.into()));
                    }
                    conn.rx.consume(count);
                    turn.made_progress();
                    self.unflushed = true;
                }
                Ok(None) => {
                    if self.unflushed {
                        ready!(stream.as_mut().poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    ready!(conn.rx.poll_readable(cx));
                }
                Err(End::Closed) => self.outward = Half::Closing,
                Err(End::Reset) => return Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            }
        }
        if self.outward == Half::Closing {
            ready!(stream.poll_shutdown(cx))?;
            self.outward = Half::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// To the pod.
    fn inward<S: Stream>(
        &mut self,
        conn: &Conn,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.inward == Half::Carrying {
            let turn = ready!(poll_proceed(cx));
            let room = match conn.tx.room() {
                Ok(0) => {
                    self.deaf_since.get_or_insert_with(Instant::now);
                    let window = self.window;
                    let count = || conn.tx.count_unread(window);
                    // What waits in the kernel is no window.
                    if 0 < window && self.unread.get_or_insert_with(count).poll_goes(cx).is_ready()
                    {
                        return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
                    }
                    ready!(conn.tx.poll_writable(cx));
                    continue;
                }
                Ok(room) => room,
                // The pod does not listen any more. What it has said still goes out before anybody is told.
                Err(Broken) => READ_CHUNK_BYTES,
            };
            (self.unread, self.deaf_since) = (None, None);
            let bytes = ready!(read(stream.as_mut(), room.min(READ_CHUNK_BYTES), cx))?;
            turn.made_progress();
            if bytes.is_empty() {
                conn.tx.close_write();
                self.inward = Half::Done;
            } else if conn.tx.push(bytes).is_err() && self.outward == Half::Done {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn read<S: Stream>(
    stream: Pin<&mut S>,
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    let mut scratch = SCRATCH.take();
    if scratch.is_empty() {
        scratch = vec![0; READ_CHUNK_BYTES].into();
    }
    let mut buffer = ReadBuf::new(&mut scratch[..most]);
    let outcome = stream.poll_read(cx, &mut buffer);
    let bytes = outcome.map_ok(|()| Bytes::copy_from_slice(buffer.filled()));
    SCRATCH.set(scratch);
    bytes
}
