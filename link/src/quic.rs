//! Connections over QUIC: the only file that names quinn.
//!
//! ```text
//! Endpoint::hub ─accept─▶ Incoming ─finish─▶ Quic      Endpoint::spoke + Dialer ─dial─▶ Quic
//! ```
//!
//! The transport profile is a fleet's: small windows (28 KiB per idle spoke), few streams, an idle
//! timeout below the 40 s after which a silent node is Unknown, address changes allowed.
//! The socket may be somebody else's ([`Datagrams`]), so that a simulation can own the network.

use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AsyncUdpSocket, ConnectionError, EndpointConfig, IdleTimeout, TransportConfig, UdpPoller,
    VarInt,
};
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWrite;
use tracing::warn;

use crate::tls::{HUB_NAME, TlsError};
use crate::transport::{Closed, Dial, DialError, Peer, Priority, SendHalf, Stream, Transport};

/// A node is Unknown after 40 s of silence; the connection is given up before that.
pub const IDLE: Duration = Duration::from_secs(30);
/// A handshake takes a few round trips; one that takes longer holds memory for nobody.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// What a hub asks of the kernel: with its default, 200 spokes on one socket already lose packets.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Handshakes that wait to be taken; more are dropped and come again.
const MAX_PENDING: usize = 8192;
/// Bytes that wait with them.
const MAX_PENDING_BYTES: u64 = 16 << 20;

/// A UDP socket of somebody else's network.
pub trait Datagrams: Debug + Send + Sync + 'static {
    /// Sends one, at once or never.
    fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()>;
    /// Receives one into the buffer: its length and sender.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;
    /// Its own address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Where an endpoint's packets come from.
#[derive(Clone, Debug)]
pub enum Socket {
    /// A UDP socket of this machine, bound to the address.
    Bind(SocketAddr),
    /// A simulated one, with the seed that makes the endpoint repeat itself.
    Simulated(Arc<dyn Datagrams>, [u8; 32]),
}

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
    pub fn hub(socket: Socket, tls: rustls::ServerConfig) -> io::Result<Self> {
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(fleet_transport()))
            .migration(true)
            .max_incoming(MAX_PENDING)
            .incoming_buffer_size(64 << 10)
            .incoming_buffer_size_total(MAX_PENDING_BYTES);
        Ok(Self { inner: bind(socket, Some(server))? })
    }

    /// A spoke's: starts connections.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn spoke(socket: Socket) -> io::Result<Self> {
        Ok(Self { inner: bind(socket, None)? })
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
        match tokio::time::timeout(HANDSHAKE * 2, connecting).await {
            Ok(Ok(connection)) => Ok(Quic(connection)),
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

    /// Goes through the handshake, for [`HANDSHAKE`] at most.
    ///
    /// # Errors
    /// When the other side does not or cannot.
    pub async fn finish(self) -> Result<Quic, Closed> {
        let connecting = self.0.accept().map_err(closed)?;
        match tokio::time::timeout(HANDSHAKE, connecting).await {
            Ok(Ok(connection)) => Ok(Quic(connection)),
            Ok(Err(error)) => Err(closed(error)),
            Err(_) => Err(Closed::TimedOut),
        }
    }
}

/// A QUIC connection.
#[derive(Clone, Debug)]
pub struct Quic(quinn::Connection);

impl Quic {
    /// The application protocol agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<Vec<u8>> {
        self.0.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
    }

    /// Bytes of UDP payload sent and received so far.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let stats = self.0.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }
}

#[async_trait]
impl Transport for Quic {
    async fn open(&self, priority: Priority) -> Result<Stream, Closed> {
        let (send, recv) = self.0.open_bi().await.map_err(closed)?;
        let mut send = Half(send);
        send.set_priority(priority);
        Ok(Stream { send: Box::new(send), recv: Box::new(recv) })
    }

    async fn accept(&self) -> Result<Stream, Closed> {
        let (send, recv) = self.0.accept_bi().await.map_err(closed)?;
        Ok(Stream { send: Box::new(Half(send)), recv: Box::new(recv) })
    }

    fn send_datagram(&self, bytes: Bytes) {
        // Lost is lost: the next one says the same. A dead connection shows itself elsewhere.
        let _ = self.0.send_datagram(bytes);
    }

    async fn datagram(&self) -> Result<Bytes, Closed> {
        self.0.read_datagram().await.map_err(closed)
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.close(VarInt::from_u32(code), reason.as_bytes());
    }

    async fn closed(&self) -> Closed {
        closed(self.0.closed().await)
    }

    fn peer(&self) -> Peer {
        let chain = self
            .0
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        Peer {
            address: self.0.remote_address(),
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
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .max_concurrent_bidi_streams(VarInt::from_u32(256))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(256 << 10))
        .receive_window(VarInt::from_u32(1 << 20))
        .send_window(1 << 20)
        .datagram_receive_buffer_size(Some(16 << 10))
        .datagram_send_buffer_size(16 << 10);
    transport
}

fn bind(socket: Socket, server: Option<quinn::ServerConfig>) -> io::Result<quinn::Endpoint> {
    let runtime = Arc::new(quinn::TokioRuntime);
    match socket {
        Socket::Bind(address) => {
            let big = server.is_some();
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(address),
                socket2::Type::DGRAM,
                Some(socket2::Protocol::UDP),
            )?;
            if big {
                grow(&socket)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            quinn::Endpoint::new(EndpointConfig::default(), server, socket.into(), runtime)
        }
        Socket::Simulated(datagrams, seed) => {
            let mut config = EndpointConfig::default();
            config.rng_seed(Some(seed));
            let socket = Arc::new(Simulated(datagrams));
            quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime)
        }
    }
}

/// Asks for [`RECEIVE_BUFFER`]; a kernel that gives less makes storms lose packets.
fn grow(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    let got = socket.recv_buffer_size()?;
    if got < RECEIVE_BUFFER {
        warn!(
            wanted = RECEIVE_BUFFER,
            got,
            "the kernel caps the UDP receive buffer: raise net.core.rmem_max, or many spokes at once will lose packets"
        );
    }
    Ok(())
}

fn closed(error: ConnectionError) -> Closed {
    match error {
        ConnectionError::ApplicationClosed(close) => Closed::ByPeer {
            code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
            reason: String::from_utf8_lossy(&close.reason).chars().take(256).collect(),
        },
        ConnectionError::LocallyClosed => Closed::Here,
        ConnectionError::TimedOut => Closed::TimedOut,
        other => Closed::Failed(other.to_string()),
    }
}

struct Half(quinn::SendStream);

impl AsyncWrite for Half {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.0), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl SendHalf for Half {
    fn set_priority(&mut self, priority: Priority) {
        // Fails only on a stream that has ended, which has no place in order any more.
        let _ = self.0.set_priority(priority as i32);
    }

    fn reset(&mut self) {
        let _ = self.0.reset(VarInt::from_u32(0));
    }
}

/// Somebody else's network as quinn sees one.
#[derive(Debug)]
struct Simulated(Arc<dyn Datagrams>);

impl AsyncUdpSocket for Simulated {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.send(transmit.destination, transmit.contents)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        match self.0.poll_recv(cx, buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok((len, addr))) => {
                *meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                Poll::Ready(Ok(1))
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Any port of any address, for spokes.
#[must_use]
pub const fn any_port() -> Socket {
    Socket::Bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
}
