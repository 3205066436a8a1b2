//! `wasi:sockets` on the pod network: the guest's side of spoke-net.
//!
//! ```text
//! tcp, udp, names    one resource each          streams    a connection's bytes as wasi:io streams
//! ```
//!
//! No function here blocks: waiting happens in `wasi:io/poll` alone.

mod names;
mod streams;
pub(super) mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use freewheel_spoke_net::{NetError, PodNet};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use crate::memory::Share;
use crate::shutdown::Shutdown;

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

pub(crate) use names::Addresses;

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
            NetError::Refused | NetError::Full(_) | NetError::WayFull(_) => {
                ErrorCode::ConnectionRefused
            }
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
    pub(crate) shutdown: &'a Arc<Shutdown>,
    /// What is counted for the handles.
    pub(crate) handles: &'a mut Share,
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

/// What kind of addresses a socket speaks. The pod network is IPv4; a socket of the other family, which servers
/// open by default that mean both, sees the pod's addresses mapped into its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl From<IpAddressFamily> for Family {
    fn from(family: IpAddressFamily) -> Self {
        match family {
            IpAddressFamily::Ipv4 => Self::V4,
            IpAddressFamily::Ipv6 => Self::V6,
        }
    }
}

impl From<Family> for IpAddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4,
            Family::V6 => Self::Ipv6,
        }
    }
}

impl Family {
    /// The guest's address as the pod network has it.
    fn take(self, address: IpSocketAddress) -> SocketResult<SocketAddr> {
        match (self, address) {
            (Self::V4, IpSocketAddress::Ipv4(_)) | (Self::V6, IpSocketAddress::Ipv6(_)) => {
                let address = to_std(address);
                Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
            }
            _ => Err(ErrorCode::InvalidArgument.into()),
        }
    }

    /// An address of the pod network as the guest sees it.
    fn show(self, address: SocketAddr) -> IpSocketAddress {
        let ip = match (self, address.ip()) {
            (Self::V6, IpAddr::V4(ip)) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
            (Self::V6, IpAddr::V4(ip)) => ip.to_ipv6_mapped().into(),
            (Self::V4, IpAddr::V6(ip)) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            (Self::V4, IpAddr::V6(ip)) if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
            (_, ip) => ip,
        };
        from_std(SocketAddr::new(ip, address.port()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_sees_addresses_of_its_own_family() {
        let show = |family: Family, address: &str| to_std(family.show(address.parse().unwrap()));
        assert_eq!(show(Family::V6, "10.64.0.1:80").to_string(), "[::ffff:10.64.0.1]:80");
        assert_eq!(show(Family::V6, "[::]:80").to_string(), "[::]:80");
        assert_eq!(show(Family::V4, "[::1]:80").to_string(), "127.0.0.1:80");
        let take = |family: Family, address: &str| {
            family.take(from_std(address.parse().unwrap())).ok().map(|taken| taken.to_string())
        };
        assert_eq!(take(Family::V6, "[::ffff:10.64.0.1]:80").unwrap(), "10.64.0.1:80");
        assert_eq!(take(Family::V6, "[::1]:80").unwrap(), "[::1]:80");
        assert_eq!(take(Family::V6, "10.64.0.1:80"), None);
        assert_eq!(take(Family::V4, "[::]:80"), None);
    }
}
