//! UDP of pods, from the spoke of one to the spoke of the other.
//!
//! ```text
//! pod ──────────────────────────────────▶ pod
//! client ──▶ node's port: from DOOR ──▶ from the node's address in the realm ──▶ pod
//!            node's port:   to DOOR ◀──   to the node's address in the realm ◀── pod
//! ```
//!
//! What a link does not take at once is dropped and counted.
//!
//! Guarantees:
//! - a spoke speaks only for addresses that are leased to it, in a realm that it takes part in
//!   (`a_pods_datagram_is_relayed_between_leased_addresses_only`);
//! - what asks for an address of the node's own while there is none is looked after a few times, and then now and then
//!   (`datagrams_do_not_ask_a_store_that_cannot_write_all_the_time`);
//! - an answer goes to the node that its question came through (`an_answer_goes_to_the_node_that_the_question_came_through`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use freewheel_link::message::{DOOR, DatagramV1, HubToSpoke};
use freewheel_link::names::ClusterName;
use freewheel_link::transport::Transport;
use tracing::debug;

use crate::papers::Papers;
use crate::{Inner, records};

/// Datagrams in a row by which a spoke without an address of its own may ask for one, and per second after that. There are
/// two realms to ask for.
pub(crate) const BURST: u32 = 4;
pub(crate) const RATE: f64 = 0.2;

/// Relays a datagram of one of this spoke's pods, or from one of its ports, or drops it.
pub(crate) async fn relay(inner: &Inner, papers: &Papers, datagram: DatagramV1) {
    let sent = route(inner, papers, datagram).await.is_some_and(|(link, datagram)| {
        postcard::to_stdvec(&HubToSpoke::Datagram(datagram))
            .is_ok_and(|bytes| link.offer_datagram(bytes.into()))
    });
    if !sent {
        inner.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The link to the spoke that it is for, if this spoke may send it and that one is connected; and the
/// datagram as it is to arrive there.
async fn route(
    inner: &Inner,
    papers: &Papers,
    mut datagram: DatagramV1,
) -> Option<(Arc<dyn Transport>, DatagramV1)> {
    let spoke = &papers.cluster;
    let DatagramV1 { realm, from, to, .. } = &mut datagram;
    // The pod network speaks IPv4; an address in IPv6's clothes is nobody's.
    let (IpAddr::V4(sender), IpAddr::V4(receiver)) = (from.ip(), to.ip()) else { return None };
    let snapshot = inner.objects.store().snapshot();
    let owner = |address| records::owner_of(&*snapshot, realm, address);
    let its_realm = realm.is_root() || realm == spoke;
    let through_door = sender == DOOR;
    let own = owner(sender).as_ref() == Some(spoke) && !records::is_node_address(sender);
    // Without a stream nobody can be told of a refusal.
    if !its_realm || !(own || through_door) {
        debug!(cluster = %spoke, %from, %realm, "a datagram is not this spoke's to send");
        return None;
    }
    // What is for the spoke itself would have found its way there.
    let target = owner(receiver).filter(|target| target != spoke)?;
    let link = inner.links.lock().get(&target)?.transport.clone();
    if through_door {
        from.set_ip(node_address(inner, realm, papers).await?.into());
    }
    if records::is_node_address(receiver) {
        to.set_ip(DOOR.into());
    }
    Some((link, datagram))
}

/// The spoke's own address in a realm. It is in the first of its ranges: without a pod there it may have
/// none yet, and gets one.
async fn node_address(inner: &Inner, realm: &ClusterName, papers: &Papers) -> Option<Ipv4Addr> {
    let (ranges, spoke) = (&inner.interest.ranges, &papers.cluster);
    let own = || ranges.usable(realm, spoke).first().copied().map(records::node_address);
    if let Some(own) = own() {
        return Some(own);
    }
    if !inner.doors.take(&papers.uid) {
        return None;
    }
    let store = inner.objects.store();
    let holder = (spoke, &[papers.hold(&*store.snapshot())][..]);
    if let Err(error) = ranges.lease(store, realm, holder, 1).await {
        debug!(cluster = %spoke, %realm, %error, "no address for what comes through a node's port");
    }
    own()
}
