//! Addresses that lead to this host itself: what listens there for the host alone is nobody else's to reach.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Where clouds tell a host of itself, and of its secrets: a unique local address, and meant for the host alone.
const CLOUD_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether an address is one of this host's interfaces: only from there does what is sent to it come from itself. Nothing
/// is sent.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    source().is_ok_and(|source| source == address)
}

/// Whether an address leads to this host itself, or to its own link.
pub(crate) fn is_of_host(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if is_own(address) {
        return true;
    }
    match address {
        IpAddr::V4(it) => {
            it.is_loopback() || it.is_unspecified() || it.is_link_local() || it.is_broadcast()
        }
        IpAddr::V6(it) => {
            let is_metadata = it == CLOUD_METADATA;
            it.is_loopback() || it.is_unspecified() || it.is_unicast_link_local() || is_metadata
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_an_interface_is_the_hosts_own() {
        for own in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert!(is_own(own.parse::<IpAddr>().unwrap().to_canonical()), "{own}");
        }
        // The one by which this host would leave, where it can.
        let leaves = UdpSocket::bind("0.0.0.0:0").unwrap();
        if leaves.connect("203.0.113.7:9").is_ok() {
            assert!(is_of_host(leaves.local_addr().unwrap().ip()));
        }
        assert!(is_of_host("fd00:ec2::254".parse().unwrap()));
        assert!(!is_own("203.0.113.7".parse().unwrap()), "somebody else's");
    }
}
