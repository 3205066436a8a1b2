//! Where a swarm's hub is, and how its spokes come in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use freewheel_link::digest::Digest;
use freewheel_link::join::Token;
use serde::{Deserialize, Deserializer};

/// What a swarm is made with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// `HOST:PORT` of the hub's link.
    pub hub: String,
    /// Of the hub's CA, `sha256:…`.
    #[serde(deserialize_with = "digest")]
    pub ca_hash: Digest,
    /// Tokens that accept whoever joins with them, taken in turns: a hub lets few join with one token at a time.
    pub tokens: Vec<Token>,
    /// Names are this, `-` and a number from 0.
    pub prefix: String,
    /// Spokes that share a UDP socket.
    #[serde(default = "spokes_per_socket")]
    pub per_socket: usize,
}

/// A kernel's usual receive buffer takes a packet for each at once.
const fn spokes_per_socket() -> usize {
    20
}

fn digest<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

impl Order {
    /// With as many spokes on a socket as usual.
    #[must_use]
    pub fn new(hub: String, ca_hash: Digest, tokens: Vec<Token>, prefix: &str) -> Self {
        Self { hub, ca_hash, tokens, prefix: prefix.to_owned(), per_socket: spokes_per_socket() }
    }

    /// Where the socket of this number is. Beside a hub on loopback each has an address of its own, as devices do: what a
    /// hub bounds by address it does not bound for all of them together.
    pub(crate) fn address(&self, socket: usize) -> SocketAddr {
        let is_local = self.hub.parse().is_ok_and(|hub: SocketAddr| hub.ip().is_loopback());
        let number = u16::try_from(socket % 62_500).unwrap_or_default();
        let [high, low] =
            [number / 250, number % 250].map(|part| u8::try_from(part).unwrap_or_default());
        let own =
            if is_local { Ipv4Addr::new(127, 200, high, low + 1) } else { Ipv4Addr::UNSPECIFIED };
        (IpAddr::V4(own), 0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(hub: &str) -> Order {
        let token = "abcdef.0123456789abcdef".parse().unwrap();
        Order::new(hub.to_owned(), Digest::of(b"ca"), vec![token], "swarm")
    }

    #[test]
    fn sockets_beside_a_hub_on_loopback_have_addresses_of_their_own() {
        let local = order("127.0.0.1:6444");
        let all: std::collections::BTreeSet<_> = (0..1000).map(|n| local.address(n)).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|address| address.ip().is_loopback()));
        assert_eq!(order("192.0.2.1:6444").address(7).ip(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(order("hub.example.com:6444").address(7).port(), 0);
    }

    #[test]
    fn an_order_is_read_and_nothing_else() {
        let json = |hash: &str| {
            serde_json::json!({
                "hub": "127.0.0.1:1", "ca_hash": hash, "tokens": ["abcdef.0123456789abcdef"], "prefix": "s",
            })
        };
        let read = |value| serde_json::from_value::<Order>(value);
        let good = Digest::of(b"ca").to_string();
        assert_eq!(read(json(&good)).unwrap().per_socket, 20);
        assert!(read(json("sha256:12")).is_err());
        let mut more = json(&good);
        more["other"] = 1.into();
        assert!(read(more).is_err());
    }
}
