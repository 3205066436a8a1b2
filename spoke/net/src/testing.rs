//! Builders for the tests of this crate.

use std::net::Ipv4Addr;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{EndpointV1, Protocol, ServicePortV1, ServiceV1};
use freewheel_spoke_agent::ports::PodNetwork;

/// A Service in the making.
pub(crate) struct ServiceBuilder(pub(crate) ServiceV1);

pub(crate) fn service(name: &str) -> ServiceBuilder {
    ServiceBuilder(ServiceV1 {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        cluster_ip: None,
        external_name: None,
        ports: Vec::new(),
        endpoints: Vec::new(),
        affinity_seconds: None,
    })
}

impl ServiceBuilder {
    pub(crate) fn at(mut self, ip: &str) -> Self {
        self.0.cluster_ip = Some(ip.parse().unwrap());
        self
    }

    pub(crate) fn named(mut self, external: &str) -> Self {
        self.0.external_name = Some(external.to_owned());
        self
    }

    pub(crate) fn port(self, port: u16) -> Self {
        self.any_port(port, Protocol::Tcp, None)
    }

    pub(crate) fn any_port(
        mut self,
        port: u16,
        protocol: Protocol,
        node_port: Option<u16>,
    ) -> Self {
        self.0.ports.push(ServicePortV1 { name: String::new(), protocol, port, node_port });
        self
    }

    pub(crate) fn to(self, ip: &str, port: u16) -> Self {
        self.endpoint(ip, port, true, "")
    }

    pub(crate) fn unready(self, ip: &str, port: u16) -> Self {
        self.endpoint(ip, port, false, "")
    }

    pub(crate) fn endpoint(mut self, ip: &str, port: u16, ready: bool, hostname: &str) -> Self {
        let ports = vec![port; self.0.ports.len().max(1)];
        self.0.endpoints.push(EndpointV1 {
            ip: ip.parse().unwrap(),
            node: "pi".to_owned(),
            hostname: hostname.to_owned(),
            ready,
            ports,
        });
        self
    }

    pub(crate) fn sticky(mut self, seconds: u32) -> Self {
        self.0.affinity_seconds = Some(seconds);
        self
    }
}

/// A pod of the root realm in the namespace `default`.
pub(crate) fn pod(name: &str, ip: &str) -> PodNetwork {
    pod_in(&ClusterName::root(), name, ip)
}

pub(crate) fn pod_in(realm: &ClusterName, name: &str, ip: &str) -> PodNetwork {
    PodNetwork {
        uid: format!("{realm}-{name}"),
        realm: realm.clone(),
        namespace: "default".to_owned(),
        ip: ip.parse::<Ipv4Addr>().unwrap(),
        hostname: name.to_owned(),
        aliases: Vec::new(),
        host_ports: Vec::new(),
        memory_limit: None,
    }
}
