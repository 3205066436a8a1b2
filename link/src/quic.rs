//! Connections over QUIC: the only file that names quinn.
//!
//! ```text
//! Endpoint::hub ─accept─▶ Incoming ─finish─▶ Quic      Endpoint::spoke + Dialer ─dial─▶ Quic
//! ```
//!
//! The transport profile is a fleet's: nothing is kept for an idle spoke but its connection (28 KiB), an idle
//! timeout below the 40 s after which a silent node is Unknown, address changes allowed. Windows are such that
//! streams which nobody reads take no room from the session ([`crate::limits`]); a stranger's are small. Pods'
//! datagrams leave streams a part of a link that is full ([`datagram_share`]).
//! A sending half that is dropped before its end resets the stream: what broke off never looks complete.
//! The socket may be somebody else's ([`Datagrams`]), so that a simulation can own the network.
//! What a hub pushes to a device that its NAT has forgotten waits for the device's next packet, a heartbeat at the
//! latest (10 s): nobody gets through a NAT before the device speaks. Shorter keep-alives would cost every idle device
//! its sleep, and a NAT forgets after 30 s at the earliest, or when it is restarted.
//! A hub that was killed and is back resets the connections of its earlier life ([`HubTls`]).

mod datagram_share;
mod reset;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWrite;

pub use socket::{Datagrams, Socket, any_port};

use self::datagram_share::{Allowance, SharedFactory};
use crate::limits;
use crate::meter::{Carried, Class, Meter, Metered, Tag};
use crate::tls::{HUB_NAME, TlsError};
use crate::transport::{
    Closed, Dial, DialError, Fault, Peer, Priority, SendHalf, Stream, Transport, Whose,
};

/// A node is Unknown after 40 s of silence; the connection is given up before that.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A handshake takes a few round trips: one that takes longer holds memory for nobody, and a spoke whose
/// hub is down tries again soon.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// What pods' datagrams leave of the send buffer: a heartbeat and its bookkeeping take less.
const HEARTBEAT_BYTES_KEPT: usize = 1 << 10;
/// Handshakes that wait to be taken; more are dropped and come again.
const PENDING_HANDSHAKES_MAX: usize = 8192;
/// Bytes that wait with them.
const PENDING_HANDSHAKE_BYTES_MAX: u64 = 16 << 20;

/// A UDP port that connections come to or start from.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: quinn::Endpoint,
}

impl Endpoint {
    /// The hub's: takes connections.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn hub(socket: Socket, tls: HubTls) -> io::Result<Self> {
        let mut server = quinn::ServerConfig::with_crypto(tls.crypto);
        server
            .transport_config(Arc::new(stranger_transport()))
            .migration(true)
            .max_incoming(PENDING_HANDSHAKES_MAX)
            .incoming_buffer_size(64 << 10)
            .incoming_buffer_size_total(PENDING_HANDSHAKE_BYTES_MAX);
        Ok(Self { inner: socket::bind(socket, tls.resets, Some(server))? })
    }

    /// A spoke's: starts connections.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn spoke(socket: Socket) -> io::Result<Self> {
        Ok(Self { inner: socket::bind(socket, EndpointConfig::default(), None)? })
    }

    /// Connects.
    ///
    /// # Errors
    /// With why not.
    pub async fn connect(&self, to: SocketAddr, tls: &ClientTls) -> Result<Quic, Closed> {
        let connecting = self
            .inner
            .connect_with(tls.0.clone(), to, HUB_NAME)
            .map_err(|error| Closed::Failed(error.to_string()))?;
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(Quic::new(connection)),
            Ok(Err(error)) => Err(closed(error)),
            Err(_) => Err(Closed::TimedOut),
        }
    }

    /// The next one that wants to connect; `None` once the endpoint is closed. Cancel safe.
    pub async fn accept(&self) -> Option<Incoming> {
        self.inner.accept().await.map(Incoming)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Connections that are open or closing.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.inner.open_connections()
    }

    /// Closes every connection and takes no more.
    pub fn close(&self, code: u32, reason: &str) {
        self.inner.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Resolves when the last connection has said goodbye.
    pub async fn wait_idle(&self) {
        self.inner.wait_idle().await;
    }
}

/// A hub's TLS configuration, ready for QUIC, with what makes a restarted hub know its earlier self's
/// connections for lost: see [`HubTls::new`].
#[derive(Clone)]
pub struct HubTls {
    crypto: Arc<QuicServerConfig>,
    resets: EndpointConfig,
}

impl HubTls {
    /// From [`crate::tls::hub_server`]. Hubs with the same `secret` are the same hub: after a restart it
    /// answers a packet of an earlier life's connection with a stateless reset, and the spoke comes
    /// back at once. The secret is used through a MAC only.
    ///
    /// # Errors
    /// When the provider lacks QUIC's initial cipher suite, which ring does not.
    pub fn new(tls: rustls::ServerConfig, secret: &[u8]) -> Result<Self, TlsError> {
        let crypto = QuicServerConfig::try_from(tls)
            .map_err(|error| TlsError::Authority(error.to_string()))?;
        Ok(Self { crypto: Arc::new(crypto), resets: reset::config(secret) })
    }
}

/// A client's TLS configuration, ready for QUIC.
#[derive(Clone, Debug)]
pub struct ClientTls(quinn::ClientConfig);

impl ClientTls {
    /// From one of [`crate::tls`]'s client configurations.
    ///
    /// # Errors
    /// When the provider lacks QUIC's initial cipher suite, which ring does not.
    pub fn new(tls: rustls::ClientConfig) -> Result<Self, TlsError> {
        let crypto = QuicClientConfig::try_from(tls)
            .map_err(|error| TlsError::Authority(error.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = fleet_transport();
        // A heartbeat every 10 s makes these rare; they keep NATs open while nothing else is sent.
        transport.keep_alive_interval(Some(Duration::from_secs(15)));
        config.transport_config(Arc::new(transport));
        Ok(Self(config))
    }
}

/// Somebody who wants to connect; nothing is kept for them yet.
#[derive(Debug)]
pub struct Incoming(quinn::Incoming);

impl Incoming {
    /// Where the packet says it comes from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Whether the address has been proven, by an answer to a Retry.
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.0.remote_address_validated()
    }

    /// Asks the other side to prove its address first; costs this side nothing.
    pub fn retry(self) {
        // Whoever was asked already is taken instead by the caller; a second time is not possible.
        if let Err(error) = self.0.retry() {
            error.into_incoming().refuse();
        }
    }

    /// Says no.
    pub fn refuse(self) {
        self.0.refuse();
    }

    /// Goes through the handshake, for [`HANDSHAKE_TIMEOUT`] at most.
    ///
    /// # Errors
    /// When the other side does not or cannot.
    pub async fn finish(self) -> Result<Quic, Closed> {
        let connecting = self.0.accept().map_err(closed)?;
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(Quic::new(connection)),
            Ok(Err(error)) => Err(closed(error)),
            Err(_) => Err(Closed::TimedOut),
        }
    }
}

/// UDP in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Their payload.
    pub bytes: u64,
}

impl Traffic {
    /// Bytes on the wire, with the headers of IPv4 and UDP.
    #[must_use]
    pub const fn on_the_wire(&self) -> u64 {
        self.bytes + 28 * self.packets
    }
}

/// A QUIC connection.
#[derive(Clone, Debug)]
pub struct Quic {
    connection: quinn::Connection,
    meter: Arc<Meter>,
}

impl Quic {
    fn new(connection: quinn::Connection) -> Self {
        Self { connection, meter: Arc::default() }
    }

    fn stream(&self, send: quinn::SendStream, recv: quinn::RecvStream) -> (Half, Recv) {
        let tag = self.meter.tag();
        (Half { send, whole: false, tag: tag.clone() }, Recv { recv, tag })
    }

    /// The application protocol agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<Vec<u8>> {
        self.connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
    }

    /// What was sent and received so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let stats = self.connection.stats();
        Traffic {
            packets: stats.udp_tx.datagrams + stats.udp_rx.datagrams,
            bytes: stats.udp_tx.bytes + stats.udp_rx.bytes,
        }
    }
}

#[async_trait]
impl Transport for Quic {
    async fn open(&self, priority: Priority) -> Result<Stream, Closed> {
        let (send, recv) = self.connection.open_bi().await.map_err(closed)?;
        let (mut send, recv) = self.stream(send, recv);
        send.set_priority(priority);
        Ok(Stream { send: Box::new(send), recv: Box::new(recv) })
    }

    async fn accept(&self) -> Result<Stream, Closed> {
        let (send, recv) = self.connection.accept_bi().await.map_err(closed)?;
        let (send, recv) = self.stream(send, recv);
        Ok(Stream { send: Box::new(send), recv: Box::new(recv) })
    }

    fn send_datagram(&self, bytes: Bytes) {
        // Lost is lost: the next one says the same. A dead connection shows itself elsewhere.
        let length = bytes.len();
        if self.connection.send_datagram(bytes).is_ok() {
            self.meter.sent(Class::Datagrams, length);
        }
    }

    fn offer_datagram(&self, bytes: Bytes) -> bool {
        // A full buffer drops its oldest datagram: that must not be a heartbeat.
        let fits = self.connection.max_datagram_size().is_some_and(|most| bytes.len() <= most);
        let length = bytes.len();
        let room = length + HEARTBEAT_BYTES_KEPT <= self.connection.datagram_send_buffer_space();
        let allowed = || Allowance::of(&self.connection).is_none_or(|left| left.take(length));
        let sent = fits && room && allowed() && self.connection.send_datagram(bytes).is_ok();
        if sent {
            self.meter.sent(Class::Datagrams, length);
        }
        sent
    }

    async fn datagram(&self) -> Result<Bytes, Closed> {
        let bytes = self.connection.read_datagram().await.map_err(closed)?;
        self.meter.received(Class::Datagrams, bytes.len());
        Ok(bytes)
    }

    fn admit(&self) {
        self.connection.set_receive_window(var_int(limits::LINK_WINDOW_BYTES));
        self.connection.set_max_concurrent_bi_streams(var_int(limits::STREAMS_MAX));
    }

    fn close(&self, code: u32, reason: &str) {
        self.connection.close(VarInt::from_u32(code), reason.as_bytes());
    }

    async fn closed(&self) -> Closed {
        closed(self.connection.closed().await)
    }

    fn carried(&self, class: Class) -> Carried {
        self.meter.carried(class)
    }

    fn heard(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    fn acknowledged(&self) -> u64 {
        self.connection.stats().frame_rx.acks
    }

    fn peer(&self) -> Peer {
        let chain = self
            .connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        Peer {
            address: self.connection.remote_address(),
            certificate: chain.and_then(|chain| chain.into_iter().next()),
        }
    }
}

/// Connects to a hub by name; looks the name up each time, because a hub may move.
#[derive(Clone, Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    host: String,
    tls: ClientTls,
}

impl Dialer {
    /// `host` is `HOST:PORT`.
    #[must_use]
    pub const fn new(endpoint: Endpoint, host: String, tls: ClientTls) -> Self {
        Self { endpoint, host, tls }
    }

    /// A new connection, with the address that reaches the hub.
    ///
    /// # Errors
    /// With why not, and what to do where that is clear.
    pub async fn connect(&self) -> Result<Quic, DialError> {
        let host = || self.host.clone();
        let lookup = |source| DialError::Lookup { host: host(), source };
        let found = match self.host.parse() {
            Ok(address) => vec![address],
            Err(_) => tokio::net::lookup_host(&self.host).await.map_err(lookup)?.collect(),
        };
        let local = self.endpoint.local_addr().map_err(lookup)?;
        let mut last =
            Closed::Failed("the name has no address of a family that is used here".into());
        for address in found.into_iter().filter(|to| to.is_ipv4() || local.is_ipv6()).take(4) {
            match self.endpoint.connect(address, &self.tls).await {
                Ok(quic) => return Ok(quic),
                Err(Closed::Certificate { whose: Whose::Theirs, fault: Fault::Time, detail }) => {
                    return Err(DialError::Clock { host: host(), detail });
                }
                Err(Closed::Certificate { whose: Whose::Theirs, detail, .. }) => {
                    return Err(DialError::WrongHub { host: host(), detail });
                }
                // A CA that is not the pinned one fails before its certificate is looked at.
                Err(Closed::Failed(detail)) if detail.contains("certificate") => {
                    return Err(DialError::WrongHub { host: host(), detail });
                }
                Err(closed) => last = closed,
            }
        }
        Err(DialError::Connect { host: host(), closed: last })
    }
}

#[async_trait]
impl Dial for Dialer {
    async fn dial(&self) -> Result<Arc<dyn Transport>, DialError> {
        Ok(Arc::new(self.connect().await?))
    }
}

/// The profile of `performance.md`: what an idle spoke costs is decided here.
fn fleet_transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .max_concurrent_bidi_streams(var_int(limits::STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(var_int(limits::STREAM_WINDOW_BYTES))
        .receive_window(var_int(limits::LINK_WINDOW_BYTES))
        // What waits to be sent is bounded stream by stream, by what the peer grants: a bound for all of them
        // would be one that tunnels fill and the session waits for.
        .send_window(limits::LINK_WINDOW_BYTES as u64)
        .datagram_receive_buffer_size(Some(16 << 10))
        .datagram_send_buffer_size(16 << 10)
        .congestion_controller_factory(Arc::new(SharedFactory::default()));
    transport
}

/// The same until it is known who comes.
fn stranger_transport() -> TransportConfig {
    let mut transport = fleet_transport();
    transport
        .max_concurrent_bidi_streams(var_int(limits::STRANGER_STREAMS_MAX))
        .receive_window(var_int(limits::STRANGER_WINDOW_BYTES));
    transport
}

/// The table of limits holds nothing larger.
fn var_int(value: usize) -> VarInt {
    VarInt::from_u32(u32::try_from(value).unwrap_or(u32::MAX))
}

fn closed(error: ConnectionError) -> Closed {
    match error {
        ConnectionError::ApplicationClosed(close) => Closed::ByPeer {
            code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
            reason: String::from_utf8_lossy(&close.reason).chars().take(256).collect(),
        },
        ConnectionError::LocallyClosed => Closed::Here,
        ConnectionError::TimedOut => Closed::TimedOut,
        ConnectionError::Reset => Closed::Restarted,
        ConnectionError::TransportError(ref failed) => {
            certificate(failed.code.into(), Whose::Theirs, &failed.reason)
                .unwrap_or_else(|| Closed::Failed(error.to_string()))
        }
        ConnectionError::ConnectionClosed(ref closed) => {
            let reason = String::from_utf8_lossy(&closed.reason);
            certificate(closed.error_code.into(), Whose::Ours, &reason)
                .unwrap_or_else(|| Closed::Failed(error.to_string()))
        }
        other => Closed::Failed(other.to_string()),
    }
}

/// QUIC carries TLS alerts as 0x100 and the alert's number (RFC 9001, 4.8).
fn certificate(code: u64, whose: Whose, detail: &str) -> Option<Closed> {
    let fault = match code.checked_sub(0x100)? {
        // certificate_expired: rustls says it of one that has not begun, too.
        45 => Fault::Time,
        // decrypt_error: the signature is of another key; unknown_ca
        51 | 48 => Fault::Authority,
        // bad_, unsupported_, _revoked, _unknown
        42 | 43 | 44 | 46 => Fault::Other,
        _ => return None,
    };
    Some(Closed::Certificate { whose, fault, detail: detail.chars().take(256).collect() })
}

struct Half {
    send: quinn::SendStream,
    /// Whether its end was said.
    whole: bool,
    tag: Arc<Tag>,
}

type Recv = Metered<quinn::RecvStream>;

impl Drop for Half {
    fn drop(&mut self) {
        // Quinn alone would say the end that nobody has said.
        if !self.whole {
            SendHalf::reset(self);
        }
    }
}

impl AsyncWrite for Half {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf));
        if let Ok(count) = &written {
            self.tag.sent(*count);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.send).poll_shutdown(cx);
        self.whole |= matches!(ended, Poll::Ready(Ok(())));
        ended
    }
}

impl SendHalf for Half {
    fn set_priority(&mut self, priority: Priority) {
        self.tag.set(priority);
        // Fails only on a stream that has ended, which has no place in order any more.
        let _ = self.send.set_priority(priority as i32);
    }

    fn reset(&mut self) {
        self.whole = true;
        // Fails only on a stream that has ended.
        let _ = self.send.reset(VarInt::from_u32(0));
    }

    fn is_stopped(&mut self, cx: &mut Context<'_>) -> bool {
        // Nothing is written by it. Where the window is full, who waits for room is this task.
        let looked = AsyncWrite::poll_write(Pin::new(&mut self.send), cx, &[]);
        !self.whole && matches!(looked, Poll::Ready(Err(_)))
    }
}
