//! `wasi:sockets` on the pod network: the guest's side of spoke-net.
//!
//! ```text
//! tcp, udp, names    one resource each          streams    a connection's bytes as wasi:io streams
//! ```
//!
//! No function here blocks: waiting happens in `wasi:io/poll` alone.

mod names;
mod streams;
mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use freewheel_spoke_net::{NetError, PodNet};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use crate::life::Life;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "freewheel:net/net",
        imports: { default: trappable },
        trappable_error_type: { "wasi:sockets/network.error-code" => super::SocketError },
        with: {
            "wasi:io/error": wasmtime_wasi_io::bindings::wasi::io::error,
            "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
            "wasi:io/streams": wasmtime_wasi_io::bindings::wasi::io::streams,
            "wasi:clocks/monotonic-clock": wasmtime_wasi::p2::bindings::clocks::monotonic_clock,
            "wasi:sockets/network.network": super::Network,
            "wasi:sockets/tcp.tcp-socket": super::tcp::TcpSocket,
            "wasi:sockets/udp.udp-socket": super::udp::UdpSocket,
            "wasi:sockets/udp.incoming-datagram-stream": super::udp::Incoming,
            "wasi:sockets/udp.outgoing-datagram-stream": super::udp::Outgoing,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": super::names::Addresses,
        },
        require_store_data_send: true,
    });
}

use bindings::wasi::sockets::network::{
    self, ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
    Ipv6SocketAddress,
};
use bindings::wasi::sockets::{
    instance_network, ip_name_lookup, tcp as tcp_wit, tcp_create_socket, udp as udp_wit,
    udp_create_socket,
};

/// The network of the pod; there is one, so the handle says nothing.
pub struct Network;

/// What a call to a socket failed with.
pub enum SocketError {
    /// The guest is told.
    Code(ErrorCode),
    /// The guest ends: it used a handle that is not one.
    Trap(wasmtime::Error),
}

type SocketResult<T> = Result<T, SocketError>;

impl From<ErrorCode> for SocketError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<ResourceTableError> for SocketError {
    fn from(error: ResourceTableError) -> Self {
        match error {
            // More handles than a guest may hold is its problem, not its end.
            ResourceTableError::Full => Self::Code(ErrorCode::NewSocketLimit),
            error => Self::Trap(error.into()),
        }
    }
}

impl From<wasmtime::Error> for SocketError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<NetError> for SocketError {
    fn from(error: NetError) -> Self {
        Self::Code(match error {
            NetError::Refused => ErrorCode::ConnectionRefused,
            NetError::Unreachable => ErrorCode::RemoteUnreachable,
            NetError::InUse => ErrorCode::AddressInUse,
            NetError::NotBindable => ErrorCode::AddressNotBindable,
            NetError::Reset => ErrorCode::ConnectionReset,
            NetError::Denied => ErrorCode::AccessDenied,
            NetError::Invalid => ErrorCode::InvalidArgument,
            NetError::NameUnknown => ErrorCode::NameUnresolvable,
            NetError::TooMany => ErrorCode::NewSocketLimit,
            NetError::Timeout => ErrorCode::Timeout,
        })
    }
}

/// What the calls work on.
pub(crate) struct NetView<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) pod: &'a Arc<PodNet>,
    pub(crate) life: &'a Arc<Life>,
}

/// A store's data with a pod network in it.
pub(crate) trait HasNet: Send {
    /// The view for one call.
    fn net(&mut self) -> NetView<'_>;
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = NetView<'a>;
}

/// Gives the guest all of `wasi:sockets`.
pub(crate) fn add_to_linker<T: HasNet + 'static>(l: &mut Linker<T>) -> wasmtime::Result<()> {
    network::add_to_linker::<T, HasView>(l, &network::LinkOptions::default(), T::net)?;
    instance_network::add_to_linker::<T, HasView>(l, T::net)?;
    tcp_wit::add_to_linker::<T, HasView>(l, T::net)?;
    tcp_create_socket::add_to_linker::<T, HasView>(l, T::net)?;
    udp_wit::add_to_linker::<T, HasView>(l, T::net)?;
    udp_create_socket::add_to_linker::<T, HasView>(l, T::net)?;
    ip_name_lookup::add_to_linker::<T, HasView>(l, T::net)?;
    Ok(())
}

impl network::Host for NetView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        match error {
            SocketError::Code(code) => Ok(code),
            SocketError::Trap(error) => Err(error),
        }
    }

    fn network_error_code(
        &mut self,
        _error: Resource<wasmtime_wasi_io::bindings::wasi::io::error::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(None)
    }
}

impl network::HostNetwork for NetView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl instance_network::Host for NetView<'_> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        Ok(self.table.push(Network)?)
    }
}

/// The pod network is IPv4; a guest that asks for the other hears so and, like every libc, tries IPv4.
fn supported(family: IpAddressFamily) -> SocketResult<()> {
    match family {
        IpAddressFamily::Ipv4 => Ok(()),
        IpAddressFamily::Ipv6 => Err(ErrorCode::NotSupported.into()),
    }
}

fn positive(value: u64) -> SocketResult<()> {
    if value == 0 { Err(ErrorCode::InvalidArgument.into()) } else { Ok(()) }
}

fn to_std(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) }) => {
            SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port)
        }
        IpSocketAddress::Ipv6(Ipv6SocketAddress { port, address: a, .. }) => {
            SocketAddr::new(Ipv6Addr::new(a.0, a.1, a.2, a.3, a.4, a.5, a.6, a.7).into(), port)
        }
    }
}

fn from_ip(ip: IpAddr) -> IpAddress {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            IpAddress::Ipv4((a, b, c, d))
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h] = ip.segments();
            IpAddress::Ipv6((a, b, c, d, e, f, g, h))
        }
    }
}

fn from_std(address: SocketAddr) -> IpSocketAddress {
    let port = address.port();
    match from_ip(address.ip()) {
        IpAddress::Ipv4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }),
        IpAddress::Ipv6(address) => {
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 })
        }
    }
}
