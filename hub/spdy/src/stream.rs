//! One stream of a session, as bytes both ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::frame::{Control, Outgoing};
use crate::header_block::Headers;

/// How the two directions of a stream have ended.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// The client has said its end.
    pub(crate) by_peer: AtomicBool,
    /// The end was said here.
    pub(crate) here: AtomicBool,
    /// It was broken off, by whomever.
    pub(crate) reset: AtomicBool,
}

impl Ends {
    /// Nothing comes or goes any more.
    pub(crate) fn is_over(&self) -> bool {
        self.reset.load(Relaxed) || (self.by_peer.load(Relaxed) && self.here.load(Relaxed))
    }
}

/// One stream that a client has opened. Dropped before it was shut down, it is reset, so that the client does not take
/// what it got for whole.
#[derive(Debug)]
pub struct Stream {
    pub(crate) id: u32,
    pub(crate) pipe: DuplexStream,
    pub(crate) ends: Arc<Ends>,
    pub(crate) out: mpsc::Sender<Outgoing>,
    pub(crate) _place: Arc<OwnedSemaphorePermit>,
}

impl Stream {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Tells the client that it is taken: before that it sends nothing. One that is dropped instead is refused.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn accept(&self) -> io::Result<()> {
        let reply = Control::SynReply { stream: self.id, fin: false, headers: Headers::default() };
        let sent = self.out.send(Outgoing::Control(reply)).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Whether the client has broken it off, or the session is over.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.ends.reset.load(Relaxed) || self.out.is_closed()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        let ended = room != 0 && buf.filled().len() == before;
        if ended && !self.ends.by_peer.load(Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ends.here.store(true, Relaxed);
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
