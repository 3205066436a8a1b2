//! IP addresses and ranges of them.

use std::net::IpAddr;
use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;

use super::function::{Table, added, no_overload, one, one_text};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ip(IpAddr);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Opaque for Ip {
    fn runtime_type_name(&self) -> &str {
        "net.IP"
    }
}

impl Opaque for Cidr {
    fn runtime_type_name(&self) -> &str {
        "net.CIDR"
    }
}

pub(super) const FUNCTIONS: Table = &[
    ("ip", |values, _| match one(values)? {
        Value::String(text) => parsed(text).map(made),
        value => added::<Cidr>(value).map(|cidr| made(cidr.address)),
    }),
    ("isIP", |values, _| Ok(Value::Bool(read(one_text(values)?).is_some()))),
    ("ip.isCanonical", |values, _| {
        let text = one_text(values)?;
        Ok(Value::Bool(parsed(text)?.to_string() == text))
    }),
    ("family", |values, _| ask(values, |ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))),
    ("isUnspecified", |values, _| ask(values, |ip| Value::Bool(ip.is_unspecified()))),
    ("isLoopback", |values, _| ask(values, |ip| Value::Bool(ip.is_loopback()))),
    ("isLinkLocalMulticast", |values, _| ask(values, |ip| Value::Bool(is_local_multicast(ip)))),
    ("isLinkLocalUnicast", |values, _| ask(values, |ip| Value::Bool(is_local_unicast(ip)))),
    ("isGlobalUnicast", |values, _| {
        ask(values, |ip| {
            let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
            let plain = !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast();
            Value::Bool(plain && !broadcast && !is_local_unicast(ip))
        })
    }),
    ("cidr", |values, _| {
        let text = one_text(values)?;
        let found = range(text);
        let why = || format!("network address parse error during conversion from string: {text:?}");
        found.map(|cidr| Value::Opaque(Arc::new(cidr))).ok_or_else(why)
    }),
    ("isCIDR", |values, _| Ok(Value::Bool(range(one_text(values)?).is_some()))),
    ("containsIP", |values, _| {
        let [cidr, ip] = values else { return no_overload() };
        let ip = match ip {
            Value::String(text) => parsed(text)?,
            ip => added::<Ip>(ip)?.0,
        };
        Ok(Value::Bool(added::<Cidr>(cidr)?.holds(ip)))
    }),
    ("containsCIDR", |values, _| {
        let [cidr, other] = values else { return no_overload() };
        let other = match other {
            Value::String(text) => {
                range(text).ok_or("network address parse error during conversion from string")?
            }
            other => added::<Cidr>(other)?.clone(),
        };
        let cidr = added::<Cidr>(cidr)?;
        Ok(Value::Bool(cidr.bits <= other.bits && cidr.holds(other.address)))
    }),
    ("prefixLength", |values, _| Ok(Value::Int(added::<Cidr>(one(values)?)?.bits.into()))),
    ("masked", |values, _| {
        let Cidr { address, bits } = *added::<Cidr>(one(values)?)?;
        Ok(Value::Opaque(Arc::new(Cidr { address: masked(address, bits), bits })))
    }),
];

fn parsed(text: &str) -> Result<IpAddr, String> {
    read(text)
        .ok_or_else(|| format!("IP Address {text:?} parse error during conversion from string"))
}

fn read(text: &str) -> Option<IpAddr> {
    // An address of the older kind in one of the newer is none, and neither is one with a zone.
    let ip = text.parse::<IpAddr>().ok()?;
    let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    (!mapped).then_some(ip)
}

fn range(text: &str) -> Option<Cidr> {
    let (address, bits) = text.split_once('/')?;
    let address = read(address)?;
    let plain =
        bits.bytes().all(|b| b.is_ascii_digit()) && (bits.len() == 1 || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok().filter(|_| plain)?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Cidr { address, bits })
}

fn is_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(ip) => ((u128::from(ip) >> 112) & 0xff0f) == 0xff02,
    }
}

fn is_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

impl Cidr {
    fn holds(&self, ip: IpAddr) -> bool {
        let same_kind = self.address.is_ipv4() == ip.is_ipv4();
        same_kind && masked(self.address, self.bits) == masked(ip, self.bits)
    }
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or_default();
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or_default();
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

fn made(ip: IpAddr) -> Value {
    Value::Opaque(Arc::new(Ip(ip)))
}

fn ask(values: &[Value], answer: impl Fn(IpAddr) -> Value) -> Result<Value, String> {
    added::<Ip>(one(values)?).map(|ip| answer(ip.0))
}
