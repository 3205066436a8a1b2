//! What Services count for in a ResourceQuota.

use std::collections::BTreeMap;

use freewheel_hub_schema::quantity::{Format, Quantity};
use serde_json::Value;

/// Whether a name of a quota is about Services.
pub(super) fn is_name(name: &str) -> bool {
    matches!(name, "services" | "services.nodeports" | "services.loadbalancers")
}

/// What a Service counts for, by the names of quotas.
pub(super) fn usage(service: &Value) -> BTreeMap<String, Quantity> {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let balanced = spec["type"] == "LoadBalancer";
    let open = match spec["type"].as_str() {
        Some("NodePort") => ports.len(),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            ports.iter().filter(|port| port["nodePort"].as_i64().is_some_and(|p| p != 0)).count()
        }
        Some("LoadBalancer") => ports.len(),
        Some(_) | None => 0,
    };
    let count = |number: usize| {
        Quantity::of_milli(1000 * i64::try_from(number).unwrap_or_default(), Format::Decimal)
    };
    BTreeMap::from([
        ("services".to_owned(), count(1)),
        ("services.nodeports".to_owned(), count(open)),
        ("services.loadbalancers".to_owned(), count(usize::from(balanced))),
    ])
}
