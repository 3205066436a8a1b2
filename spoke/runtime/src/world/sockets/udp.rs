//! `wasi:sockets/udp`.

use std::net::SocketAddr;
use std::sync::Arc;

use freewheel_spoke_net::{DATAGRAM_BYTES_MAX, UdpPort};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::udp_create_socket;
use super::udp_wit::{self as wit, IncomingDatagram, OutgoingDatagram};
use super::{
    ErrorCode, Family, IpAddressFamily, IpSocketAddress, NetView, Network, SocketResult, positive,
};

/// Datagrams of one call.
const DATAGRAMS_PER_CALL: u64 = 16;

const BUFFER_BYTES: u64 = 64 << 10;

/// A UDP socket of a guest.
pub struct UdpSocket {
    family: Family,
    port: Option<Arc<UdpPort>>,
    remote: Option<SocketAddr>,
    binding: bool,
}

/// What arrives on a socket: from anybody, or from its peer.
pub struct Incoming {
    family: Family,
    port: Arc<UdpPort>,
    remote: Option<SocketAddr>,
}

/// What a socket sends: to anybody, or to its peer.
pub struct Outgoing {
    family: Family,
    port: Arc<UdpPort>,
    remote: Option<SocketAddr>,
}

#[async_trait::async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.port.poll_ready(cx)).await;
    }
}

#[async_trait::async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {}
}

type Socket = Resource<UdpSocket>;

impl udp_create_socket::Host for NetView<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Socket> {
        let family = family.into();
        Ok(self.table.push(UdpSocket { family, port: None, remote: None, binding: false })?)
    }
}

impl wit::Host for NetView<'_> {}

impl wit::HostUdpSocket for NetView<'_> {
    fn start_bind(
        &mut self,
        this: Socket,
        _network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        if socket.port.is_some() {
            return Err(ErrorCode::InvalidState.into());
        }
        socket.port = Some(self.pod.bind_udp(socket.family.take(address)?)?);
        socket.binding = true;
        Ok(())
    }

    fn finish_bind(&mut self, this: Socket) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        if std::mem::take(&mut socket.binding) {
            Ok(())
        } else {
            Err(ErrorCode::NotInProgress.into())
        }
    }

    fn stream(
        &mut self,
        this: Socket,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<Incoming>, Resource<Outgoing>)> {
        let socket = self.table.get_mut(&this)?;
        let family = socket.family;
        let remote = remote.map(|remote| family.take(remote)).transpose()?;
        let Some(port) = socket.port.clone() else { return Err(ErrorCode::InvalidState.into()) };
        if remote.is_some_and(|remote| remote.port() == 0 || remote.ip().is_unspecified()) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        socket.remote = remote;
        let incoming = Incoming { family, port: port.clone(), remote };
        let incoming = self.table.push_child(incoming, &this)?;
        let outgoing = self.table.push_child(Outgoing { family, port, remote }, &this)?;
        Ok((incoming, outgoing))
    }

    fn local_address(&mut self, this: Socket) -> SocketResult<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match &socket.port {
            Some(port) => Ok(socket.family.show(port.address())),
            None => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Socket) -> SocketResult<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        let remote = socket.remote.map(|remote| socket.family.show(remote));
        remote.ok_or(ErrorCode::InvalidState.into())
    }

    fn address_family(&mut self, this: Socket) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family.into())
    }

    fn unicast_hop_limit(&mut self, _this: Socket) -> SocketResult<u8> {
        Ok(64)
    }

    fn set_unicast_hop_limit(&mut self, _this: Socket, value: u8) -> SocketResult<()> {
        positive(value.into())
    }

    fn receive_buffer_size(&mut self, _this: Socket) -> SocketResult<u64> {
        Ok(BUFFER_BYTES)
    }

    fn set_receive_buffer_size(&mut self, _this: Socket, value: u64) -> SocketResult<()> {
        positive(value)
    }

    fn send_buffer_size(&mut self, _this: Socket) -> SocketResult<u64> {
        Ok(BUFFER_BYTES)
    }

    fn set_send_buffer_size(&mut self, _this: Socket, value: u64) -> SocketResult<()> {
        positive(value)
    }

    fn subscribe(&mut self, this: Socket) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Socket) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl wit::HostIncomingDatagramStream for NetView<'_> {
    fn receive(
        &mut self,
        this: Resource<Incoming>,
        max: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let stream = self.table.get(&this)?;
        let mut out = Vec::new();
        while (out.len() as u64) < max.min(DATAGRAMS_PER_CALL) {
            let Some((bytes, from)) = stream.port.try_recv() else { break };
            if stream.remote.is_some_and(|remote| remote != from) {
                continue;
            }
            out.push(IncomingDatagram {
                data: bytes.into(),
                remote_address: stream.family.show(from),
            });
        }
        Ok(out)
    }

    fn subscribe(&mut self, this: Resource<Incoming>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Incoming>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl wit::HostOutgoingDatagramStream for NetView<'_> {
    fn check_send(&mut self, _this: Resource<Outgoing>) -> SocketResult<u64> {
        Ok(DATAGRAMS_PER_CALL)
    }

    fn send(
        &mut self,
        this: Resource<Outgoing>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let stream = self.table.get(&this)?;
        let mut sent = 0;
        for datagram in datagrams {
            let asked = datagram.remote_address;
            let asked = asked.map(|asked| stream.family.take(asked)).transpose()?;
            let to = match (asked, stream.remote) {
                (Some(asked), Some(remote)) if asked != remote => None,
                (asked, remote) => asked.or(remote),
            };
            let Some(to) = to else { return Err(ErrorCode::InvalidArgument.into()) };
            if DATAGRAM_BYTES_MAX < datagram.data.len() {
                return Err(ErrorCode::DatagramTooLarge.into());
            }
            let outcome = self.pod.send_udp(&stream.port, to, datagram.data.into());
            match outcome {
                Ok(()) => sent += 1,
                // What went before is told first; the error comes with the next call.
                Err(_) if 0 < sent => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, this: Resource<Outgoing>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Outgoing>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
