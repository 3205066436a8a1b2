//! EndpointSlice: the addresses behind a Service with their conditions.

use std::collections::BTreeSet;
use std::net::IpAddr;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Concern, Kind, Strategy};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, column, items, list, name, set_default, text};
use super::address::{check_canonical, check_special, check_written, leads_to_the_hub};
use super::endpoints::shorten;

/// Most endpoints in one slice.
pub const MAX_ENDPOINTS: usize = 1000;
/// Most ports of one slice.
pub const MAX_PORTS: usize = 20_000;
/// Most addresses or ports in a cell of a table.
const CELL_ITEMS_MAX: usize = 3;
const FAMILIES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const COLUMNS: &[Column] = &[
    NAME,
    column("AddressType", "string", "Family of its addresses."),
    column("Ports", "string", "Ports of every endpoint."),
    column("Endpoints", "string", "Addresses."),
    AGE,
];

/// EndpointSlice of discovery.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("discovery.k8s.io", "v1", "EndpointSlice"), "endpointslices", Rules)
        .concerns(Concern::Everybody)
        .columns(COLUMNS)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else { return };
        for port in items(object, "ports") {
            set_default(port, "name", "");
            set_default(port, "protocol", "TCP");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let family = text(object, "/addressType");
        if family.is_empty() {
            errors.push(FieldError::required("addressType", ""));
        } else if !FAMILIES.contains(&family) {
            errors.push(FieldError::not_supported("addressType", &json!(family), FAMILIES));
        }
        let endpoints = list(object, "/endpoints");
        if endpoints.len() > MAX_ENDPOINTS {
            errors.push(FieldError::too_many("endpoints", endpoints.len(), MAX_ENDPOINTS));
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            let at = format!("endpoints[{i}]");
            errors.extend(check_endpoint(&at, endpoint, family, leads_to_the_hub(object)));
        }
        errors.extend(check_ports(list(object, "/ports")));
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if new.get("addressType") == old.get("addressType") {
            return Vec::new();
        }
        let family = json!(text(new, "/addressType"));
        vec![FieldError::invalid("addressType", &family, "field is immutable")]
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let family = text(object, "/addressType");
        let ports: Vec<_> = list(object, "/ports").iter().map(port_text).collect();
        let addresses: Vec<_> = list(object, "/endpoints")
            .iter()
            .flat_map(|e| list(e, "/addresses"))
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        let cell = |all: &[String]| match all {
            [] => "<unset>".to_owned(),
            all => shorten(all, CELL_ITEMS_MAX),
        };
        vec![
            name(object),
            family.into(),
            cell(&ports).into(),
            cell(&addresses).into(),
            age(object, now),
        ]
    }
}

fn port_text(port: &Value) -> String {
    port.get("port").and_then(Value::as_i64).map_or_else(|| "*".to_owned(), |p| p.to_string())
}

fn check_endpoint(path: &str, endpoint: &Value, family: &str, ours: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let addresses = list(endpoint, "/addresses");
    if addresses.is_empty() {
        let text = "must contain at least 1 address";
        errors.push(FieldError::required(format!("{path}.addresses"), text));
    }
    for (i, address) in addresses.iter().enumerate() {
        let raw = address.as_str().unwrap_or_default();
        let at = format!("{path}.addresses[{i}]");
        let (wrong, is_ip) = match family {
            "IPv4" => (check_written(raw, &at).or_else(|| check_family(raw, &at, true)), true),
            "IPv6" => (check_canonical(raw, &at).or_else(|| check_family(raw, &at, false)), true),
            "FQDN" if !names::dns_subdomain(raw).is_empty() => (
                Some(FieldError::invalid(at.clone(), address, "must be a fully qualified name")),
                false,
            ),
            _ => (None, false),
        };
        if wrong.is_none() && is_ip && !ours {
            errors.extend(check_special(raw, &at));
        }
        errors.extend(wrong);
    }
    errors
}

fn check_family(address: &str, at: &str, is_ipv4: bool) -> Option<FieldError> {
    let ip = address.parse::<IpAddr>().ok()?;
    let wanted = if is_ipv4 { "must be an IPv4 address" } else { "must be an IPv6 address" };
    (ip.is_ipv4() != is_ipv4).then(|| FieldError::invalid(at, &json!(address), wanted))
}

fn check_ports(ports: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if ports.len() > MAX_PORTS {
        return vec![FieldError::too_many("ports", ports.len(), MAX_PORTS)];
    }
    let mut taken = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let port_name = text(port, "/name");
        let at = format!("ports[{i}].name");
        if !taken.insert(port_name) {
            errors.push(FieldError::duplicate(at, &json!(port_name)));
        } else if !port_name.is_empty() {
            let wrong = names::dns_label(port_name);
            let error = |text: &String| FieldError::invalid(at.clone(), &json!(port_name), text);
            errors.extend(wrong.iter().map(error));
        }
        let protocol = text(port, "/protocol");
        if !["TCP", "UDP", "SCTP"].contains(&protocol) {
            let at = format!("ports[{i}].protocol");
            errors.push(FieldError::not_supported(at, &json!(protocol), &["SCTP", "TCP", "UDP"]));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_leads_nowhere_is_refused() {
        let slice = |family: &str, address: &str| {
            json!({"metadata": {"name": "db-1", "namespace": "default"}, "addressType": family,
                "endpoints": [{"addresses": [address]}]})
        };
        assert_eq!(Rules.validate(&slice("IPv4", "10.0.0.1")), []);
        assert_eq!(Rules.validate(&slice("FQDN", "db.example.com")), []);
        for (family, address) in [
            ("IPv4", "127.0.0.1"),
            ("IPv4", "169.254.0.1"),
            ("IPv4", "::ffff:10.0.0.1"),
            ("IPv4", "2001:db8::1"),
            ("IPv6", "::1"),
            ("IPv6", "fe80::1"),
            ("IPv6", "::ffff:127.0.0.1"),
            ("IPv6", "::ffff:10.0.0.1"),
            ("IPv6", "10.0.0.1"),
            ("IPv6", "2001:db8:0::1"),
        ] {
            let errors = Rules.validate(&slice(family, address));
            assert_eq!(errors[0].field, "endpoints[0].addresses[0]", "{address}");
        }
        let mut hub = slice("IPv4", "127.0.0.1");
        hub["metadata"]["name"] = json!("kubernetes");
        assert_eq!(Rules.validate(&hub), []);
    }
}
