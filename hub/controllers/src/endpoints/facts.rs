//! What a pod contributes to a Service: pure.

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods::PodFacts;

/// A port as an endpoint serves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Name of the Service's port, empty for its only one.
    pub name: String,
    /// Where the pod listens.
    pub port: i32,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// appProtocol
    pub app: Option<String>,
}

/// One pod behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its address.
    pub ip: String,
    /// Where it runs.
    pub node: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Its name below the headless Service's, when it has one.
    pub hostname: Option<String>,
    /// Takes new connections.
    pub ready: bool,
    /// Answers, ready or on its way out.
    pub serving: bool,
    /// On its way out.
    pub terminating: bool,
    /// The Service's ports there; sorted.
    pub ports: Vec<Port>,
}

/// What the pod contributes; `None` while it has no address and once it is finished. `reachable` is
/// whether its spoke is heard of: a pod of a silent spoke may run well and still serves nobody
/// elsewhere.
#[must_use]
pub fn facts_of(service: &Service, pod: &PodFacts, reachable: bool) -> Option<Facts> {
    if pod.ip().is_empty() || pod.is_finished() {
        return None;
    }
    let spec = service.spec.as_ref()?;
    let anyway = spec.publish_not_ready_addresses.unwrap_or_default();
    let serving = reachable && pod.is_ready();
    let terminating = pod.is_deleting();
    let mut ports: Vec<Port> =
        spec.ports.iter().flatten().filter_map(|port| resolve(port, &pod.pod)).collect();
    ports.sort();
    Some(Facts {
        ip: pod.ip().to_owned(),
        node: pod.node().to_owned(),
        namespace: pod.key().namespace.to_string(),
        pod: pod.key().name.to_string(),
        uid: pod.uid().to_owned(),
        hostname: hostname(service, &pod.pod),
        ready: anyway || (serving && !terminating),
        serving,
        terminating,
        ports,
    })
}

fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let own = spec.hostname.clone().filter(|h| !h.is_empty())?;
    (spec.subdomain.is_some() && spec.subdomain == service.metadata.name).then_some(own)
}

fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named(pod, name, protocol)?,
    };
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        port: number,
        protocol: protocol.to_owned(),
        app: port.app_protocol.clone(),
    })
}

/// The container port of this name, also of a sidecar.
fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .find(|p| {
            p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
        })
        .map(|p| p.container_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pod, service};
    use serde_json::json;

    #[test]
    fn only_ready_pods_with_an_address_are_ready() {
        let service = service("web", &json!({"ports": [{"port": 80, "targetPort": 8080}]}));
        let facts_of = |service: &Service, pod: &PodFacts| facts_of(service, pod, true);
        assert_eq!(facts_of(&service, &pod("a").running().facts()), None, "no address");
        let unready = facts_of(&service, &pod("a").running().ip("10.64.0.2").facts()).unwrap();
        assert!(!unready.ready && !unready.serving);
        let ready = pod("a").running().ip("10.64.0.2").ready_at(1);
        let good = facts_of(&service, &ready.clone().facts()).unwrap();
        assert!(good.ready && good.serving && !good.terminating);
        assert_eq!(good.ports[0].port, 8080);
        let leaving = facts_of(&service, &ready.clone().deleting().facts()).unwrap();
        assert!(!leaving.ready && leaving.serving && leaving.terminating);
        assert_eq!(facts_of(&service, &ready.phase("Succeeded").facts()), None);
    }

    #[test]
    fn not_ready_addresses_can_be_published() {
        let service = service("web", &json!({"publishNotReadyAddresses": true}));
        let facts = facts_of(&service, &pod("a").ip("10.64.0.2").facts(), true).unwrap();
        assert!(facts.ready && !facts.serving);
    }

    #[test]
    fn a_pod_of_a_silent_spoke_is_not_ready() {
        let service = service("web", &json!({}));
        let pod = pod("a").running().ip("10.64.0.2").ready_at(1).facts();
        assert!(facts_of(&service, &pod, true).unwrap().ready);
        assert!(!facts_of(&service, &pod, false).unwrap().ready);
    }

    #[test]
    fn named_ports_are_the_pods_own() {
        let service = service(
            "web",
            &json!({"ports": [
                {"name": "http", "port": 80, "targetPort": "web"},
                {"name": "none", "port": 81, "targetPort": "absent"},
                {"name": "same", "port": 82},
            ]}),
        );
        let pod = pod("a").ip("10.64.0.2").port("web", 9000).facts();
        let facts = facts_of(&service, &pod, true).unwrap();
        let ports: Vec<(&str, i32)> =
            facts.ports.iter().map(|p| (p.name.as_str(), p.port)).collect();
        assert_eq!(ports, [("http", 9000), ("same", 82)]);
    }
}
