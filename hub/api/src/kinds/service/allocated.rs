//! Addresses and node ports over an update: what stays, what goes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::accessors::{int, items, list, set_default, text};
use super::has::{has_cluster_ip, has_node_port};

fn type_of(spec: &Map<String, Value>) -> String {
    spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A writer that knows `clusterIP` alone means both fields.
pub(super) fn follow_cluster_ip(spec: &mut Map<String, Value>, old: &Value) {
    let now = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
    let same = spec.get("clusterIPs") == old.get("clusterIPs");
    if !same || now == text(old, "/clusterIP") {
        return;
    }
    if now.is_empty() {
        spec.remove("clusterIPs");
    } else {
        spec.insert("clusterIPs".to_owned(), json!([now]));
    }
}

/// What was allocated stays where the writer leaves it out and the type still has it.
pub(super) fn keep_allocated(spec: &mut Map<String, Value>, old: &Value) {
    let (now, before) = (type_of(spec), text(old, "/type"));
    if has_cluster_ip(&now) && has_cluster_ip(before) {
        let unset = |spec: &Map<String, Value>, key: &str| {
            spec.get(key).is_none_or(|v| v == &json!("") || v == &json!([]))
        };
        if unset(spec, "clusterIP") && unset(spec, "clusterIPs") {
            for key in ["clusterIP", "clusterIPs"] {
                if let Some(value) = old.get(key) {
                    spec.insert(key.to_owned(), value.clone());
                }
            }
        }
    }
    if has_node_port(&now) && has_node_port(before) {
        let mut free: BTreeMap<(i64, String), i64> = list(old, "/ports")
            .iter()
            .map(|port| {
                ((int(port, "/port"), text(port, "/protocol").to_owned()), int(port, "/nodePort"))
            })
            .collect();
        for port in items(spec, "ports") {
            let number = port.get("port").and_then(Value::as_i64).unwrap_or_default();
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or_default();
            let Some(was) = free.remove(&(number, protocol.to_owned())) else { continue };
            let unset = port.get("nodePort").and_then(Value::as_i64).unwrap_or_default() == 0;
            if unset && was != 0 {
                port.insert("nodePort".to_owned(), was.into());
            }
        }
    }
    if now == "LoadBalancer" && before == "LoadBalancer" && int(old, "/healthCheckNodePort") != 0 {
        set_default(spec, "healthCheckNodePort", int(old, "/healthCheckNodePort"));
    }
}

/// A change of type takes away what only the old type had, unless the writer set it anew.
pub(super) fn drop_what_the_type_has_not(spec: &mut Map<String, Value>, old: &Value) {
    let (now, before) = (type_of(spec), text(old, "/type"));
    if has_cluster_ip(before) && !has_cluster_ip(&now) {
        if spec.get("clusterIP") == old.get("clusterIP") {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if spec.get(key) == old.get(key) {
                spec.remove(key);
            }
        }
    }
    if has_node_port(before) && !has_node_port(&now) {
        if spec.get("externalTrafficPolicy") == old.get("externalTrafficPolicy") {
            spec.remove("externalTrafficPolicy");
        }
        let were: BTreeSet<i64> = list(old, "/ports").iter().map(|p| int(p, "/nodePort")).collect();
        for port in items(spec, "ports") {
            if port.get("nodePort").and_then(Value::as_i64).is_some_and(|p| were.contains(&p)) {
                port.remove("nodePort");
            }
        }
    }
    if before == "LoadBalancer" && now != "LoadBalancer" {
        for key in ["allocateLoadBalancerNodePorts", "healthCheckNodePort", "loadBalancerClass"] {
            if spec.get(key) == old.get(key) {
                spec.remove(key);
            }
        }
    }
}
