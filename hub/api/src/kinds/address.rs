//! Addresses as people may write them, and those that lead nowhere from elsewhere, and so may not be anybody's endpoint.

use std::net::{IpAddr, Ipv4Addr};

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

use super::accessors::text;

pub(super) const NO_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// The mistake in how an address is written, if there is one. One of IPv4 in the form of IPv6 is two addresses to two
/// readers.
pub(super) fn check_written(address: &str, at: &str) -> Option<FieldError> {
    let why = match address.parse::<IpAddr>() {
        Ok(ip) if ip.to_canonical() == ip => return None,
        Ok(_) => "must not be an IPv4-mapped IPv6 address",
        Err(_) => NO_IP,
    };
    Some(FieldError::invalid(at, &json!(address), why))
}

/// The same of a place where it may be written in one way only.
pub(super) fn check_canonical(address: &str, at: &str) -> Option<FieldError> {
    if let Some(wrong) = check_written(address, at) {
        return Some(wrong);
    }
    let canonical = address.parse::<IpAddr>().ok()?.to_string();
    let why = format!("must be in canonical form ({canonical:?})");
    (canonical != address).then(|| FieldError::invalid(at, &json!(address), &why))
}

/// The mistake in an endpoint's address, if there is one; what is no address at all is somebody else's matter.
pub(super) fn check_special(address: &str, at: &str) -> Option<FieldError> {
    // Whoever dials ::ffff:127.0.0.1 reaches 127.0.0.1.
    let ip = address.parse::<IpAddr>().ok()?.to_canonical();
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
            ("::ffff:10.0.0.1", true),
            ("::ffff:0.0.0.0", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:e000:1", false),
        ] {
            assert_eq!(check_special(address, "a").is_none(), valid, "{address}");
        }
    }

    #[test]
    fn an_address_has_one_reader() {
        let said = |found: Option<FieldError>| found.map(|error| error.message).unwrap_or_default();
        for (address, written, canonical) in [
            ("10.0.0.1", "", ""),
            ("2001:db8::1", "", ""),
            ("2001:DB8:0::1", "", "must be in canonical form (\"2001:db8::1\")"),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address", "IPv4-mapped"),
            ("010.0.0.1", NO_IP, NO_IP),
            ("", NO_IP, NO_IP),
        ] {
            for (found, wanted) in [
                (said(check_written(address, "a")), written),
                (said(check_canonical(address, "a")), canonical),
            ] {
                assert_eq!(found.is_empty(), wanted.is_empty(), "{address}: {found}");
                assert!(found.contains(wanted), "{address}: {found}");
            }
        }
    }
}
