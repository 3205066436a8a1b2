//! A node's whole pod network: realms side by side, and the node ports in from the node's own address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use freewheel_link::figures::GateV1;
use freewheel_link::message::{SNAT_ADDRESS, is_pod_address};
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Protocol, ServiceV1};
use freewheel_spoke_account::MemoryAccount;
use freewheel_spoke_agent::ports::{Network, PodNetwork};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tracing::debug;

#[cfg(test)]
use crate::bridge::Stream;
use crate::conn::{Conn, ConnIo, Side};
use crate::error::NetError;
use crate::gates::{Gate, Toward};
use crate::node_port::{NodePorts, PortProblem};
use crate::node_port_listener::{NodePort, NodePortTarget};
use crate::pod::PodNet;
use crate::realm::Realm;
use crate::remote::Remote;
use crate::route::{Hop, Source, To};
use crate::shared::Shared;
use crate::sockets::{SOCKETS_KEPT_FOR_FORWARDS, SOCKETS_KEPT_FOR_PROBES};

/// A node's whole pod network.
pub struct Fabric {
    shared: Arc<Shared>,
    realms: RwLock<HashMap<ClusterName, Arc<Realm>>>,
    pods: RwLock<HashMap<String, Arc<PodNet>>>,
    node_ports: NodePorts,
}

impl Fabric {
    /// An empty network whose own tasks (node ports, bridges to other nodes) run on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> Arc<Self> {
        let shared = Shared::new(runtime);
        let node_ports = NodePorts::new(shared.clone());
        Arc::new(Self { shared, realms: RwLock::default(), pods: RwLock::default(), node_ports })
    }

    /// What the host holds for all guests of the node together.
    #[must_use]
    pub fn account(&self) -> &Arc<MemoryAccount> {
        &self.shared.account
    }

    /// The files and directories that all guests of the node have open together.
    #[must_use]
    pub fn files(&self) -> &Arc<MemoryAccount> {
        &self.shared.files
    }

    /// The mappings of memory that all guests of the node have together.
    #[must_use]
    pub fn mappings(&self) -> &Arc<MemoryAccount> {
        &self.shared.mappings
    }

    /// The node's ports that are open.
    #[must_use]
    pub fn listening(&self) -> &Arc<MemoryAccount> {
        &self.shared.listening
    }

    /// Connections from outside through the node's ports.
    #[must_use]
    pub fn visits(&self) -> &Arc<MemoryAccount> {
        &self.shared.visits
    }

    /// What has gone through the gates of the pod network.
    #[must_use]
    pub fn gates(&self) -> Vec<GateV1> {
        self.shared.gates.read()
    }

    /// Opens the way to pods on other nodes.
    pub fn set_remote(&self, remote: Arc<dyn Remote>) {
        self.shared.set_remote(remote);
    }

    /// Who is told when a NodePort or hostPort cannot be opened, and when it can again. It must not call back
    /// into the network.
    pub fn on_port_problem(&self, tell: impl Fn(&PortProblem) + Send + Sync + 'static) {
        self.node_ports.on_problem(Arc::new(tell));
    }

    /// NodePorts and hostPorts that cannot be opened now.
    #[cfg(test)]
    pub(crate) fn port_problems(&self) -> Vec<PortProblem> {
        self.node_ports.problems()
    }

    /// The network of the pod with this UID.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<Arc<PodNet>> {
        self.pods.read().get(uid).cloned()
    }

    /// A realm's network.
    #[must_use]
    pub fn realm(&self, name: &ClusterName) -> Arc<Realm> {
        if let Some(realm) = self.realms.read().get(name) {
            return realm.clone();
        }
        let mut realms = self.realms.write();
        let new = || Realm::new(name.clone(), self.shared.clone());
        realms.entry(name.clone()).or_insert_with(new).clone()
    }

    /// Connects from outside of the pods to a pod or a Service of a realm.
    ///
    /// # Errors
    /// When there will be no connection.
    #[cfg(any(test, feature = "testing"))]
    pub async fn dial(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<ConnIo, NetError> {
        let (source, client) = (Source::Outside(from.ip()), Side::outside(from));
        let dialled = self.realm(realm).connect(source, client, &To::Address(to));
        dialled.done().await.map(Conn::into_tunnel)
    }

    /// Connects to a port of a pod as from inside of it, as [`Fabric::forward_to_pod`] does for somebody elsewhere.
    ///
    /// # Errors
    /// As [`Fabric::forward_to_pod`].
    #[cfg(any(test, feature = "testing"))]
    pub fn dial_pod(&self, uid: &str, port: u16) -> Result<ConnIo, NetError> {
        self.connect_inside(uid, port).map(Conn::into_io)
    }

    /// Connects somebody elsewhere to a port of a pod as from inside of it, as port-forward has it: what listens on the
    /// pod's loopback is reached, too.
    ///
    /// # Errors
    /// When the pod is not on this node, or nothing listens there.
    pub fn forward_to_pod(&self, uid: &str, port: u16) -> Result<ConnIo, NetError> {
        self.connect_inside(uid, port).map(Conn::into_tunnel)
    }

    /// Connects to a port of a pod's own address, as a probe does: whatever policies say, and not to its loopback.
    ///
    /// # Errors
    /// As [`Fabric::forward_to_pod`].
    pub fn probe_pod(&self, uid: &str, port: u16) -> Result<ConnIo, NetError> {
        let pod = self.pod(uid).ok_or(NetError::Unreachable)?;
        let to = SocketAddr::new(pod.ip().into(), port);
        pod.take(Side::node(SOCKETS_KEPT_FOR_PROBES), to, to).map(Conn::into_io)
    }

    fn connect_inside(&self, uid: &str, port: u16) -> Result<Conn, NetError> {
        let pod = self.pod(uid).ok_or(NetError::Unreachable)?;
        let dial = |ip: IpAddr| {
            let to = SocketAddr::new(ip, port);
            pod.take(Side::node(SOCKETS_KEPT_FOR_FORWARDS), to, to)
        };
        let conn = dial(Ipv4Addr::LOCALHOST.into()).or_else(|_| dial(pod.ip().into()))?;
        Ok(conn)
    }

    /// Connects somebody on another node to a pod of this one, and never to a third node.
    ///
    /// # Errors
    /// When the pod is not here or does not listen.
    pub fn dial_from_link(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<ConnIo, NetError> {
        self.take_from_link(realm, from, to).map(Conn::into_tunnel)
    }

    /// Who is refused is counted once, by the pod that refuses or here.
    fn take_from_link(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Conn, NetError> {
        let error = match self.realm(realm).hop(Source::Link(from.ip()), to, Protocol::Tcp) {
            Hop::Here { pod, at } => {
                return pod.take(Side::outside(from).through(Gate::Link), at, at);
            }
            Hop::Elsewhere { .. } => NetError::Unreachable,
            Hop::Nowhere(error) => error,
        };
        self.shared.gates.refused(Gate::Link, error);
        Err(error)
    }

    /// The same, and carries the bytes of this stream.
    #[cfg(test)]
    pub(crate) fn accept_remote(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
        stream: impl Stream,
    ) -> Result<(), NetError> {
        let conn = self.take_from_link(realm, from, to)?;
        self.shared.bridge(conn, stream, self.shared.outage());
        Ok(())
    }

    /// Takes in a datagram from another node: from one of its pods or through one of its ports, to a pod of
    /// this one, or as the answer to what came in through a port here. It gets lost when nobody here waits
    /// for it, and never goes on to a third node.
    pub fn accept_datagram(
        &self,
        realm: &ClusterName,
        from: SocketAddrV4,
        to: SocketAddrV4,
        bytes: Bytes,
    ) {
        let mine = is_pod_address(*to.ip()) || *to.ip() == SNAT_ADDRESS;
        if !is_pod_address(*from.ip()) || !mine {
            return self.shared.gates.lost(Gate::Link, NetError::Denied);
        }
        let known = self.realms.read().get(realm).cloned();
        let source = Source::Link((*from.ip()).into());
        let hop = known.map(|realm| realm.hop(source, to.into(), Protocol::Udp));
        if let Some(Hop::Here { pod, at }) = hop {
            self.shared.gates.datagram(Gate::Link, Toward::Server);
            pod.deliver_udp(from.into(), at, bytes);
        } else {
            self.shared.gates.lost(Gate::Link, NetError::Unreachable);
        }
    }

    /// Closes all node ports and waits until no task of the network runs any more.
    pub async fn shutdown(&self) {
        self.node_ports.close_all();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Network for Fabric {
    fn add_pod(&self, who: PodNetwork) {
        if self.pod(&who.uid).is_some_and(|pod| *pod.who() == who) {
            // Said twice: containers that run in it stay where they are.
            return;
        }
        debug!(pod = %who.uid, cluster = %who.realm, ip = %who.ip, "pod network made");
        self.remove_pod(&who.uid);
        let realm = self.realm(&who.realm);
        let node_ports = who.host_ports.iter().map(|&(host, port, udp)| {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let to = SocketAddr::new(who.ip.into(), port);
            (
                NodePort { protocol, port: host },
                NodePortTarget { realm: realm.clone(), to: To::Address(to) },
            )
        });
        self.node_ports.set(&format!("pod/{}", who.uid), &node_ports.collect::<Vec<_>>());
        let pod = PodNet::new(who, realm.clone());
        realm.put_pod(Arc::clone(&pod));
        self.pods.write().insert(pod.who().uid.clone(), pod);
    }

    fn remove_pod(&self, uid: &str) {
        let Some(pod) = self.pods.write().remove(uid) else { return };
        self.node_ports.set(&format!("pod/{uid}"), &[]);
        pod.realm().remove_pod(&pod);
        pod.close_listeners();
    }

    fn set_service(
        &self,
        realm: &ClusterName,
        namespace: &str,
        name: &str,
        service: Option<ServiceV1>,
    ) {
        let network = self.realm(realm);
        let ports = service.iter().flat_map(|service| &service.ports);
        let node_ports = ports.filter_map(|port| {
            let node_port = NodePort { protocol: port.protocol, port: port.node_port? };
            let to = To::Service {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                port: port.port,
            };
            Some((node_port, NodePortTarget { realm: network.clone(), to }))
        });
        let owner = format!("service/{realm}/{namespace}/{name}");
        self.node_ports.set(&owner, &node_ports.collect::<Vec<_>>());
        network.set_service(namespace, name, service);
    }

    fn set_node(&self, address: IpAddr, domain: &str) {
        self.shared.set_domain(domain);
        self.node_ports.set_address(address);
    }
}
