//! A Service that sends to a port on which its pods serve nothing, as far as that is certain: an HTTP handler is served on
//! one port and no other, while a program may listen wherever it likes, declared or not.
//!
//! Guarantees:
//! - a Service whose pods run handlers only is told of a port that none of them is served on
//!   (`a_port_that_no_handler_is_served_on_is_told`);
//! - where a program may listen nothing is said (`a_program_may_listen_anywhere`);
//! - what counts is the build that the pods run, whatever its tag stands for now
//!   (`what_a_tag_stands_for_now_is_nothing_to_a_pod_that_runs_another_build`).

use std::fmt;

use freewheel_hub_api::pins::{Pins, RESOLVED};
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The port of a handler that declares none.
const DEFAULT_PORT: i32 = 8080;

/// Tells HTTP handlers from programs.
pub trait Handlers: fmt::Debug + Send + Sync {
    /// Whether an image, by digest where it was looked up, is a handler; `None`: nobody knows it.
    fn is_handler(&self, image: &str) -> Option<bool>;
}

/// What to say about it; `None` where every port is served, has a name, or may be a program's.
pub(super) fn hint(service: &Service, pod: &Pod, handlers: &dyn Handlers) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let resolved = pod.metadata.annotations.as_ref().and_then(|all| all.get(RESOLVED));
    let pins = resolved.map(|text| Pins::read(text)).unwrap_or_default();
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let served: Option<Vec<i32>> = spec
        .containers
        .iter()
        .chain(sidecars)
        .map(|container| {
            let handler = handlers.is_handler(&pins.apply(container.image.as_deref()?))?;
            handler.then(|| port_of(container))
        })
        .collect();
    let served = served?;
    let missing = service.spec.as_ref()?.ports.iter().flatten().find_map(|port| {
        let number = match &port.target_port {
            None | Some(IntOrString::Int(0)) => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(_)) => return None,
        };
        let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        (!tcp || !served.contains(&number)).then_some(number)
    })?;
    Some(format!(
        "no container of the pods serves the port {missing} that this Service sends to: an HTTP handler is \
         served on its container's first TCP containerPort, or on {DEFAULT_PORT}, and on no other"
    ))
}

fn port_of(container: &Container) -> i32 {
    let ports = container.ports.iter().flatten();
    let mut tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|name| name == "TCP"));
    tcp.next().map_or(DEFAULT_PORT, |port| port.container_port)
}

#[cfg(test)]
mod tests {
    use freewheel_link::digest::Digest;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::service;

    #[derive(Debug)]
    struct ByName;

    impl Handlers for ByName {
        fn is_handler(&self, image: &str) -> Option<bool> {
            match image {
                "web" => Some(true),
                "program" => Some(false),
                // The tag has moved on from the one to the other.
                "was-web:v1" => Some(false),
                "was-program:v1" => Some(true),
                _ => image.split_once("@sha256:").map(|(name, _)| name == "was-web"),
            }
        }
    }

    fn said(ports: &Value, spec: &Value) -> Option<String> {
        said_of(ports, json!({"spec": spec}))
    }

    fn said_of(ports: &Value, pod: Value) -> Option<String> {
        let service = service("web", &json!({"ports": ports}));
        hint(&service, &serde_json::from_value(pod).unwrap(), &ByName)
    }

    #[test]
    fn what_a_tag_stands_for_now_is_nothing_to_a_pod_that_runs_another_build() {
        let told = |image: &str, pins: Value| {
            let pod = json!({
                "metadata": {"annotations": {RESOLVED: pins.to_string()}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            });
            said_of(&json!([{"port": 7000}]), pod).is_some()
        };
        let build = Digest::of(b"the build that runs").to_string();
        assert!(told("was-web:v1", json!({"was-web:v1": build})), "it runs a handler");
        assert!(!told("was-program:v1", json!({"was-program:v1": build})), "it runs a program");
        // Not looked up yet: what it would get now.
        assert!(!told("was-web:v1", json!({})) && told("was-program:v1", json!({})));
    }

    #[track_caller]
    fn check(ports: &Value, declared: &Value, missing: Option<&str>) {
        let pod = json!({"containers": [{"name": "c", "image": "web", "ports": declared}]});
        match (said(ports, &pod), missing) {
            (None, None) => {}
            (Some(text), Some(port)) => {
                assert!(text.contains(&format!("the port {port} that")), "{text}");
            }
            (said, _) => panic!("{ports} with {declared}: {said:?}"),
        }
    }

    #[test]
    fn a_port_that_no_handler_is_served_on_is_told() {
        let http = json!([{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 9000}, {"containerPort": 9001}]);
        check(&json!([{"port": 80, "targetPort": 9000}]), &http, None);
        check(&json!([{"port": 80, "targetPort": "web"}]), &http, None);
        check(&json!([{"port": 80, "targetPort": 9001}]), &http, Some("9001"));
        check(&json!([{"port": 53, "protocol": "UDP"}]), &http, Some("53"));
        check(&json!([{"port": 80}]), &http, Some("80"));
        check(&json!([{"port": 80, "targetPort": 8080}]), &json!([]), None);
        check(&json!([{"port": 80, "targetPort": 3000}]), &json!([]), Some("3000"));
    }

    #[test]
    fn a_program_may_listen_anywhere() {
        let port = json!([{"port": 7000}]);
        let web = json!({"name": "w", "image": "web"});
        for other in ["program", "nobody-knows"] {
            let other = json!({"name": "o", "image": other, "restartPolicy": "Always"});
            assert_eq!(said(&port, &json!({"containers": [other]})), None);
            assert_eq!(said(&port, &json!({"containers": [web, other]})), None);
            let sidecar = json!({"containers": [web], "initContainers": [other]});
            assert_eq!(said(&port, &sidecar), None);
        }
        let before =
            json!({"containers": [web], "initContainers": [{"name": "i", "image": "program"}]});
        assert!(said(&port, &before).is_some(), "it is over when the others run");
    }
}
