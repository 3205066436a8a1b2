//! Whose an address may be: the networks that one owner is given around it.

use std::net::{IpAddr, Ipv6Addr};

/// Whoever has an address may have all of each of these, from the smallest to the largest.
pub type Networks = [IpAddr; 3];

/// Who has one address of IPv6 has all of its /64, and is often given a /56 or a /48; of IPv4 it may be a /24.
#[must_use]
pub fn around(address: IpAddr) -> Networks {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            let around = IpAddr::from([a, b, c, 0]);
            [address.into(), around, around]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            [d, d & 0xff00, 0].map(|d| Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_around_an_address() {
        let of = |address: &str| around(address.parse().unwrap()).map(|net| net.to_string());
        assert_eq!(of("192.0.2.7"), ["192.0.2.7", "192.0.2.0", "192.0.2.0"]);
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        let nets = ["2001:db8:1:2345::", "2001:db8:1:2300::", "2001:db8:1::"];
        assert_eq!(of("2001:db8:1:2345:6::7"), nets);
    }
}
