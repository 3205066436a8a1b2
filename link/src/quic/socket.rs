//! Where an endpoint's packets come from: a UDP socket of this machine, or somebody else's network.

use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, EndpointConfig, UdpPoller};
use tracing::warn;

/// What a hub asks of the kernel: with its default, 200 spokes on one socket already lose packets.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

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

pub(super) fn bind(
    socket: Socket,
    mut config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
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
            quinn::Endpoint::new(config, server, socket.into(), runtime)
        }
        Socket::Simulated(datagrams, seed) => {
            config.rng_seed(Some(seed));
            let socket = Arc::new(Simulated(datagrams));
            quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime)
        }
    }
}

/// Asks for [`RECEIVE_BUFFER_BYTES`]; a kernel that gives less makes storms lose packets.
fn grow(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    let got = socket.recv_buffer_size()?;
    if got < RECEIVE_BUFFER_BYTES {
        warn!(
            wanted = RECEIVE_BUFFER_BYTES,
            got,
            "the kernel caps the UDP receive buffer: raise net.core.rmem_max, or many spokes at once will lose packets"
        );
    }
    Ok(())
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
