//! A realm's network on this node: its pods, its Services, its names.
//!
//! Guarantees:
//! - nothing in here leads to another realm, whatever the addresses
//!   (`realms_with_the_same_addresses_and_names_do_not_meet`);
//! - a Service's endpoints change in one step, and connections that exist stay
//!   (`endpoints_change_in_one_step_and_connections_stay`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::message::{DOOR, is_pod_address};
use freewheel_link::names::ClusterName;
use freewheel_link::plan::ServiceV1;
use freewheel_spoke_agent::ports::PodNetwork;
use parking_lot::RwLock;
use tokio::time::timeout;

use crate::away::Away;
use crate::conn::{Conn, Side};
use crate::dns;
use crate::error::NetError;
use crate::places::Places;
use crate::pod::{Connecting, PodNet};
use crate::remote::{Far, Shared};
use crate::service::Service;

/// Longest wait for a pod on another node, a relay through the hub included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// All Service addresses of every realm: 10.128.0.0/12.
fn is_service_address(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 10 && ip.octets()[1] & 0xf0 == 128
}

/// What a realm knows.
#[derive(Default)]
pub(crate) struct Tables {
    pods: HashMap<Ipv4Addr, Arc<PodNet>>,
    services: HashMap<(String, String), Arc<Service>>,
    addresses: HashMap<Ipv4Addr, Arc<Service>>,
}

impl Tables {
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Whether a pod with this address is here, or an endpoint of a Service on another node.
    pub(crate) fn knows(&self, ip: Ipv4Addr) -> bool {
        let endpoint = |service: &Arc<Service>| {
            service.spec().endpoints.iter().any(|e| e.ip == IpAddr::V4(ip))
        };
        self.pods.contains_key(&ip) || self.services.values().any(endpoint)
    }
}

/// A realm's network on this node.
pub struct Realm {
    name: ClusterName,
    tables: RwLock<Tables>,
    away: Away,
    places: Places,
    shared: Arc<Shared>,
}

impl Realm {
    pub(crate) fn new(name: ClusterName, shared: Arc<Shared>) -> Arc<Self> {
        let (tables, away, places) = (RwLock::default(), Away::default(), Places::default());
        Arc::new(Self { name, tables, away, places, shared })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &ClusterName {
        &self.name
    }

    /// What speaks for the node to pods, where a packet needs an address of the realm to come from.
    pub(crate) fn gateway(self: &Arc<Self>) -> Arc<PodNet> {
        if let Some(gateway) = self.pod_at(DOOR.into()) {
            return gateway;
        }
        let who = PodNetwork {
            uid: String::new(),
            realm: self.name.clone(),
            namespace: String::new(),
            ip: DOOR,
            hostname: String::new(),
            aliases: Vec::new(),
            host_ports: Vec::new(),
            memory_limit: None,
        };
        let gateway = PodNet::new(who, self.clone());
        self.put_pod(gateway.clone());
        gateway
    }

    /// What all realms of the node share.
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn put_pod(&self, pod: Arc<PodNet>) {
        self.tables.write().pods.insert(pod.ip(), pod);
    }

    /// Removes the pod unless another one has its address by now.
    pub(crate) fn remove_pod(&self, pod: &PodNet) {
        let mut tables = self.tables.write();
        if tables.pods.get(&pod.ip()).is_some_and(|found| found.who().uid == pod.who().uid) {
            tables.pods.remove(&pod.ip());
        }
    }

    pub(crate) fn set_service(&self, namespace: &str, name: &str, spec: Option<ServiceV1>) {
        let mut tables = self.tables.write();
        let key = (namespace.to_owned(), name.to_owned());
        let former = tables.services.remove(&key);
        if let Some(former) = &former
            && let Some(IpAddr::V4(ip)) = former.spec().cluster_ip
            // The address may be another Service's by now: records come in any order.
            && tables.addresses.get(&ip).is_some_and(|holder| Arc::ptr_eq(holder, former))
        {
            tables.addresses.remove(&ip);
        }
        let Some(spec) = spec else { return };
        let service = Arc::new(Service::new(spec, former.as_deref()));
        if let Some(IpAddr::V4(ip)) = service.spec().cluster_ip {
            tables.addresses.insert(ip, service.clone());
        }
        tables.services.insert(key, service);
    }

    /// The Service with this name.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.tables.read().service(namespace, name).cloned()
    }

    /// The Service with this address.
    #[must_use]
    pub fn service_at(&self, ip: IpAddr) -> Option<Arc<Service>> {
        match ip {
            IpAddr::V4(ip) => self.tables.read().addresses.get(&ip).cloned(),
            IpAddr::V6(_) => None,
        }
    }

    /// The pod with this address, if it is on this node.
    #[must_use]
    pub fn pod_at(&self, ip: IpAddr) -> Option<Arc<PodNet>> {
        match ip {
            IpAddr::V4(ip) => self.tables.read().pods.get(&ip).cloned(),
            IpAddr::V6(_) => None,
        }
    }

    pub(crate) fn resolve(&self, pod: &PodNetwork, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let domain = self.shared.domain();
        dns::resolve(&self.tables.read(), &domain, pod, name)
    }

    /// Connects a client of this realm to an address of it.
    pub(crate) fn connect(self: &Arc<Self>, client: Side, to: SocketAddr) -> Connecting {
        match self.service_at(to.ip()) {
            None => self.connect_pod(client, to, to),
            Some(service) => self.connect_service(service, to.port(), client, Some(to)),
        }
    }

    /// Connects to a pod, here or on another node. `seen` is what the client believes it talks to.
    pub(crate) fn connect_pod(
        self: &Arc<Self>,
        client: Side,
        seen: SocketAddr,
        to: SocketAddr,
    ) -> Connecting {
        if let Some(pod) = self.pod_at(to.ip()) {
            return Connecting::Now(pod.take(client, seen, to));
        }
        if !self.leads_to(to.ip()) {
            return Connecting::Now(Err(self.nobody(to.ip())));
        }
        let realm = self.clone();
        Connecting::Later(Box::pin(async move {
            let far = realm.dial(client.address, to, CONNECT_TIMEOUT).await?;
            Ok(realm.join(client, seen, to, far))
        }))
    }

    /// Whether this may be a pod on another node, and no link to other nodes is known to be missing.
    pub(crate) fn leads_to(&self, ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(ip) if is_pod_address(ip)) && self.link().is_some()
    }

    /// The number of the link to other nodes that is up.
    pub(crate) fn link(&self) -> Option<u64> {
        self.shared.remote()?.link()
    }

    /// Endpoints that were not reached just now.
    pub(crate) const fn away(&self) -> &Away {
        &self.away
    }

    /// What UDP doors have of the gateway's ports.
    pub(crate) const fn places(&self) -> &Places {
        &self.places
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn_on(task, &self.shared.runtime);
    }

    /// A stream to a pod on another node.
    pub(crate) async fn dial(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        wait: Duration,
    ) -> Result<Far, NetError> {
        let Some(remote) = self.shared.remote().filter(|_| self.leads_to(to.ip())) else {
            return Err(self.nobody(to.ip()));
        };
        let mut outage = remote.outage();
        let dial = remote.connect(&self.name, from, to);
        let stream = tokio::select! {
            biased;
            dialled = timeout(wait, dial) => dialled.map_err(|_| NetError::Timeout)??,
            () = &mut outage => return Err(NetError::Unreachable),
        };
        Ok(Far { stream, outage })
    }

    /// A client's end of a connection whose other end is a stream to a pod on another node.
    pub(crate) fn join(&self, client: Side, seen: SocketAddr, to: SocketAddr, far: Far) -> Conn {
        let server = Side { address: to, waiting: None, slot: None };
        let (near, server) = Conn::pair(client, seen, server, &self.shared.transit);
        self.shared.bridge(server, far.stream, far.outage);
        near
    }

    pub(crate) fn send_udp(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    ) -> Result<(), NetError> {
        if let Some(pod) = self.pod_at(to.ip()) {
            pod.deliver_udp(from, to, bytes);
            return Ok(());
        }
        if let (SocketAddr::V4(from), SocketAddr::V4(to), Some(remote)) =
            (from, to, self.shared.remote())
            // The node's own address is the same on every node: the hub puts one there that leads back.
            && (is_pod_address(*from.ip()) || *from.ip() == DOOR)
            && is_pod_address(*to.ip())
        {
            remote.send_datagram(&self.name, from, to, bytes);
            return Ok(());
        }
        match self.nobody(to.ip()) {
            // A datagram to a pod that is gone gets lost as datagrams do.
            NetError::Unreachable => Ok(()),
            error => Err(error),
        }
    }

    fn nobody(&self, ip: IpAddr) -> NetError {
        match ip {
            IpAddr::V4(ip) if is_pod_address(ip) || is_service_address(ip) => NetError::Unreachable,
            // Grants start closed: no policy of this version opens a way out of the cluster.
            _ => NetError::Denied,
        }
    }
}
