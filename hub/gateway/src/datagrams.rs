//! UDP of pods, from the spoke of one to the spoke of the other.
//!
//! ```text
//! pod ──────────────────────────────────▶ pod
//! client ──▶ node's port: from SNAT_ADDRESS ──▶ from the node's address in the realm ──▶ pod
//!            node's port:   to SNAT_ADDRESS ◀──   to the node's address in the realm ◀── pod
//! ```
//!
//! What a link does not take at once is dropped and counted.
//!
//! Guarantees:
//! - a spoke speaks only for addresses that are leased to it, in a realm that it takes part in
//!   (`a_pods_datagram_is_relayed_between_leased_addresses_only`);
//! - what asks for an address of the node's own while there is none is looked after a few times, and then now and then
//!   (`datagrams_do_not_ask_a_store_that_cannot_write_all_the_time`), and holds up no other datagram and no heartbeat
//!   (`a_port_that_waits_for_its_address_holds_up_no_other_datagram`);
//! - an answer goes to the node that its question came through
//!   (`an_answer_goes_to_the_node_that_the_question_came_through`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use freewheel_link::message::{DatagramV1, HubToSpoke, SNAT_ADDRESS, ability};
use freewheel_link::names::ClusterName;
use freewheel_link::transport::Transport;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::debug;

use crate::inner::Inner;
use crate::links::Link;
use crate::pod_cidr_leases::PodCidrLeases;
use crate::session_records;
use crate::spoke_identity::SpokeIdentity;

/// Datagrams in a row by which a spoke without an address of its own may ask for one, and per second after that. There
/// are two realms to ask for.
pub(crate) const DATAGRAM_LEASE_BURST: u32 = 4;
pub(crate) const DATAGRAM_LEASES_PER_SECOND: f64 = 0.2;

/// Datagrams from a spoke's ports that wait for an address of its own; more are dropped.
const WAITING_DATAGRAMS_MAX: usize = 16;

/// Those of one session. Mostly there are none, and a channel would keep room for twice as many.
#[derive(Default)]
pub(crate) struct WaitingDatagrams {
    line: Mutex<VecDeque<DatagramV1>>,
    came: Notify,
}

impl WaitingDatagrams {
    /// One more; whether there is room for it.
    fn put(&self, datagram: DatagramV1) -> bool {
        let mut line = self.line.lock();
        let has_room = line.len() < WAITING_DATAGRAMS_MAX;
        if has_room {
            line.push_back(datagram);
            self.came.notify_one();
        }
        has_room
    }

    /// The one that has waited longest.
    async fn next(&self) -> DatagramV1 {
        loop {
            {
                let mut line = self.line.lock();
                if let Some(datagram) = line.pop_front() {
                    return datagram;
                }
                *line = VecDeque::new();
            }
            self.came.notified().await;
        }
    }
}

/// Where a datagram goes.
enum Way {
    /// Over this link, as it is to arrive there.
    To(Arc<dyn Transport>, DatagramV1),
    /// It came through a port of a spoke that has no address of its own in this realm.
    Unaddressed(DatagramV1),
    /// The spoke may not send it, or the one that it is for is not connected.
    Nowhere,
}

/// Relays a datagram of one of this spoke's pods, or from one of its ports, or drops it. What lacks an address waits
/// with others `waiting_datagrams`: a lease is a write, and heartbeats and pods' datagrams must not wait for the disk.
pub(crate) fn relay(
    inner: &Inner,
    identity: &SpokeIdentity,
    waiting_datagrams: &WaitingDatagrams,
    datagram: DatagramV1,
) {
    let taken = match way(inner, identity, datagram) {
        Way::To(link, datagram) => send(&link, datagram),
        Way::Unaddressed(datagram) => waiting_datagrams.put(datagram),
        Way::Nowhere => false,
    };
    if !taken {
        inner.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Gets the spoke an address for each datagram that waits for one, and sends it then.
pub(crate) async fn send_waiting_datagrams(
    inner: &Inner,
    identity: &SpokeIdentity,
    waiting: &WaitingDatagrams,
) -> Infallible {
    loop {
        let datagram = waiting.next().await;
        Box::pin(lease_address(inner, &datagram.realm, identity)).await;
        let sent = match way(inner, identity, datagram) {
            Way::To(link, datagram) => send(&link, datagram),
            Way::Unaddressed(_) | Way::Nowhere => false,
        };
        if !sent {
            inner.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn send(link: &Arc<dyn Transport>, datagram: DatagramV1) -> bool {
    postcard::to_stdvec(&HubToSpoke::Datagram(datagram))
        .is_ok_and(|bytes| link.offer_datagram(bytes.into()))
}

fn way(inner: &Inner, identity: &SpokeIdentity, mut datagram: DatagramV1) -> Way {
    let spoke = &identity.cluster;
    let DatagramV1 { realm, from, to, .. } = &mut datagram;
    // The pod network speaks IPv4; an address in IPv6's clothes is nobody's.
    let (IpAddr::V4(sender), IpAddr::V4(receiver)) = (from.ip(), to.ip()) else {
        return Way::Nowhere;
    };
    let snapshot = inner.objects.store().snapshot();
    let owner = |address| session_records::owner_of(&*snapshot, realm, address);
    let its_realm = realm.is_root() || realm == spoke;
    let through_node_port = sender == SNAT_ADDRESS;
    let own = owner(sender).as_ref() == Some(spoke) && !session_records::is_node_address(sender);
    // Without a stream nobody can be told of a refusal.
    if !its_realm || !(own || through_node_port) {
        debug!(cluster = %spoke, %from, %realm, "a datagram is not this spoke's to send");
        return Way::Nowhere;
    }
    // What is for the spoke itself would have found its way there.
    let target = owner(receiver).filter(|target| target != spoke);
    let links = inner.links.lock();
    let able = |link: &&Link| link.abilities & ability::DATAGRAMS != 0;
    let link = target.and_then(|target| links.get(&target).filter(able));
    let link = link.map(|link| link.transport.clone());
    drop(links);
    let Some(link) = link else { return Way::Nowhere };
    if through_node_port {
        match node_address(&inner.fanout.ranges, realm, spoke) {
            Some(own) => from.set_ip(own.into()),
            None => return Way::Unaddressed(datagram),
        }
    }
    if session_records::is_node_address(receiver) {
        to.set_ip(SNAT_ADDRESS.into());
    }
    Way::To(link, datagram)
}

/// The spoke's own address in a realm. It is in the first of its ranges: without a pod there it may have none yet.
fn node_address(
    ranges: &PodCidrLeases,
    realm: &ClusterName,
    spoke: &ClusterName,
) -> Option<Ipv4Addr> {
    ranges.usable(realm, spoke).first().copied().map(session_records::node_address)
}

/// Gets it one, if it has none and may ask for one.
async fn lease_address(inner: &Inner, realm: &ClusterName, identity: &SpokeIdentity) {
    let spoke = &identity.cluster;
    if node_address(&inner.fanout.ranges, realm, spoke).is_some()
        || !inner.datagram_leases.take(&identity.uid)
    {
        return;
    }
    let store = inner.objects.store();
    let holder = (spoke, &[identity.hold(&*store.snapshot())][..]);
    if let Err(error) = inner.fanout.ranges.lease(store, realm, holder, 1).await {
        debug!(cluster = %spoke, %realm, %error, "no address for what comes through a node's port");
    }
}
