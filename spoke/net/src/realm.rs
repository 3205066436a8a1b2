//! A realm's network on this node: its pods, its Services, its names.
//!
//! Guarantees:
//! - nothing in here leads to another realm, whatever the addresses
//!   (`realms_with_the_same_addresses_and_names_do_not_meet`);
//! - a Service's endpoints change in one step, and connections that exist stay
//!   (`endpoints_change_in_one_step_and_connections_stay`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::message::SNAT_ADDRESS;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Protocol, ServiceV1};
use freewheel_spoke_agent::ports::PodNetwork;
use parking_lot::RwLock;
use tokio::time::timeout;

use crate::conn::{Conn, Connecting, Side};
use crate::dns;
use crate::endpoint_health::EndpointHealth;
use crate::error::NetError;
use crate::gates::{Gate, Toward};
use crate::made_room::MadeRoom;
use crate::ports::Ports;
use crate::remote::RemoteStream;
use crate::route::{Hop, Known, Link, Route, Source, Standing, To};
use crate::service::Service;
use crate::shared::Shared;
use crate::tables::RealmTables;
use crate::udp::UdpPort;
use crate::udp_client_quota::UdpClientQuota;

/// Longest wait for a pod on another node, a relay through the hub included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A realm's network on this node.
pub struct Realm {
    name: ClusterName,
    tables: RwLock<RealmTables<Ports>>,
    endpoint_health: EndpointHealth,
    udp_client_quota: UdpClientQuota,
    made_room: MadeRoom,
    shared: Arc<Shared>,
}

impl Realm {
    pub(crate) fn new(name: ClusterName, shared: Arc<Shared>) -> Arc<Self> {
        let (tables, endpoint_health, udp_client_quota) =
            (RwLock::default(), EndpointHealth::default(), UdpClientQuota::default());
        let made_room = MadeRoom::default();
        Arc::new(Self { name, tables, endpoint_health, udp_client_quota, made_room, shared })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &ClusterName {
        &self.name
    }

    /// What speaks for the node to pods, where a packet needs an address of the realm to come from.
    pub(crate) fn gateway(&self) -> Arc<Ports> {
        // Those who come at the same moment get the same one.
        let mut tables = self.tables.write();
        if let Some(gateway) = tables.pod_at(SNAT_ADDRESS.into()) {
            return gateway.clone();
        }
        let who = PodNetwork {
            uid: String::new(),
            realm: self.name.clone(),
            namespace: String::new(),
            ip: SNAT_ADDRESS,
            hostname: String::new(),
            aliases: Vec::new(),
            host_ports: Vec::new(),
            memory_limit: None,
        };
        let gateway = Ports::new(who, &self.shared);
        tables.put_pod(SNAT_ADDRESS, gateway.clone());
        gateway
    }

    /// What all realms of the node share.
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn put_pod(&self, pod: Arc<Ports>) {
        self.tables.write().put_pod(pod.ip(), pod);
    }

    /// Removes the pod unless another one has its address by now.
    pub(crate) fn remove_pod(&self, pod: &Ports) {
        let is = |found: &Ports| found.who().uid == pod.who().uid;
        self.tables.write().remove_pod(pod.ip(), is);
    }

    pub(crate) fn set_service(&self, namespace: &str, name: &str, spec: Option<ServiceV1>) {
        self.tables.write().set_service(namespace, name, spec);
    }

    /// The Service with this name.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.tables.read().service(namespace, name).cloned()
    }

    /// The Service with this address.
    #[must_use]
    pub fn service_at(&self, ip: IpAddr) -> Option<Arc<Service>> {
        self.tables.read().service_at(ip).cloned()
    }

    /// The pod with this address, if it is on this node.
    #[must_use]
    pub fn pod_at(&self, ip: IpAddr) -> Option<Arc<Ports>> {
        self.tables.read().pod_at(ip).cloned()
    }

    /// Asks what is known at this moment.
    fn known<T>(&self, ask: impl FnOnce(&Known<'_, Ports>) -> T) -> T {
        let link = self.shared.link();
        ask(&Known { tables: &self.tables.read(), link })
    }

    /// Where what this one asks for is.
    pub(crate) fn route(&self, from: Source, to: &To, protocol: Protocol) -> Route<Ports> {
        self.known(|known| known.route(from, to, protocol))
    }

    /// The way to a pod's address.
    pub(crate) fn hop(&self, from: Source, at: SocketAddr, protocol: Protocol) -> Hop<Ports> {
        self.known(|known| known.hop(from, at, protocol))
    }

    /// How an endpoint of a Service stands with new clients.
    pub(crate) fn standing(&self, endpoint: SocketAddr) -> Standing {
        self.known(|known| {
            known.standing(endpoint, |link| self.endpoint_health.fault(endpoint, link))
        })
    }

    pub(crate) fn resolve(&self, pod: &PodNetwork, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let domain = self.shared.domain();
        dns::resolve(&self.tables.read(), &domain, pod, name)
    }

    /// Connects a client to a pod, here or on another node. `seen` is what the client believes it talks to, unless that
    /// is the pod itself.
    pub(crate) fn connect_pod(
        self: &Arc<Self>,
        hop: Hop<Ports>,
        from: Source,
        client: Side,
        seen: Option<SocketAddr>,
    ) -> Connecting {
        match hop {
            Hop::Here { pod, at } => Connecting::Now(pod.take(client, seen.unwrap_or(at), at)),
            // The name of a Service that is gone: nothing of it has to do with other nodes.
            Hop::Nowhere(error @ NetError::Refused) => Connecting::Now(Err(error)),
            Hop::Nowhere(error) => {
                Connecting::Now(Err(error)).counted(&self.shared.gates, Gate::Link)
            }
            Hop::Elsewhere { at } => {
                let realm = self.clone();
                Connecting::Later(Box::pin(async move {
                    let far = realm.dial(from, client.address, at, true).await?;
                    Ok(realm.join(client, seen.unwrap_or(at), at, far))
                }))
            }
        }
    }

    /// The way to other nodes.
    pub(crate) fn link(&self) -> Link {
        self.shared.link()
    }

    /// Endpoints that were not reached just now.
    pub(crate) const fn endpoint_health(&self) -> &EndpointHealth {
        &self.endpoint_health
    }

    /// What UDP node ports have of the gateway's ports.
    pub(crate) const fn udp_client_quota(&self) -> &UdpClientQuota {
        &self.udp_client_quota
    }

    /// For which full pods somebody was sent away.
    pub(crate) const fn made_room(&self) -> &MadeRoom {
        &self.made_room
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn_on(task, &self.shared.runtime);
    }

    /// A stream to a pod on another node. Where the way is full, one who `waits` does so for somebody to make room, and the
    /// others have somewhere else to go.
    pub(crate) async fn dial(
        &self,
        source: Source,
        from: SocketAddr,
        to: SocketAddr,
        waits: bool,
    ) -> Result<RemoteStream, NetError> {
        let dialled = self.dial_uncounted(source, from, to, waits).await;
        if let Err(error) = &dialled
            && (waits || !matches!(error, NetError::WayFull(_)))
        {
            self.shared.gates.refused(Gate::Link, *error);
        }
        dialled
    }

    async fn dial_uncounted(
        &self,
        source: Source,
        from: SocketAddr,
        to: SocketAddr,
        waits: bool,
    ) -> Result<RemoteStream, NetError> {
        self.known(|known| known.elsewhere(source, to.ip(), Protocol::Tcp))?;
        let remote = self.shared.remote().ok_or(NetError::Unreachable)?;
        let mut outage = remote.outage();
        let dial = || remote.connect(&self.name, from, to);
        let places = &self.shared.link_places;
        let connect = places.connect(&self.name, (from.ip(), to.ip()), waits, dial);
        let stream = tokio::select! {
            biased;
            dialled = timeout(CONNECT_TIMEOUT, connect) => dialled.map_err(|_| NetError::Timeout)??,
            () = &mut outage => return Err(NetError::Unreachable),
        };
        let leave = stream.leave();
        let outage = async move {
            tokio::select! {
                () = outage => {}
                () = leave.cancelled() => {}
            }
        };
        Ok(RemoteStream { stream: Box::new(stream), outage: Box::pin(outage) })
    }

    /// A client's end of a connection whose other end is a stream to a pod on another node.
    pub(crate) fn join(
        &self,
        client: Side,
        seen: SocketAddr,
        to: SocketAddr,
        far: RemoteStream,
    ) -> Conn {
        let passing = self.shared.gates.open(client.gates.and(Gate::Link));
        let (near, server) = Conn::pair(client, seen, Side::outside(to), &self.shared.transit);
        near.counted(&passing);
        passing.accepted();
        self.shared.bridge(server, far.stream, far.outage);
        near
    }

    pub(crate) fn send_udp(
        &self,
        hop: Hop<Ports>,
        from: SocketAddr,
        bytes: Bytes,
    ) -> Result<(), NetError> {
        match hop {
            Hop::Here { pod, at } => pod.deliver_udp(from, at, bytes),
            Hop::Elsewhere { at } => {
                if let (SocketAddr::V4(from), SocketAddr::V4(at), Some(remote)) =
                    (from, at, self.shared.remote())
                {
                    remote.send_datagram(&self.name, from, at, bytes);
                    self.shared.gates.datagram(Gate::Link, Toward::Client);
                }
            }
            Hop::Nowhere(error) => {
                self.shared.gates.lost(Gate::Link, error);
                // A datagram to a pod that is gone gets lost as datagrams do.
                if error != NetError::Unreachable {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Sends what a client of one of the node's ports has said, from the node's own address: that is the same on every
    /// node, and the hub puts one there that leads back.
    pub(crate) fn send_from_snat_address(
        &self,
        client: Source,
        from: &UdpPort,
        to: SocketAddr,
        bytes: Bytes,
    ) -> Result<(), NetError> {
        let from = SocketAddr::new(SNAT_ADDRESS.into(), from.address().port());
        self.send_udp(self.hop(client, to, Protocol::Udp), from, bytes)
    }
}
