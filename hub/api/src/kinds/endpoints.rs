//! Endpoints: the addresses behind a Service in their older form, kept for `kubectl get endpoints`.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, column, int, items, list, name, set_default, text};
use super::address::{check_special, check_written, leads_to_the_hub};

/// Most addresses in a cell of a table.
const CELL_ITEMS_MAX: usize = 3;
const COLUMNS: &[Column] =
    &[NAME, column("Endpoints", "string", "Addresses and ports that are ready."), AGE];

/// Endpoints of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "Endpoints"), "endpoints", Rules)
        .short(["ep"])
        .columns(COLUMNS)
        .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        .with(&[Trait::CountsNoGeneration, Trait::CreatesOnUpdate])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else { return };
        for subset in items(object, "subsets") {
            for port in items(subset, "ports") {
                set_default(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let ours = leads_to_the_hub(object);
        let subsets = list(object, "/subsets").iter().enumerate();
        subsets
            .flat_map(|(i, subset)| check_subset(&format!("subsets[{i}]"), subset, ours))
            .collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), addresses(object).into(), age(object, now)]
    }
}

fn check_subset(path: &str, subset: &Value, ours: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (ready, not_ready) = (list(subset, "/addresses"), list(subset, "/notReadyAddresses"));
    if ready.is_empty() && not_ready.is_empty() {
        errors.push(FieldError::required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        for (i, address) in addresses.iter().enumerate() {
            let (ip, at) = (text(address, "/ip"), format!("{path}.{field}[{i}].ip"));
            errors.extend(check_written(ip, &at));
            if !ours {
                errors.extend(check_special(ip, &at));
            }
        }
    }
    let ports = list(subset, "/ports");
    for (i, port) in ports.iter().enumerate() {
        let at = format!("{path}.ports[{i}]");
        errors.extend(check_port(&at, port, ports.len() > 1));
    }
    errors
}

fn check_port(path: &str, port: &Value, name_required: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (port_name, number) = (text(port, "/name"), int(port, "/port"));
    if name_required && port_name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else if !port_name.is_empty() {
        let wrong = names::dns_label(port_name);
        let error =
            |text: &String| FieldError::invalid(format!("{path}.name"), &json!(port_name), text);
        errors.extend(wrong.iter().map(error));
    }
    for text in names::port_number(number) {
        errors.push(FieldError::invalid(format!("{path}.port"), &json!(number), &text));
    }
    let protocol = text(port, "/protocol");
    if !["TCP", "UDP", "SCTP"].contains(&protocol) {
        let at = format!("{path}.protocol");
        errors.push(FieldError::not_supported(at, &json!(protocol), &["SCTP", "TCP", "UDP"]));
    }
    errors
}

fn addresses(object: &Value) -> String {
    let subsets = list(object, "/subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips = list(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            all.extend(ips.map(str::to_owned));
            continue;
        }
        for port in ports {
            all.extend(ips.clone().map(|ip| host_port(ip, int(port, "/port"))));
        }
    }
    shorten(&all, CELL_ITEMS_MAX)
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The first `most`, and how many more there are.
pub(super) fn shorten(all: &[String], most: usize) -> String {
    let shown = all.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(",");
    if all.len() > most { format!("{shown} + {} more...", all.len() - most) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_leads_nowhere_is_refused() {
        let mut object = json!({"metadata": {"name": "db", "namespace": "default"}, "subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "127.0.0.1"}],
            "notReadyAddresses": [{"ip": "169.254.0.1"}],
        }]});
        let errors = Rules.validate(&object);
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["subsets[0].addresses[1].ip", "subsets[0].notReadyAddresses[0].ip"]);
        object["metadata"]["name"] = json!("kubernetes");
        assert_eq!(Rules.validate(&object), []);
        let mapped = json!({"metadata": {"name": "db", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "::ffff:127.0.0.1"}, {"ip": "::ffff:10.0.0.1"}]}]});
        let said: Vec<_> = Rules.validate(&mapped).into_iter().map(|e| e.message).collect();
        let mapped = "must not be an IPv4-mapped IPv6 address";
        assert!(
            matches!(&said[..], [first, loopback, last] if first.contains(mapped)
            && loopback.contains("loopback") && last.contains(mapped)),
            "{said:?}"
        );
    }

    #[test]
    fn a_cell_shows_three_addresses_and_counts_the_rest() {
        let object = json!({"subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
            "ports": [{"port": 80}, {"port": 443}],
        }]});
        assert_eq!(addresses(&object), "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more...");
        assert_eq!(addresses(&json!({})), "<none>");
        assert!(Rules.validate(&object).iter().all(|e| !e.field.contains("addresses")));
    }
}
