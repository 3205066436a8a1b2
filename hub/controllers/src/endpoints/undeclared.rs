//! A Service that sends to a port of which its pods say nothing: allowed, and the most frequent reason why
//! an HTTP handler is not reached.

use k8s_openapi::api::core::v1::{PodSpec, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What to say about it; `None` where every port is declared, or has a name.
pub(super) fn hint(service: &Service, pod: &PodSpec) -> Option<String> {
    let all = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    let declared: Vec<(i32, &str)> = all
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| (port.container_port, port.protocol.as_deref().unwrap_or("TCP")))
        .collect();
    let served = if declared.is_empty() { vec![(8080, "TCP")] } else { declared };
    let ports = service.spec.as_ref()?.ports.iter().flatten();
    let missing = ports.into_iter().find_map(|port| {
        let number = match &port.target_port {
            None | Some(IntOrString::Int(0)) => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(_)) => return None,
        };
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        (!served.contains(&(number, protocol))).then_some(number)
    })?;
    Some(format!(
        "no container of the pods declares the port {missing} that this Service sends to: an HTTP handler is \
         served on its container's first containerPort, or on 8080, and on no other"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::service;

    #[track_caller]
    fn check(ports: &Value, declared: &Value, missing: Option<&str>) {
        let service = service("web", &json!({"ports": ports}));
        let pod = json!({"containers": [{"name": "c", "ports": declared}]});
        let said = hint(&service, &serde_json::from_value(pod).unwrap());
        match missing {
            None => assert_eq!(said, None),
            Some(port) => assert!(said.unwrap().contains(&format!("the port {port} that"))),
        }
    }

    #[test]
    fn a_port_that_nobody_declares_is_told() {
        let http = json!([{"containerPort": 9000}, {"containerPort": 53, "protocol": "UDP"}]);
        check(&json!([{"port": 80, "targetPort": 9000}]), &http, None);
        check(&json!([{"port": 80, "targetPort": "web"}]), &http, None);
        check(&json!([{"port": 53, "protocol": "UDP"}]), &http, None);
        check(&json!([{"port": 53}]), &http, Some("53"));
        check(&json!([{"port": 80}]), &http, Some("80"));
        check(&json!([{"port": 80, "targetPort": 8080}]), &json!([]), None);
        check(&json!([{"port": 80, "targetPort": 3000}]), &json!([]), Some("3000"));
    }
}
