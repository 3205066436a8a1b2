//! What a pod contributes to a Service: pure.

use freewheel_hub_api::kinds::address::may_be_endpoint;
use freewheel_hub_schema::uid::Uid;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::engine::Error;
use crate::index::{PodEntry, PodSummary};

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
pub struct PodEndpoint {
    /// Its address.
    pub ip: String,
    /// Where it runs.
    pub node: String,
    /// Zone of that node.
    pub zone: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: Uid,
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

/// What the pod contributes; `None` while it has no address, once it is finished, and when its address may be nobody's: a
/// slice with one such would be refused as a whole, and everybody else's endpoints with it. `reachable` is
/// whether its spoke is heard of: a pod of a silent spoke may run well and still serves nobody
/// elsewhere.
pub fn pod_endpoint(
    service: &Service,
    pod: &PodEntry,
    reachable: bool,
) -> Result<Option<PodEndpoint>, Error> {
    let summary = pod.summary()?;
    let Some(spec) = &service.spec else { return Ok(None) };
    if !may_be_endpoint(&summary.ip) || matches!(pod.phase(), "Succeeded" | "Failed") {
        return Ok(None);
    }
    let anyway = spec.publish_not_ready_addresses.unwrap_or_default();
    let serving = reachable && summary.is_ready();
    let terminating = pod.stored.object.header.deleting;
    let mut ports: Vec<Port> =
        spec.ports.iter().flatten().filter_map(|port| resolve(port, summary)).collect();
    ports.sort();
    Ok(Some(PodEndpoint {
        ip: summary.ip.to_string(),
        node: pod.node().to_owned(),
        zone: None,
        namespace: pod.stored.key.namespace.to_string(),
        pod: pod.stored.key.name.to_string(),
        uid: pod.stored.object.header.uid.clone(),
        hostname: hostname(service, summary),
        ready: anyway || (serving && !terminating),
        serving,
        terminating,
        ports,
    }))
}

fn hostname(service: &Service, pod: &PodSummary) -> Option<String> {
    let own = pod.hostname.as_deref().filter(|h| !h.is_empty())?;
    let below =
        pod.subdomain.is_some() && pod.subdomain.as_deref() == service.metadata.name.as_deref();
    below.then(|| own.to_owned())
}

fn resolve(port: &ServicePort, pod: &PodSummary) -> Option<Port> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            pod.ports.iter().find(|p| *p.name == **name && *p.protocol == *protocol)?.number
        }
    };
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        port: number,
        protocol: protocol.to_owned(),
        app: port.app_protocol.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PodBuilder, pod, service};
    use serde_json::json;

    fn pod_endpoint(service: &Service, pod: PodBuilder, reachable: bool) -> Option<PodEndpoint> {
        super::pod_endpoint(service, &pod.entry(), reachable).unwrap()
    }

    #[test]
    fn only_ready_pods_with_an_address_are_ready() {
        let service = service("web", &json!({"ports": [{"port": 80, "targetPort": 8080}]}));
        assert_eq!(pod_endpoint(&service, pod("a").running(), true), None, "no address");
        let unready = pod_endpoint(&service, pod("a").running().ip("10.64.0.2"), true).unwrap();
        assert!(!unready.ready && !unready.serving);
        let ready = pod("a").running().ip("10.64.0.2").ready_at(1);
        let good = pod_endpoint(&service, ready.clone(), true).unwrap();
        assert!(good.ready && good.serving && !good.terminating);
        assert_eq!(good.ports[0].port, 8080);
        let leaving = pod_endpoint(&service, ready.clone().deleting(), true).unwrap();
        assert!(!leaving.ready && leaving.serving && leaving.terminating);
        assert_eq!(pod_endpoint(&service, ready.phase("Succeeded"), true), None);
    }

    #[test]
    fn a_pod_whose_address_may_be_nobody_s_is_left_out_alone() {
        let service = service("web", &json!({"publishNotReadyAddresses": true}));
        // A slice is of one family, and pods have addresses of IPv4.
        let odd = ["127.0.0.1", "0.0.0.0", "169.254.64.1", "224.0.0.1", "::1", "2001:db8::1"];
        for ip in odd.into_iter().chain(["::ffff:10.64.0.2", "010.64.0.2", "nowhere"]) {
            let pod = pod("a").running().ip(ip).ready_at(1);
            assert_eq!(pod_endpoint(&service, pod, true), None, "{ip}");
        }
    }

    #[test]
    fn not_ready_addresses_can_be_published() {
        let service = service("web", &json!({"publishNotReadyAddresses": true}));
        let facts = pod_endpoint(&service, pod("a").ip("10.64.0.2"), true).unwrap();
        assert!(facts.ready && !facts.serving);
    }

    #[test]
    fn a_pod_of_a_silent_spoke_is_not_ready() {
        let service = service("web", &json!({}));
        let pod = pod("a").running().ip("10.64.0.2").ready_at(1);
        assert!(pod_endpoint(&service, pod.clone(), true).unwrap().ready);
        assert!(!pod_endpoint(&service, pod, false).unwrap().ready);
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
        let pod = pod("a").ip("10.64.0.2").port("web", 9000);
        let facts = pod_endpoint(&service, pod, true).unwrap();
        let ports: Vec<(&str, i32)> =
            facts.ports.iter().map(|p| (p.name.as_str(), p.port)).collect();
        assert_eq!(ports, [("http", 9000), ("same", 82)]);
    }
}
