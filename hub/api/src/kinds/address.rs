//! Addresses that lead nowhere from elsewhere, and so may not be anybody's endpoint.

use std::net::{IpAddr, Ipv4Addr};

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

use super::accessors::text;

/// The mistake in an endpoint's address, if there is one; what is no address at all is somebody else's matter.
pub(super) fn check_special(address: &str, at: &str) -> Option<FieldError> {
    let ip: IpAddr = address.parse().ok()?;
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    // The multicast of one link: routers pass on the rest.
    let multicast = match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [224, 0, 0, _]),
        IpAddr::V6(ip) => matches!(ip.segments(), [first, ..] if first & 0xff0f == 0xff02),
    };
    let why = if ip.is_unspecified() {
        format!("may not be unspecified ({address})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return None;
    };
    Some(FieldError::invalid(at, &json!(address), &why))
}

/// Whether an EndpointSlice of IPv4 addresses may have this one, which is somebody's word.
#[must_use]
pub fn may_be_endpoint(address: &str) -> bool {
    address.parse::<Ipv4Addr>().is_ok() && check_special(address, "").is_none()
}

/// Whether this leads to the hub itself, whose address may be a loopback one where all runs on one machine.
pub(super) fn leads_to_the_hub(object: &Value) -> bool {
    (text(object, "/metadata/namespace"), text(object, "/metadata/name"))
        == ("default", "kubernetes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_nowhere_from_elsewhere_is_no_endpoint() {
        for (address, valid) in [
            ("10.0.0.1", true),
            ("239.1.2.3", true),
            ("2001:db8::1", true),
            ("no address", true),
            ("0.0.0.0", false),
            ("::", false),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("::1", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
            ("224.0.0.7", false),
            ("ff02::1", false),
        ] {
            assert_eq!(check_special(address, "a").is_none(), valid, "{address}");
        }
    }
}
