//! Addresses that this host reaches and not everybody does: where a tenant may say whom the hub connects to, what listens
//! there is not the tenant's to reach.
//!
//! Guarantees:
//! - an address is everybody's to reach, or it is said whose it is (`what_not_everybody_reaches_is_kept_from_strangers`), also
//!   where it is written inside of another one (`an_address_inside_of_another_is_looked_at`).

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

/// Where an address leads that is not everybody's to reach; `None` where everybody reaches it.
pub(crate) fn kept_from_strangers(address: IpAddr) -> Option<&'static str> {
    let address = inner(address);
    if is_of_host(address) {
        return Some("the hub's own host or link");
    }
    let (is_private, is_public) = match address {
        IpAddr::V4(it) => (it.is_private() || is_shared(it), is_public_v4(it)),
        IpAddr::V6(it) => (it.is_unique_local(), is_public_v6(it)),
    };
    match (is_private, is_public) {
        (true, _) => Some("a private network"),
        (false, false) => Some("no address of the Internet"),
        (false, true) => None,
    }
}

/// The address that is meant where translators write one inside of another (RFC 6052).
fn inner(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    let IpAddr::V6(it) = address else { return address };
    let [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] = it.octets() else {
        return address;
    };
    Ipv4Addr::new(a, b, c, d).into()
}

/// 100.64.0.0/10 (RFC 6598): what is behind a provider's translator, where some clouds tell a host of itself.
const fn is_shared(it: Ipv4Addr) -> bool {
    matches!(it.octets(), [100, 64..=127, ..])
}

/// What is left of IPv4 without the networks of IANA's registry of special ones.
const fn is_public_v4(it: Ipv4Addr) -> bool {
    !matches!(
        it.octets(),
        [0 | 10 | 127, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [224..=255, ..]
    )
}

/// Global unicast addresses without protocols' own (2001::/23), examples, and what is a tunnel to an IPv4 address.
const fn is_public_v6(it: Ipv6Addr) -> bool {
    matches!(it.segments(), [0x2000..=0x3fff, ..])
        && !matches!(
            it.segments(),
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..]
        )
}

/// Whether an address leads to this host itself, or to its own link.
fn is_of_host(address: IpAddr) -> bool {
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

    #[track_caller]
    fn check(address: &str, leads: Option<&str>) {
        assert_eq!(kept_from_strangers(address.parse().unwrap()), leads, "{address}");
    }

    #[test]
    fn what_not_everybody_reaches_is_kept_from_strangers() {
        for host in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "::1", "fe80::1", "fd00:ec2::254"] {
            check(host, Some("the hub's own host or link"));
        }
        let private = ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.100.100.200", "fd12::1"];
        // One of them may be this very host's.
        let leads = private.map(|address| kept_from_strangers(address.parse().unwrap()));
        assert!(leads.iter().all(Option::is_some), "{leads:?}");
        for nowhere in
            ["198.18.0.1", "224.0.0.1", "240.0.0.1", "2001:db8::1", "2002:a00:1::", "ff02::1"]
        {
            check(nowhere, Some("no address of the Internet"));
        }
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            check(public, None);
        }
    }

    #[test]
    fn an_address_inside_of_another_is_looked_at() {
        check("::ffff:127.0.0.1", Some("the hub's own host or link"));
        check("64:ff9b::a9fe:a9fe", Some("the hub's own host or link"));
        check("64:ff9b::101:101", None);
    }
}
