//! A UDP node port: each client has a port of the node's in the realm, so that answers find their way back.
//!
//! ```text
//! client ──▶ node port ──▶ flow: the node's address, a port of its own ──▶ pod, here or on another node
//!    ▲                  │ takes what this pod sends, from nobody else          │
//!    └──────────────────┴───────────────────────────────────────────────────◀─┘
//! ```
//!
//! Guarantees:
//! - a client hears nothing but its own pod's answers
//!   (`what_other_pods_send_to_a_flow_of_a_node_port_does_not_reach_its_client`);
//! - silent flows end (`a_silent_flow_ends_and_sooner_when_it_never_had_an_answer`);
//! - flows are bounded, in all and for each address; clients that were never answered make room first, because
//!   with a forged address anybody can be many of them
//!   (`forged_clients_push_each_other_out_and_nobody_who_was_answered`,
//!   `one_address_has_a_part_of_the_door_only`);
//! - and they do for the clients of another node port, too (`a_door_that_opens_gets_its_part_from_the_others`).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::gates::{Gate, Gates, Loss, Passing, Toward};
use crate::node_port_listener::NodePortListener;
use crate::realm::Realm;
use crate::route::Source;
use crate::udp::{MAX_DATAGRAM, UdpPort};
use crate::udp_client_quota::UdpClientShare;

/// How long a silent flow is kept: as conntrack does, less long when no answer was ever seen.
const FLOW_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
const UNANSWERED_FLOW_TIMEOUT: Duration = Duration::from_secs(30);

/// How often silent flows are looked for.
const FLOW_SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Flows of one client address: one host must not take a node port from all others.
const FLOWS_PER_CLIENT_MAX: usize = 256;

/// What both directions of a flow know of it.
struct FlowActivity {
    last: Instant,
    answered: bool,
}

struct Flow {
    port: Arc<UdpPort>,
    endpoint: SocketAddr,
    activity: Arc<Mutex<FlowActivity>>,
    passing: Arc<Passing>,
    _answers: AbortOnDropHandle<()>,
}

/// The clients of one node port, and how many it may have.
struct Flows(HashMap<SocketAddr, Flow>, UdpClientShare);

impl Flows {
    /// Ends the flows that were silent for too long.
    fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, flow| {
            let activity = flow.activity.lock();
            let most = if activity.answered { FLOW_IDLE_TIMEOUT } else { UNANSWERED_FLOW_TIMEOUT };
            now.duration_since(activity.last) < most
        });
    }

    /// Whether there is room for a new flow of this client, after one that may go has made it.
    fn room(&mut self, client: SocketAddr) -> bool {
        let own = self.0.keys().filter(|peer| peer.ip() == client.ip()).count();
        let leaves = if FLOWS_PER_CLIENT_MAX <= own {
            self.oldest(|peer, _| peer.ip() == client.ip())
        } else if self.1.most() <= self.0.len() {
            self.oldest(|_, activity| !activity.answered)
        } else {
            return true;
        };
        leaves.is_some_and(|peer| self.0.remove(&peer).is_some())
    }

    /// Makes room for other node ports: those that were answered go last.
    fn shrink(&mut self) {
        while self.1.most() < self.0.len()
            && let Some(peer) =
                self.oldest(|_, activity| !activity.answered).or_else(|| self.oldest(|_, _| true))
        {
            self.0.remove(&peer);
        }
    }

    fn oldest(&self, may_go: impl Fn(&SocketAddr, &FlowActivity) -> bool) -> Option<SocketAddr> {
        let candidates = self.0.iter().filter_map(|(peer, flow)| {
            let activity = flow.activity.lock();
            may_go(peer, &activity).then_some((activity.last, *peer))
        });
        candidates.min().map(|(_, peer)| peer)
    }
}

/// Carries datagrams until the node port closes.
pub(crate) async fn serve(way: &Arc<NodePortListener>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let realm = way.target.read().realm.clone();
    let mut flows = Flows(HashMap::new(), realm.udp_client_quota().open());
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut sweep = interval(FLOW_SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            () = way.closed.cancelled() => return,
            _ = sweep.tick() => {
                flows.sweep(Instant::now());
                continue;
            }
            () = flows.1.changed() => {
                flows.shrink();
                continue;
            }
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error here is an ICMP answer to something sent before; the socket is sound.
        let Ok((length, peer)) = received else { continue };
        carry(way, &socket, &mut flows, peer, &buffer[..length]);
    }
}

/// Sends a client's datagram to the pod of its flow, which is a new one when there is none that may go on.
fn carry(
    way: &Arc<NodePortListener>,
    socket: &Arc<UdpSocket>,
    flows: &mut Flows,
    peer: SocketAddr,
    bytes: &[u8],
) {
    let target = way.target.read().clone();
    let gates = &way.shared.gates;
    let former = flows.0.get(&peer).map(|flow| flow.endpoint);
    let endpoint = target.next_of_flow(peer.ip(), former);
    if endpoint.ok() != former || former.is_none() {
        flows.0.remove(&peer);
        let opened = endpoint.map_err(Loss::from).and_then(|endpoint| {
            if !flows.room(peer) {
                return Err(Loss::Full);
            }
            open(way, &target.realm, socket, peer, endpoint).ok_or(Loss::TooMany)
        });
        match opened {
            Ok(flow) => drop(flows.0.insert(peer, flow)),
            Err(why) => {
                gates.refused(Gate::NodePortUdp, why);
                return gates.lost(Gate::NodePortUdp, why);
            }
        }
    }
    let Some(flow) = flows.0.get(&peer) else { return };
    flow.activity.lock().last = Instant::now();
    gates.datagram(Gate::NodePortUdp, Toward::Server);
    flow.passing.carried(Toward::Server, bytes.len() as u64);
    // A pod that is gone loses the datagram, as a network would.
    let (client, bytes) = (Source::Outside(peer.ip()), Bytes::copy_from_slice(bytes));
    let _ = target.realm.send_from_door(client, &flow.port, flow.endpoint, bytes);
}

fn open(
    way: &Arc<NodePortListener>,
    realm: &Arc<Realm>,
    socket: &Arc<UdpSocket>,
    peer: SocketAddr,
    endpoint: SocketAddr,
) -> Option<Flow> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let port = realm.gateway().bind_udp(any).ok()?;
    port.hear_only(endpoint);
    let gates = way.shared.gates.clone();
    let passing = gates.open(Gates::NONE.and(Gate::NodePortUdp));
    passing.accepted();
    let activity = Arc::new(Mutex::new(FlowActivity { last: Instant::now(), answered: false }));
    let (answers, socket, seen, carried) =
        (port.clone(), socket.clone(), activity.clone(), passing.clone());
    let answer = async move {
        loop {
            let (bytes, _) = answers.recv().await;
            *seen.lock() = FlowActivity { last: Instant::now(), answered: true };
            gates.datagram(Gate::NodePortUdp, Toward::Client);
            carried.carried(Toward::Client, bytes.len() as u64);
            let _ = socket.send_to(&bytes, peer).await;
        }
    };
    let answers = AbortOnDropHandle::new(way.shared.runtime.spawn(answer));
    Some(Flow { port, endpoint, activity, passing, _answers: answers })
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::{Fabric, MAX_SOCKETS};

    struct Table {
        realm: Arc<Realm>,
        flows: Flows,
        start: Instant,
    }

    impl Table {
        fn new() -> Self {
            let fabric = Fabric::new(tokio::runtime::Handle::current());
            Self::of(&fabric.realm(&ClusterName::root()))
        }

        /// A node port of this realm.
        fn of(realm: &Arc<Realm>) -> Self {
            let flows = Flows(HashMap::new(), realm.udp_client_quota().open());
            Self { realm: realm.clone(), flows, start: Instant::now() }
        }

        /// A client comes in, at this second.
        fn add(&mut self, client: &str, second: u64, answered: bool) -> bool {
            let peer = client.parse().unwrap();
            let room = self.flows.room(peer);
            if room {
                let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
                let last = self.start + Duration::from_secs(second);
                let flow = Flow {
                    port: self.realm.gateway().bind_udp(any).unwrap(),
                    endpoint: peer,
                    activity: Arc::new(Mutex::new(FlowActivity { last, answered })),
                    passing: self.realm.shared().gates.open(Gates::NONE),
                    _answers: AbortOnDropHandle::new(tokio::spawn(async {})),
                };
                self.flows.0.insert(peer, flow);
            }
            room
        }

        fn has(&self, client: &str) -> bool {
            self.flows.0.contains_key(&client.parse().unwrap())
        }

        /// Fills it with clients of different addresses.
        fn fill(&mut self, answered: bool) {
            for index in self.flows.0.len()..self.flows.1.most() {
                let client = format!("10.0.{}.{}:9", index / 250, index % 250);
                assert!(self.add(&client, 10, answered), "{client}");
            }
        }
    }

    #[tokio::test]
    async fn a_silent_flow_ends_and_sooner_when_it_never_had_an_answer() {
        let mut table = Table::new();
        table.add("192.0.2.1:1", 0, false);
        table.add("192.0.2.2:1", 0, true);
        let at = |seconds| table.start + Duration::from_secs(seconds);
        let (soon, later, end) = (at(29), at(31), at(121));
        table.flows.sweep(soon);
        assert!(table.has("192.0.2.1:1") && table.has("192.0.2.2:1"));
        table.flows.sweep(later);
        assert!(!table.has("192.0.2.1:1") && table.has("192.0.2.2:1"));
        table.flows.sweep(end);
        assert_eq!(table.flows.0.len(), 0);
        assert_eq!(table.realm.gateway().sockets(), 0, "their ports are free again");
    }

    #[tokio::test]
    async fn forged_clients_push_each_other_out_and_nobody_who_was_answered() {
        let mut table = Table::new();
        table.add("192.0.2.1:1", 0, true);
        table.add("192.0.2.2:1", 1, false);
        table.fill(false);
        assert!(table.add("192.0.2.3:1", 20, false));
        assert!(table.has("192.0.2.1:1"), "it was answered");
        assert!(!table.has("192.0.2.2:1"), "it was silent for longest");
        let mut table = Table::new();
        table.fill(true);
        assert!(!table.add("192.0.2.3:1", 20, false), "all others are at work");
        assert_eq!(table.flows.0.len(), table.flows.1.most());
    }

    #[tokio::test]
    async fn a_door_that_opens_gets_its_part_from_the_others() {
        let mut first = Table::new();
        let realm = first.realm.clone();
        first.add("192.0.2.1:1", 0, true);
        let mut node_ports = vec![first];
        node_ports.extend((1..4).map(|_| Table::of(&realm)));
        node_ports.iter_mut().for_each(|node_port| node_port.fill(false));
        assert_eq!(realm.gateway().sockets(), MAX_SOCKETS);
        let mut fifth = Table::of(&realm);
        for node_port in &mut node_ports {
            node_port.flows.1.changed().await;
            node_port.flows.shrink();
        }
        fifth.fill(true);
        assert!(fifth.has("10.0.0.0:9") && node_ports[0].has("192.0.2.1:1"), "it was answered");
        assert_eq!(node_ports[0].flows.0.len(), fifth.flows.0.len());
        assert!(realm.gateway().sockets() <= MAX_SOCKETS);
        drop(fifth);
        assert_eq!(node_ports[0].flows.1.most(), MAX_SOCKETS / 4);
    }

    #[tokio::test]
    async fn one_address_has_a_part_of_the_door_only() {
        let mut table = Table::new();
        for port in 0..2 * FLOWS_PER_CLIENT_MAX {
            let second = u64::try_from(port).unwrap();
            assert!(table.add(&format!("192.0.2.1:{}", port + 1), second, true));
        }
        assert_eq!(table.flows.0.len(), FLOWS_PER_CLIENT_MAX);
        assert!(!table.has("192.0.2.1:1"), "its own oldest flow went");
        assert!(table.add("192.0.2.2:1", 0, false));
    }
}
