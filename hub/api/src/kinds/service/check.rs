//! What a valid Service is.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::metadata::check_label_map;
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::super::accessors::{int, list, text};
use super::super::address::{NO_IP, check_special, check_written};
use super::has::has_cluster_ip;

/// Where cluster addresses come from: base and prefix length.
pub const CLUSTER_IPS: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 128, 0, 0), 12);
/// Where node ports come from.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// The pod network speaks no SCTP.
const PROTOCOLS: &[&str] = &["TCP", "UDP"];
const POLICIES: &[&str] = &["Cluster", "Local"];

/// Every mistake of a Service.
pub(super) fn service(object: &Value) -> Vec<FieldError> {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let kind = text(spec, "/type");
    let mut errors = Vec::new();
    errors.extend(check_ports(spec, kind));
    if !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported("spec.type", &json!(kind), TYPES));
    }
    errors.extend(check_external_name(spec, kind));
    errors.extend(check_label_map(spec.get("selector"), "spec.selector"));
    let affinity = text(spec, "/sessionAffinity");
    if !["ClientIP", "None"].contains(&affinity) {
        let supported = &["ClientIP", "None"];
        errors.push(FieldError::not_supported("spec.sessionAffinity", &json!(affinity), supported));
    }
    if let Some(seconds) = spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds")
        && !(1..=86_400).contains(&seconds.as_i64().unwrap_or_default())
    {
        let at = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        let text = "must be greater than 0 and less than 86400";
        errors.push(FieldError::invalid(at, seconds, text));
    }
    errors.extend(check_addresses(spec, kind));
    for key in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        let policy = text(spec, &format!("/{key}"));
        if !policy.is_empty() && !POLICIES.contains(&policy) {
            let at = format!("spec.{key}");
            errors.push(FieldError::not_supported(at, &json!(policy), POLICIES));
        }
    }
    let external = text(spec, "/externalTrafficPolicy");
    if !external.is_empty() && matches!(kind, "ClusterIP" | "ExternalName") {
        let text = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid("spec.externalTrafficPolicy", &json!(external), text));
    }
    for (i, ip) in list(spec, "/externalIPs").iter().enumerate() {
        let (ip, at) = (ip.as_str().unwrap_or_default(), format!("spec.externalIPs[{i}]"));
        errors.extend(check_written(ip, &at).or_else(|| check_special(ip, &at)));
    }
    errors
}

/// What an update may not change.
pub(super) fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let address = |object: &Value| text(object, "/spec/clusterIP").to_owned();
    let kind = |object: &Value| text(object, "/spec/type").to_owned();
    let (now, before) = (address(new), address(old));
    let both = has_cluster_ip(&kind(new)) && has_cluster_ip(&kind(old));
    if !both || before.is_empty() || now == before {
        return Vec::new();
    }
    let shown = new.pointer("/spec/clusterIPs").cloned().unwrap_or_else(|| json!([now]));
    let text = "may not change once set";
    vec![FieldError::invalid("spec.clusterIPs[0]", &shown, text)]
}

/// What a status may not say.
pub(super) fn status(object: &Value) -> Vec<FieldError> {
    let ingress = list(object, "/status/loadBalancer/ingress");
    if ingress.is_empty() || text(object, "/spec/type") == "LoadBalancer" {
        return Vec::new();
    }
    let text = "may only be used when `spec.type` is 'LoadBalancer'";
    vec![FieldError::forbidden("status.loadBalancer.ingress", text)]
}

fn check_external_name(spec: &Value, kind: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if kind != "ExternalName" {
        return errors;
    }
    for key in ["clusterIP", "clusterIPs"] {
        let set = match spec.get(key) {
            Some(Value::Array(ips)) => !ips.is_empty(),
            Some(Value::String(ip)) => !ip.is_empty(),
            _ => false,
        };
        if set {
            let text = "may not be set for ExternalName services";
            errors.push(FieldError::forbidden(format!("spec.{key}"), text));
        }
    }
    let name = text(spec, "/externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    } else {
        let at = "spec.externalName";
        let wrong = names::dns_subdomain(name);
        errors.extend(wrong.iter().map(|text| FieldError::invalid(at, &json!(name), text)));
    }
    errors
}

fn check_ports(spec: &Value, kind: &str) -> Vec<FieldError> {
    let ports = list(spec, "/ports");
    let mut errors = Vec::new();
    let headless = text(spec, "/clusterIP") == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    for (i, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        errors.extend(check_port(&path, port, ports.len() > 1));
        errors.extend(check_node_port(&path, port, kind));
    }
    let (mut numbers, mut names, mut node_ports) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        let (number, protocol) = (int(port, "/port"), text(port, "/protocol"));
        if !numbers.insert((number, protocol)) {
            let shown = json!({"port": number, "protocol": protocol});
            errors.push(FieldError::duplicate(path.clone(), &shown));
        }
        let name = text(port, "/name");
        if !name.is_empty() && !names.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &json!(name)));
        }
        let node_port = int(port, "/nodePort");
        if node_port != 0 && !node_ports.insert((node_port, protocol)) {
            errors.push(FieldError::duplicate(format!("{path}.nodePort"), &json!(node_port)));
        }
    }
    errors
}

fn check_port(path: &str, port: &Value, name_required: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |key: &str, value: &Value, complaints: Vec<String>| {
        let at = format!("{path}.{key}");
        errors.extend(complaints.iter().map(|text| FieldError::invalid(at.clone(), value, text)));
    };
    let name = text(port, "/name");
    let missing = name_required && name.is_empty();
    if !name.is_empty() {
        wrong("name", &json!(name), names::dns_label(name));
    }
    let number = int(port, "/port");
    wrong("port", &json!(number), names::port_number(number));
    match port.get("targetPort") {
        Some(Value::String(target)) => {
            wrong("targetPort", &json!(target), names::port_name(target));
        }
        Some(target) => {
            wrong("targetPort", target, names::port_number(target.as_i64().unwrap_or_default()));
        }
        None => {}
    }
    if let Some(Value::String(protocol)) = port.get("appProtocol") {
        wrong("appProtocol", &json!(protocol), names::qualified_name(protocol));
    }
    let protocol = text(port, "/protocol");
    if protocol.is_empty() {
        errors.push(FieldError::required(format!("{path}.protocol"), ""));
    } else if !PROTOCOLS.contains(&protocol) {
        let at = format!("{path}.protocol");
        errors.push(FieldError::not_supported(at, &json!(protocol), PROTOCOLS));
    }
    if missing {
        errors.insert(0, FieldError::required(format!("{path}.name"), ""));
    }
    errors
}

fn check_node_port(path: &str, port: &Value, kind: &str) -> Option<FieldError> {
    let node_port = int(port, "/nodePort");
    let at = format!("{path}.nodePort");
    if node_port == 0 {
        return None;
    }
    if matches!(kind, "ClusterIP" | "ExternalName") {
        let text = format!("may not be used when `type` is '{kind}'");
        return Some(FieldError::forbidden(at, &text));
    }
    if u16::try_from(node_port).is_ok_and(|port| NODE_PORTS.contains(&port)) {
        return None;
    }
    let text = format!(
        "provided port is not in the valid range. The range of valid ports is {}-{}",
        NODE_PORTS.start(),
        NODE_PORTS.end()
    );
    Some(FieldError::invalid(at, &json!(node_port), &text))
}

fn check_addresses(spec: &Value, kind: &str) -> Vec<FieldError> {
    if !has_cluster_ip(kind) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let one = text(spec, "/clusterIP");
    let all: Vec<&str> = list(spec, "/clusterIPs").iter().filter_map(Value::as_str).collect();
    if let Some(first) = all.first()
        && *first != one
    {
        let shown = spec.get("clusterIPs").cloned().unwrap_or_default();
        let text = "first value must match `clusterIP`";
        errors.push(FieldError::invalid("spec.clusterIPs", &shown, text));
    }
    if all.len() > 1 {
        let shown = spec.get("clusterIPs").cloned().unwrap_or_default();
        let text = "may only hold one address: the cluster's network is IPv4";
        errors.push(FieldError::invalid("spec.clusterIPs", &shown, text));
    }
    match one {
        "" => {}
        "None" if kind != "ClusterIP" => {
            let text = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", &json!(one), &text));
        }
        "None" => {}
        ip => match ip.parse::<Ipv4Addr>() {
            Err(_) => errors.push(FieldError::invalid("spec.clusterIPs[0]", &json!(ip), NO_IP)),
            Ok(address) if !in_range(address) => {
                let (base, length) = CLUSTER_IPS;
                let text = format!(
                    "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {base}/{length}"
                );
                errors.push(FieldError::invalid("spec.clusterIPs", &json!([ip]), &text));
            }
            Ok(_) => {}
        },
    }
    for (i, family) in list(spec, "/ipFamilies").iter().enumerate() {
        if family != "IPv4" {
            let at = format!("spec.ipFamilies[{i}]");
            errors.push(FieldError::invalid(at, family, "not configured on this cluster"));
        }
    }
    if text(spec, "/ipFamilyPolicy") == "RequireDualStack" {
        let text = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", &json!("RequireDualStack"), text));
    }
    errors
}

fn in_range(address: Ipv4Addr) -> bool {
    let (base, length) = CLUSTER_IPS;
    let mask = u32::MAX << (32 - u32::from(length));
    address.to_bits() & mask == base.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::service::kind;

    fn check(spec: Value) -> Vec<String> {
        let mut object = json!({"metadata": {"name": "s"}});
        object["spec"] = spec;
        kind().strategy.default(&mut object);
        let errors = kind().strategy.validate(&object);
        errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect()
    }

    #[test]
    fn bad_ports_and_type() {
        assert_eq!(
            check(json!({"ports": [{"port": 70000}, {"port": 80}], "type": "Nope"})),
            [
                "spec.ports[0].name: Required value",
                "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.ports[1].name: Required value",
                "spec.type: Unsupported value: \"Nope\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ]
        );
        assert_eq!(check(json!({})), ["spec.ports: Required value"]);
        assert_eq!(check(json!({"clusterIP": "None"})), Vec::<String>::new());
        let twice = json!([{"name": "a", "port": 80}, {"name": "a", "port": 80}]);
        assert_eq!(
            check(json!({"ports": twice})),
            [
                "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
                "spec.ports[1].name: Duplicate value: \"a\""
            ]
        );
    }

    #[test]
    fn explicit_addresses_must_be_ours() {
        let ports = json!([{"port": 80}]);
        assert_eq!(check(json!({"ports": ports, "clusterIP": "10.128.0.9"})), Vec::<String>::new());
        assert_eq!(
            check(json!({"ports": ports, "clusterIP": "10.1.0.9"})),
            [
                "spec.clusterIPs: Invalid value: [\"10.1.0.9\"]: failed to allocate IP 10.1.0.9: the provided IP (10.1.0.9) is not in the valid range. The range of valid IPs is 10.128.0.0/12"
            ]
        );
        let low = json!([{"port": 80, "nodePort": 80}]);
        assert_eq!(
            check(json!({"ports": low, "type": "NodePort"})),
            [
                "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
            ]
        );
        assert_eq!(
            check(json!({"ports": low})),
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
        );
    }

    #[test]
    fn an_external_address_leads_somewhere_from_elsewhere() {
        let with =
            |ip: &str| check(json!({"ports": [{"port": 80}], "externalIPs": ["192.0.2.7", ip]}));
        assert_eq!(with("2001:db8::1"), Vec::<String>::new());
        assert_eq!(
            with("127.0.0.1"),
            [
                "spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
            ]
        );
        for ip in ["::ffff:192.0.2.1", "0.0.0.0", "169.254.169.254", "ff02::1", "nowhere"] {
            assert!(with(ip)[0].starts_with("spec.externalIPs[1]: Invalid value"), "{ip}");
        }
    }

    #[test]
    fn the_address_stays() {
        let service =
            |ip: &str| json!({"spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip]}});
        assert_eq!(update(&service("10.128.0.9"), &service("10.128.0.9")), []);
        let errors = update(&service("10.128.0.8"), &service("10.128.0.9"));
        assert_eq!(errors[0].message, "Invalid value: [\"10.128.0.8\"]: may not change once set");
    }
}
