//! Addresses and ranges of them.

use std::net::IpAddr;

use freewheel_hub_schema::error::FieldError;

use crate::kinds::field_value::FieldValue;

/// A range of addresses: its first one as it was written, and how many bits all of it share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    address: IpAddr,
    bits: u32,
}

impl Cidr {
    /// `10.0.0.0/8`
    pub(super) fn read(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
        let plain = text.bytes().last().is_some_and(|b| b.is_ascii_digit());
        let most = if address.is_ipv4() { 32 } else { 128 };
        (plain && bits <= most).then_some(Self { address, bits })
    }

    /// Whether it is of addresses of the newer, longer sort.
    pub(super) fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    /// Whether the other one is a part of it, and not all of it.
    pub(super) fn has_part(self, other: Self) -> bool {
        let same = self.is_ipv6() == other.is_ipv6();
        same && self.bits < other.bits
            && self.prefix_of(self.address) == self.prefix_of(other.address)
    }

    /// Whether it is written with its first address.
    fn is_exact(self) -> bool {
        let wide = if self.is_ipv6() { 128 } else { 32 };
        number(self.address).checked_shl(128 - wide + self.bits).unwrap_or(0) == 0
    }

    fn prefix_of(self, address: IpAddr) -> u128 {
        let wide = if self.is_ipv6() { 128 } else { 32 };
        number(address).checked_shr(wide - self.bits).unwrap_or(0)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// A range that older clients may have written in any way.
pub(super) fn check_range(at: &FieldValue<'_>) -> Option<FieldError> {
    let text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    Cidr::read(at.text()).is_none().then(|| at.invalid(text))
}

/// A range in its one proper form.
pub(super) fn check_exact_range(at: &FieldValue<'_>) -> Option<FieldError> {
    let Some(range) = Cidr::read(at.text()) else { return check_range(at) };
    let text = "must not have bits set beyond the prefix length";
    (!range.is_exact()).then(|| at.invalid(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges() {
        let read = |text| Cidr::read(text).unwrap();
        assert!(read("10.0.0.0/8").has_part(read("10.1.0.0/16")));
        assert!(!read("10.0.0.0/8").has_part(read("10.0.0.0/8")));
        assert!(!read("10.0.0.0/8").has_part(read("11.0.0.0/16")));
        assert!(read("::/0").has_part(read("2001:db8::/64")));
        assert!(read("0.0.0.0/0").has_part(read("10.0.0.0/8")));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/", "::/129"] {
            assert_eq!(Cidr::read(wrong), None, "{wrong}");
        }
        for (range, exact) in [
            ("10.0.0.0/8", true),
            ("10.0.0.1/8", false),
            ("10.0.0.1/32", true),
            ("0.0.0.0/0", true),
            ("2001:db8::/64", true),
            ("2001:db8::1/64", false),
            ("::/0", true),
            ("::1/128", true),
        ] {
            let value = json!(range);
            assert_eq!(check_exact_range(&FieldValue::at(&value, "c")).is_none(), exact, "{range}");
        }
    }
}
