//! A connection's socket.
//!
//! What is one buffer goes out by `send`, which costs the kernel less than a vector of one. TLS hands over its records
//! as vectors, and most are one.
//!
//! Guarantees:
//! - a client that is still sending when the connection ends is read on for a while: a socket that is closed over
//!   unread bytes resets the connection, and takes the answer back that is on its way
//!   (`a_refusal_over_http_1_is_not_taken_back_by_a_reset`,
//!   `who_never_stops_sending_gets_the_answer_and_then_an_end`), one whose headers were too large for a request as well
//!   (`headers_that_are_too_large_are_told_so`).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_util::io::InspectReader;

use crate::connection_slots::ConnectionSlot;

/// For a client to read its answer and to stop sending.
const CLOSE_LINGER: Duration = Duration::from_secs(5);

/// The socket.
pub(crate) struct Socket {
    stream: TcpStream,
    slot: Arc<ConnectionSlot>,
    /// Until when it is read on; set when nothing is written any more.
    end: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Whoever sits there is told what goes in and out.
    pub(crate) fn new(stream: TcpStream, slot: Arc<ConnectionSlot>) -> Self {
        Self { stream, slot, end: None }
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &outcome {
            Poll::Ready(Ok(bytes)) => self.slot.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.slot.backlog.socket_is_full(),
        }
        outcome
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.slot.read(buf.filled().len() - before);
        outcome
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let outcome = if let [one] = bufs {
            stream.poll_write(cx, one)
        } else {
            stream.poll_write_vectored(cx, bufs)
        };
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.end.is_none() {
            ready!(Pin::new(&mut me.stream).poll_shutdown(cx))?;
            if !me.slot.lingers() {
                return Poll::Ready(Ok(()));
            }
        }
        let end = me.end.get_or_insert_with(|| Box::pin(sleep(CLOSE_LINGER)));
        let mut unread = [0; 4096];
        while end.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut unread);
            let read = ready!(Pin::new(&mut me.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What HTTP/1.1 has of a connection. What it reads while there is no request is the head of one, which may never become
/// one: it is answered all the same, while its client is still sending.
pub(crate) fn heads<S: AsyncRead>(
    stream: S,
    slot: Arc<ConnectionSlot>,
) -> InspectReader<S, impl FnMut(&[u8]) + Send + 'static> {
    InspectReader::new(stream, move |bytes: &[u8]| {
        if !bytes.is_empty() && !slot.is_busy() {
            slot.leaves_unread();
        }
    })
}
