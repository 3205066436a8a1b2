//! The clients that UDP node ports of a realm have, and who goes when there are more than there are places.
//!
//! With a forged address anybody can be many clients, and each of them is answered. So a client counts as proven when it
//! spoke again after an answer. That is dearer to forge and not impossible, as nothing here knows what an answer says:
//! who sends twice from each of a thousand addresses has all places, and pushes silent clients out. Nobody is refused:
//! somebody else goes.
//!
//! Guarantees:
//! - silent flows end (`a_silent_flow_ends_and_sooner_until_its_client_is_proven`), and leave no places behind
//!   (`a_node_port_that_had_many_clients_keeps_few_places`);
//! - flows are bounded, in all and for each address; those that are not proven make room for each other while they
//!   have a quarter of the places, otherwise who was silent for longest
//!   (`a_client_comes_in_while_a_thousand_forged_ones_were_answered_once`,
//!   `forged_clients_push_each_other_out_and_nobody_who_is_proven`,
//!   `a_new_client_comes_in_when_all_others_are_proven`, `one_address_has_a_part_of_the_node_port_only`);
//! - node ports share by use: the fullest one gives (`node_ports_that_nobody_uses_take_no_places_from_others`,
//!   `a_node_port_that_fills_up_gets_its_part_from_the_fullest`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freewheel_spoke_account::give_back;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::gates::Passing;
use crate::sockets::MAX_SOCKETS;
use crate::udp::UdpPort;

/// How long a silent flow is kept: as conntrack does, less long until its client is proven.
const FLOW_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
const UNPROVEN_FLOW_TIMEOUT: Duration = Duration::from_secs(30);

/// Clients of one address: one host must not take a node port from all others.
const CLIENTS_PER_ADDRESS_MAX: usize = 256;
/// Clients of one node port at a time.
const CLIENTS_PER_PORT_MAX: usize = 1024;
/// Clients of all of them. The other ports of the realm's gateway are those of flows whose task is about to end.
const CLIENTS_MAX: usize = MAX_SOCKETS - 256;

/// What both directions of a flow know of it.
pub(crate) struct FlowActivity {
    last: Instant,
    answered: bool,
    proven: bool,
}

impl FlowActivity {
    pub(crate) fn new() -> Self {
        Self { last: Instant::now(), answered: false, proven: false }
    }

    /// Its client spoke.
    pub(crate) fn asked(&mut self) {
        (self.last, self.proven) = (Instant::now(), self.answered);
    }

    /// Its pod did.
    pub(crate) fn answered(&mut self) {
        (self.last, self.answered) = (Instant::now(), true);
    }
}

/// One client of a node port.
#[derive(Clone)]
pub(crate) struct Flow {
    pub(crate) port: Arc<UdpPort>,
    pub(crate) endpoint: SocketAddr,
    pub(crate) activity: Arc<Mutex<FlowActivity>>,
    pub(crate) passing: Arc<Passing>,
    pub(crate) _answers: Arc<AbortOnDropHandle<()>>,
}

type Flows = HashMap<SocketAddr, Flow>;

#[derive(Default)]
struct Table {
    opened: u64,
    /// Node ports that had a client.
    flows: HashMap<u64, Flows>,
}

/// The clients of a realm's UDP node ports. Who holds the table may look at what a flow did last; who notes that holds no
/// table.
#[derive(Default)]
pub(crate) struct UdpClientQuota(Arc<Mutex<Table>>);

impl UdpClientQuota {
    /// One more node port is open, until what is returned goes.
    pub(crate) fn open(&self) -> UdpClients {
        let mut table = self.0.lock();
        table.opened += 1;
        UdpClients { node_port: table.opened, table: self.0.clone() }
    }
}

/// One node port's clients.
pub(crate) struct UdpClients {
    node_port: u64,
    table: Arc<Mutex<Table>>,
}

impl UdpClients {
    pub(crate) fn get(&self, client: SocketAddr) -> Option<Flow> {
        self.table.lock().flows.get(&self.node_port)?.get(&client).cloned()
    }

    pub(crate) fn remove(&self, client: SocketAddr) {
        if let Some(flows) = self.table.lock().flows.get_mut(&self.node_port) {
            flows.remove(&client);
        }
    }

    /// Has this client from now on. [`Self::make_room`] comes before.
    pub(crate) fn insert(&self, client: SocketAddr, flow: Flow) {
        self.table.lock().flows.entry(self.node_port).or_default().insert(client, flow);
    }

    /// Lets one go if this new client would be too many.
    pub(crate) fn make_room(&self, client: SocketAddr) {
        let mut table = self.table.lock();
        let all: usize = table.flows.values().map(HashMap::len).sum();
        let own = table.flows.entry(self.node_port).or_default();
        let here = own.len();
        if CLIENTS_PER_ADDRESS_MAX <= own.keys().filter(|peer| peer.ip() == client.ip()).count() {
            let_one_go(own, Some(client.ip()));
        } else if CLIENTS_PER_PORT_MAX <= here {
            let_one_go(own, None);
        } else if CLIENTS_MAX <= all {
            let fullest = table.flows.values_mut().max_by_key(|flows| flows.len());
            if let Some(fullest) = fullest.filter(|flows| here < flows.len()) {
                let_one_go(fullest, None);
            } else if let Some(own) = table.flows.get_mut(&self.node_port) {
                let_one_go(own, None);
            }
        }
    }

    /// Ends the flows that were silent for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        if let Some(flows) = self.table.lock().flows.get_mut(&self.node_port) {
            flows.retain(|_, flow| {
                let activity = flow.activity.lock();
                let most = if activity.proven { FLOW_IDLE_TIMEOUT } else { UNPROVEN_FLOW_TIMEOUT };
                now.duration_since(activity.last) < most
            });
            give_back(flows);
        }
    }
}

impl Drop for UdpClients {
    fn drop(&mut self) {
        self.table.lock().flows.remove(&self.node_port);
    }
}

/// The one that was silent for longest: of those that are not proven while these have more than a quarter, or of the
/// others, so that neither kind keeps the other out.
fn let_one_go(flows: &mut Flows, of: Option<IpAddr>) {
    let mut candidates = Vec::with_capacity(flows.len());
    for (peer, flow) in flows.iter().filter(|(peer, _)| of.is_none_or(|of| peer.ip() == of)) {
        let activity = flow.activity.lock();
        candidates.push((activity.proven, activity.last, *peer));
    }
    let unproven = candidates.iter().filter(|(proven, ..)| !proven).count();
    let goes = candidates.len() >= 4 * unproven;
    let first = candidates.iter().min_by_key(|(proven, last, _)| (*proven != goes, *last));
    if let Some((_, _, peer)) = first {
        flows.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use freewheel_link::names::ClusterName;
    use tokio::runtime::Handle;

    use super::*;
    use crate::Fabric;
    use crate::gates::Gates;
    use crate::realm::Realm;

    struct NodePort {
        realm: Arc<Realm>,
        clients: UdpClients,
        start: Instant,
    }

    impl NodePort {
        fn new() -> Self {
            Self::of(&Fabric::new(Handle::current()).realm(&ClusterName::root()))
        }

        fn of(realm: &Arc<Realm>) -> Self {
            let clients = realm.udp_client_quota().open();
            Self { realm: realm.clone(), clients, start: Instant::now() }
        }

        /// A client comes in, at this second.
        fn add(&self, client: &str, second: u64, proven: bool) {
            let client = client.parse().unwrap();
            self.clients.make_room(client);
            let last = self.start + Duration::from_secs(second);
            let flow = Flow {
                port: self
                    .realm
                    .gateway()
                    .bind_udp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))
                    .unwrap(),
                endpoint: client,
                activity: Arc::new(Mutex::new(FlowActivity { last, answered: true, proven })),
                passing: self.realm.shared().gates.open(Gates::NONE),
                _answers: Arc::new(AbortOnDropHandle::new(tokio::spawn(async {}))),
            };
            self.clients.insert(client, flow);
        }

        fn has(&self, client: &str) -> bool {
            self.clients.get(client.parse().unwrap()).is_some()
        }

        fn len(&self) -> usize {
            self.clients.table.lock().flows.get(&self.clients.node_port).map_or(0, HashMap::len)
        }

        /// Comes with as many clients of different addresses as it may have.
        fn fill(&self, proven: bool) {
            for index in self.len()..CLIENTS_PER_PORT_MAX {
                self.add(&format!("10.0.{}.{}:9", index / 250, index % 250), 10, proven);
            }
        }
    }

    #[tokio::test]
    async fn a_silent_flow_ends_and_sooner_until_its_client_is_proven() {
        let node_port = NodePort::new();
        node_port.add("192.0.2.1:1", 0, false);
        node_port.add("192.0.2.2:1", 0, true);
        let sweep = |seconds| {
            node_port.clients.sweep(node_port.start + Duration::from_secs(seconds));
            ["192.0.2.1:1", "192.0.2.2:1"].map(|client| node_port.has(client))
        };
        assert_eq!(sweep(29), [true, true]);
        assert_eq!(sweep(31), [false, true]);
        assert_eq!(sweep(121), [false, false]);
        assert_eq!(node_port.realm.gateway().sockets(), 0, "their ports are free again");
    }

    #[tokio::test]
    async fn a_node_port_that_had_many_clients_keeps_few_places() {
        let node_port = NodePort::new();
        node_port.fill(false);
        let places = || {
            let table = node_port.clients.table.lock();
            table.flows.get(&node_port.clients.node_port).map_or(0, HashMap::capacity)
        };
        assert!(CLIENTS_PER_PORT_MAX <= places());
        node_port.clients.sweep(node_port.start + Duration::from_secs(1000));
        assert!(node_port.len() == 0 && places() < 64, "{} places", places());
    }

    #[test]
    fn who_speaks_after_an_answer_is_proven() {
        let mut activity = FlowActivity::new();
        activity.asked();
        activity.asked();
        assert!(!activity.proven, "nobody has answered");
        activity.answered();
        assert!(!activity.proven, "the address may be another's");
        activity.asked();
        assert!(activity.proven);
    }

    #[tokio::test]
    async fn forged_clients_push_each_other_out_and_nobody_who_is_proven() {
        let node_port = NodePort::new();
        node_port.add("192.0.2.1:1", 0, true);
        node_port.add("192.0.2.2:1", 1, false);
        node_port.fill(false);
        node_port.add("192.0.2.3:1", 20, false);
        assert!(node_port.has("192.0.2.3:1") && node_port.has("192.0.2.1:1"), "it is proven");
        assert!(!node_port.has("192.0.2.2:1"), "it was silent for longest");
    }

    #[tokio::test]
    async fn a_new_client_comes_in_when_all_others_are_proven() {
        let node_port = NodePort::new();
        node_port.add("192.0.2.1:1", 0, true);
        node_port.fill(true);
        for index in 1..=CLIENTS_PER_PORT_MAX {
            let client = format!("172.16.{}.{}:9", index / 250, index % 250);
            node_port.add(&client, 20, false);
            assert!(node_port.has(&client));
            assert_eq!(node_port.len(), CLIENTS_PER_PORT_MAX);
        }
        assert!(!node_port.has("192.0.2.1:1"), "it was silent for longest");
        let clients = node_port.clients.table.lock();
        let unproven = |flow: &&Flow| !flow.activity.lock().proven;
        let unproven = clients.flows[&node_port.clients.node_port].values().filter(unproven);
        assert_eq!(unproven.count(), CLIENTS_PER_PORT_MAX / 4 + 1, "the others stay");
    }

    #[tokio::test]
    async fn a_node_port_that_fills_up_gets_its_part_from_the_fullest() {
        let first = NodePort::new();
        let realm = first.realm.clone();
        first.add("192.0.2.1:1", 0, true);
        let mut others: Vec<_> = (1..4).map(|_| NodePort::of(&realm)).collect();
        first.fill(false);
        others.iter().for_each(|node_port| node_port.fill(false));
        assert_eq!(realm.gateway().sockets(), CLIENTS_MAX);
        let idle: Vec<_> = (0..500).map(|_| NodePort::of(&realm)).collect();
        let late = NodePort::of(&realm);
        late.fill(true);
        assert!(first.has("192.0.2.1:1"), "it is proven");
        assert_eq!(realm.gateway().sockets(), CLIENTS_MAX);
        others.extend([first, late]);
        for node_port in &others {
            assert!((CLIENTS_MAX / 5..=CLIENTS_MAX / 5 + 1).contains(&node_port.len()));
        }
        drop((idle, others));
        assert_eq!(realm.gateway().sockets(), 0);
    }

    #[tokio::test]
    async fn one_address_has_a_part_of_the_node_port_only() {
        let node_port = NodePort::new();
        for port in 0..2 * CLIENTS_PER_ADDRESS_MAX {
            let second = u64::try_from(port).unwrap();
            node_port.add(&format!("192.0.2.1:{}", port + 1), second, true);
        }
        assert_eq!(node_port.len(), CLIENTS_PER_ADDRESS_MAX);
        assert!(!node_port.has("192.0.2.1:1"), "its own oldest flow went");
        node_port.add("192.0.2.2:1", 0, false);
        assert_eq!(node_port.len(), CLIENTS_PER_ADDRESS_MAX + 1);
    }
}
