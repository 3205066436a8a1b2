//! A connection in the making, one of its ends, and the same as an async stream for code on the host.
//!
//! Guarantees:
//! - who reads or writes it gives others of its thread a turn, also when the other end is always ready: what hyper or a
//!   copy does in one poll ends, and it can be aborted (`who_reads_and_writes_gives_others_a_turn`);
//! - what is written from several places at once waits as one piece (`what_is_written_from_several_places_is_one_piece`).

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::error::NetError;
use crate::gates::{Counters, Gate, Gates, Passing, Tally, Toward};
use crate::pipe::{End, Pipe};
use crate::receive_memory::ReceiveMemory;
use crate::sockets::Slot;

/// One end of a connection. Whoever takes `rx` and `tx` closes them.
pub struct Conn {
    /// What the peer writes.
    pub rx: Arc<Pipe>,
    /// What the peer reads.
    pub tx: Arc<Pipe>,
    /// This end.
    pub local: SocketAddr,
    /// The other end, as this one sees it: a client of a Service sees the Service.
    pub peer: SocketAddr,
    /// Counts against the sockets of the pod, if this end is in one.
    pub slot: Option<Slot>,
}

/// Who has an end: what waits for it, and its place in its pod's count of sockets.
pub(crate) struct Side {
    pub(crate) address: SocketAddr,
    /// None: it is in no pod of this node, and what waits for it is on the other end's account.
    pub(crate) waiting: Option<Arc<ReceiveMemory>>,
    pub(crate) slot: Option<Slot>,
    /// What it has come through.
    pub(crate) gates: Gates,
    /// How many of the sockets that a pod keeps for the node's own connections it may take.
    pub(crate) kept: usize,
}

impl Side {
    /// A client that is in no pod: nothing of it counts against one.
    pub(crate) const fn outside(address: SocketAddr) -> Self {
        Self { address, waiting: None, slot: None, gates: Gates::NONE, kept: 0 }
    }

    /// The node itself, for which a pod keeps so many places.
    pub(crate) fn node(kept: usize) -> Self {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self { kept, ..Self::outside(loopback) }
    }

    /// The same, after it has come through this gate.
    pub(crate) fn through(self, gate: Gate) -> Self {
        Self { gates: self.gates.and(gate), ..self }
    }
}

impl Conn {
    /// Both ends of a new connection. `seen` is the server's address as the client asked for it; what belongs to
    /// no pod of this node waits in `transit`.
    pub(crate) fn pair(
        client: Side,
        seen: SocketAddr,
        server: Side,
        transit: &Arc<ReceiveMemory>,
    ) -> (Self, Self) {
        let of = |own: &Side, other: &Side| {
            own.waiting.as_ref().or(other.waiting.as_ref()).unwrap_or(transit).clone()
        };
        let (at_client, at_server) = (of(&client, &server), of(&server, &client));
        let to_client = Pipe::new(at_client.clone(), at_server.clone());
        let to_server = Pipe::new(at_server, at_client);
        let (near, far) = (client.address, server.address);
        let client = Self {
            rx: to_client.clone(),
            tx: to_server.clone(),
            local: near,
            peer: seen,
            slot: client.slot,
        };
        let server =
            Self { rx: to_server, tx: to_client, local: far, peer: near, slot: server.slot };
        (client, server)
    }

    /// Counts what it carries, seen from the client's end.
    pub(crate) fn counted(&self, passing: &Arc<Passing>) {
        self.tx.count(Tally::new(passing.clone(), Toward::Server));
        self.rx.count(Tally::new(passing.clone(), Toward::Client));
    }

    /// The end as an async stream.
    #[must_use]
    pub fn into_io(self) -> ConnIo {
        ConnIo { conn: self, broken_by_drop: false }
    }

    /// The same for what is carried on from elsewhere: what goes before its end was said breaks off.
    #[must_use]
    pub fn into_tunnel(self) -> ConnIo {
        ConnIo { conn: self, broken_by_drop: true }
    }

    /// Breaks the connection for both ends.
    pub fn reset(&self) {
        self.rx.reset();
        self.tx.reset();
    }
}

/// A connection in the making.
pub enum Connecting {
    /// Both ends are on this node: it is decided.
    Now(Result<Conn, NetError>),
    /// The other end is on another node.
    Later(BoxFuture<'static, Result<Conn, NetError>>),
}

impl Connecting {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// When there will be no connection.
    pub async fn done(self) -> Result<Conn, NetError> {
        match self {
            Self::Now(outcome) => outcome,
            Self::Later(outcome) => outcome.await,
        }
    }

    /// The same; when there will be no connection, that is counted.
    pub(crate) fn counted(self, gates: &Arc<Counters>, gate: Gate) -> Self {
        let gates = gates.clone();
        let count = move |error: &NetError| gates.refused(gate, *error);
        match self {
            Self::Now(outcome) => Self::Now(outcome.inspect_err(count)),
            Self::Later(outcome) => {
                Self::Later(Box::pin(async move { outcome.await.inspect_err(count) }))
            }
        }
    }
}

/// A connection's end as hyper, probes, port-forward and tunnels want it. Dropping it closes both directions; a
/// tunnel's is broken then, unless it was shut down before.
pub struct ConnIo {
    conn: Conn,
    broken_by_drop: bool,
}

impl ConnIo {
    /// The other end, as this one sees it.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.conn.peer
    }

    /// The end as it was.
    pub(crate) const fn conn(&self) -> &Conn {
        &self.conn
    }

    /// This end.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.conn.local
    }

    /// Breaks the connection for both ends.
    pub fn reset(&self) {
        self.conn.reset();
    }

    /// How many bytes may be written now, once it is any.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match self.conn.tx.room().map_err(|_| broken())? {
                0 => ready!(self.conn.tx.poll_writable(cx)),
                room => return Poll::Ready(Ok(room)),
            }
        }
    }

    /// Writes bytes for which there is room; how many.
    fn push(&self, bytes: Bytes) -> io::Result<usize> {
        let count = bytes.len();
        self.conn.tx.push(bytes).map(|()| count).map_err(|_| broken())
    }
}

/// Nobody reads it any more.
fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncRead for ConnIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let turn = ready!(poll_proceed(cx));
        loop {
            match self.conn.rx.pull(buf.remaining()) {
                Ok(Some(bytes)) => {
                    buf.put_slice(&bytes);
                    turn.made_progress();
                    return Poll::Ready(Ok(()));
                }
                Ok(None) => ready!(self.conn.rx.poll_readable(cx)),
                Err(End::Closed) => return Poll::Ready(Ok(())),
                Err(End::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
    }
}

impl AsyncWrite for ConnIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(poll_proceed(cx));
        let room = ready!(self.poll_room(cx))?;
        let bytes = Bytes::copy_from_slice(&buf[..room.min(buf.len())]);
        turn.made_progress();
        Poll::Ready(self.push(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(poll_proceed(cx));
        let mut room = ready!(self.poll_room(cx))?;
        let all = bufs.iter().map(|buf| buf.len()).sum();
        let mut bytes = Vec::with_capacity(room.min(all));
        for buf in bufs {
            let count = room.min(buf.len());
            bytes.extend_from_slice(&buf[..count]);
            room -= count;
        }
        turn.made_progress();
        Poll::Ready(self.push(bytes.into()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.tx.close_write();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ConnIo {
    fn drop(&mut self) {
        if self.broken_by_drop {
            self.conn.tx.break_off();
        } else {
            self.conn.tx.close_write();
        }
        self.conn.rx.close_read();
    }
}
