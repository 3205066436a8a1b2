//! The session's view of a connection: streams in priority order, datagrams, an end with a reason.
//!
//! Implementations: [`crate::quic`] on the network, [`crate::memory_transport`] in tests. Nothing above this trait
//! knows which one it has.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::message::{Reason, WelcomeV1};
use crate::meter::{Carried, Class};
use crate::names::ClusterName;
use crate::report::UnixMillis;

/// What goes first when the link is narrow (heartbeats are datagrams and go before all). Pods' connections come
/// behind the session: it is little, and what they carry has no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Compiled modules: large, and nobody waits at a keyboard.
    Modules,
    /// Logs.
    Logs,
    /// Connections between pods.
    Tunnels,
    /// Plans and reports.
    Session,
}

/// The connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The other side closed it.
    #[error("closed by the peer ({code}): {reason}")]
    ByPeer {
        /// One of [`code`].
        code: u32,
        /// For people.
        reason: String,
    },
    /// This side closed it.
    #[error("closed here")]
    Here,
    /// Nothing was heard for the idle timeout.
    #[error("the connection timed out")]
    TimedOut,
    /// The other side was restarted and knows nothing of this connection.
    #[error("the peer was restarted")]
    Restarted,
    /// The handshake was refused or the connection broke.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// A certificate was not taken.
    #[error("{}: {detail}", .whose.refusal(*.fault))]
    Certificate {
        /// Whose.
        whose: Whose,
        /// What is wrong with it.
        fault: Fault,
        /// In the words of whoever refused it.
        detail: String,
    },
}

/// Whose certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This side's, by the peer.
    Ours,
    /// The peer's, by this side.
    Theirs,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is over or not yet begun, by the clock of whoever refused it.
    Time,
    /// Another authority has signed it.
    Authority,
    /// Anything else.
    Other,
}

impl Whose {
    const fn refusal(self, fault: Fault) -> &'static str {
        match (self, fault) {
            (Self::Ours, Fault::Time) => {
                "the peer says that the certificate of this side has expired"
            }
            (Self::Ours, Fault::Authority) => {
                "the peer does not know the authority of this side's certificate"
            }
            (Self::Ours, Fault::Other) => "the peer does not take the certificate of this side",
            (Self::Theirs, Fault::Time) => {
                "the peer's certificate is not valid at the time that this machine's clock shows"
            }
            (Self::Theirs, Fault::Authority) => "the peer has a certificate of another authority",
            (Self::Theirs, Fault::Other) => "the peer's certificate is of no use",
        }
    }
}

/// Codes of [`Transport::close`].
pub mod code {
    /// The process stops.
    pub const STOPPING: u32 = 0;
    /// Not allowed (any more).
    pub const REFUSED: u32 = 1;
    /// The peer broke the protocol.
    pub const VIOLATION: u32 = 2;
    /// A newer session is in force.
    pub const SUPERSEDED: u32 = 3;
    /// Too many at once: come back later.
    pub const BUSY: u32 = 4;
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it is now; may change in a connection's life.
    pub address: SocketAddr,
    /// The certificate that it has proven to hold, verified against the fleet's CA.
    pub certificate: Option<CertificateDer<'static>>,
}

/// The sending half of a stream. Dropped before its end was said with a shutdown, it resets the stream: the peer
/// must not take what broke off for whole.
pub trait SendHalf: AsyncWrite + Send + Sync + Unpin {
    /// Where this stream stands in order; kept where the transport has no order.
    fn set_priority(&mut self, _priority: Priority) {}
    /// Throws away what was not sent, and tells the peer that the rest will not come.
    fn reset(&mut self);
    /// Whether the peer takes no more of a stream whose end was not said yet, or the connection is over. Nobody is
    /// woken when that changes: see [`StopPoll`](crate::stop_poll::StopPoll).
    fn is_stopped(&mut self, cx: &mut Context<'_>) -> bool;
}

/// A stream of bytes both ways. Dropping it breaks off what was not ended.
pub struct Stream {
    /// What is written here comes out there.
    pub send: Box<dyn SendHalf>,
    /// What is written there comes out here.
    pub recv: Box<dyn AsyncRead + Send + Sync + Unpin>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

/// A connection between a hub and a spoke.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Opens a stream. The peer sees it with its first byte.
    async fn open(&self, priority: Priority) -> Result<Stream, Closed>;
    /// The next stream that the peer has opened. Cancel safe.
    async fn accept(&self) -> Result<Stream, Closed>;
    /// Sends a datagram, or drops it: only for what the next one replaces.
    fn send_datagram(&self, bytes: Bytes);
    /// Sends a pod's datagram if it fits into a packet and neither a heartbeat nor a stream's share of a link that is
    /// full has to give way to it; whether it was sent. Never waits.
    fn offer_datagram(&self, bytes: Bytes) -> bool;
    /// The next datagram. Cancel safe.
    async fn datagram(&self) -> Result<Bytes, Closed>;
    /// Gives a peer that is let in the room of a session; until then it has a stranger's, where that is bounded.
    fn admit(&self) {}
    /// Closes at once; streams end on both sides.
    fn close(&self, code: u32, reason: &str);
    /// Resolves once it is over. Cancel safe.
    async fn closed(&self) -> Closed;
    /// Who is at the other end.
    fn peer(&self) -> Peer;
    /// What its streams and datagrams have carried of this class, without what the transport itself adds.
    fn carried(&self, class: Class) -> Carried;
    /// Grows whenever something comes from the other end, if only the acknowledgement of what was sent.
    fn heard(&self) -> u64;
    /// Grows whenever the other end acknowledges something that was sent, and by nothing else that comes from it.
    fn acknowledged(&self) -> u64;
}

/// How a spoke gets a connection to its hub.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// A new connection. Names are looked up anew each time.
    async fn dial(&self) -> Result<Arc<dyn Transport>, DialError>;
    /// The hub has greeted over the newest connection.
    fn welcomed(&self, _welcome: &WelcomeV1) {}
    /// The hub of the newest connection has set its wall clock, which shows this now.
    fn hub_time_is(&self, _now: UnixMillis) {}
    /// The hub has said that it does not take this spoke.
    fn turned_away(&self, _reason: &Reason) {}
    /// Whom the certificate of the newest connection names, where that may have become another.
    fn cluster(&self) -> Option<ClusterName> {
        None
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The hub's name leads nowhere.
    #[error("cannot find {host}")]
    Lookup {
        /// As it was given.
        host: String,
        /// The resolver's complaint.
        #[source]
        source: std::io::Error,
    },
    /// The connection could not be made, or was refused.
    #[error("cannot connect to {host}: {closed}")]
    Connect {
        /// As it was given.
        host: String,
        /// What happened.
        closed: Closed,
    },
    /// The hub's certificate is over, or not yet valid, by this device's clock.
    #[error(
        "the certificate of {host} is not valid at the time that this device's clock shows: check the clock \
         first ({detail})"
    )]
    Clock {
        /// As it was given.
        host: String,
        /// What is wrong with it.
        detail: String,
    },
    /// What this device has to show cannot be used, or the hub gives it no new one.
    #[error("no credentials to show to {host}: {detail}")]
    Credentials {
        /// As it was given.
        host: String,
        /// Why.
        detail: String,
    },
    /// The hub's certificate does not come from the CA that is pinned.
    #[error("{host} has a certificate of another authority: {detail}")]
    WrongHub {
        /// As it was given.
        host: String,
        /// What is wrong with it.
        detail: String,
    },
}
