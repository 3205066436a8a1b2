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
//! - nobody is kept out by others, whose addresses may be forged
//!   (`a_client_comes_in_while_a_thousand_forged_ones_were_answered_once`).

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::gates::{Gate, Gates, Loss, Toward};
use crate::node_port_listener::NodePortListener;
use crate::realm::Realm;
use crate::route::Source;
use crate::udp::DATAGRAM_BYTES_MAX;
use crate::udp_client_quota::{Flow, FlowActivity, UdpClients};

/// How often silent flows are looked for.
const FLOW_SWEEP_EVERY: Duration = Duration::from_secs(10);

thread_local! {
    /// What is being carried: no port has a buffer of its own, however many there are.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM_BYTES_MAX]);
}

/// Carries datagrams until the node port closes.
pub(crate) async fn serve(way: &Arc<NodePortListener>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let realm = way.target.read().realm.clone();
    let clients = realm.udp_client_quota().open();
    let mut sweep = interval(FLOW_SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let carry = || -> io::Result<()> {
            BUFFER.with_borrow_mut(|buffer| {
                let (length, peer) = socket.try_recv_from(buffer)?;
                carry(way, &socket, &clients, peer, &buffer[..length]);
                Ok(())
            })
        };
        tokio::select! {
            () = way.closed.cancelled() => return,
            _ = sweep.tick() => clients.sweep(Instant::now()),
            // An error here is an ICMP answer to something sent before; the socket is sound.
            _ = socket.async_io(Interest::READABLE, carry) => {}
        }
    }
}

/// Sends a client's datagram to the pod of its flow, which is a new one when there is none that may go on.
fn carry(
    way: &Arc<NodePortListener>,
    socket: &Arc<UdpSocket>,
    clients: &UdpClients,
    peer: SocketAddr,
    bytes: &[u8],
) {
    let target = way.target.read().clone();
    let gates = &way.shared.gates;
    let former = clients.get(peer);
    let at = former.as_ref().map(|flow| flow.endpoint);
    let endpoint = target.next_of_flow(peer.ip(), at);
    let flow = match former.filter(|_| endpoint.ok() == at) {
        Some(flow) => flow,
        None => {
            clients.remove(peer);
            let opened = endpoint.map_err(Loss::from).and_then(|endpoint| {
                clients.make_room(peer);
                open(way, &target.realm, socket, peer, endpoint).ok_or(Loss::TooMany)
            });
            match opened {
                Ok(flow) => {
                    clients.insert(peer, flow.clone());
                    flow
                }
                Err(why) => {
                    gates.refused(Gate::NodePortUdp, why);
                    return gates.lost(Gate::NodePortUdp, why);
                }
            }
        }
    };
    flow.activity.lock().asked();
    gates.datagram(Gate::NodePortUdp, Toward::Server);
    flow.passing.carried(Toward::Server, bytes.len() as u64);
    // A pod that is gone loses the datagram, as a network would.
    let (client, bytes) = (Source::Outside(peer.ip()), Bytes::copy_from_slice(bytes));
    let _ = target.realm.send_from_snat_address(client, &flow.port, flow.endpoint, bytes);
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
    let activity = Arc::new(Mutex::new(FlowActivity::new()));
    let (answers, socket, seen, carried) =
        (port.clone(), socket.clone(), activity.clone(), passing.clone());
    let answer = async move {
        loop {
            let (bytes, _) = answers.recv().await;
            seen.lock().answered();
            gates.datagram(Gate::NodePortUdp, Toward::Client);
            carried.carried(Toward::Client, bytes.len() as u64);
            let _ = socket.send_to(&bytes, peer).await;
        }
    };
    let answers = Arc::new(AbortOnDropHandle::new(way.shared.runtime.spawn(answer)));
    Some(Flow { port, endpoint, activity, passing, _answers: answers })
}
