//! UDP of pods, from the spoke of one to the spoke of the other.
//!
//! Guarantees: a spoke speaks only for addresses that are leased to it, in a realm that it takes part in;
//! nothing waits and nothing is kept here: what a link does not take at once is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use freewheel_link::message::{DatagramV1, HubToSpoke};
use freewheel_link::names::ClusterName;
use freewheel_link::transport::Transport;
use tracing::debug;

use crate::{Inner, records};

/// Relays a datagram of one of this spoke's pods, or drops it.
pub(crate) fn relay(inner: &Inner, spoke: &ClusterName, datagram: DatagramV1) {
    let sent = way(inner, spoke, &datagram).is_some_and(|link| {
        postcard::to_stdvec(&HubToSpoke::Datagram(datagram))
            .is_ok_and(|bytes| link.offer_datagram(bytes.into()))
    });
    if !sent {
        inner.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The link to the spoke that it is for, if this spoke may send it and that one is connected.
fn way(inner: &Inner, spoke: &ClusterName, datagram: &DatagramV1) -> Option<Arc<dyn Transport>> {
    let DatagramV1 { realm, from, to, .. } = datagram;
    let snapshot = inner.objects.store().snapshot();
    let owner = |address| records::owner_of(&*snapshot, realm, address);
    let its_realm = realm.is_root() || realm == spoke;
    // Without a stream nobody can be told of a refusal, and an address that is no pod's could not be
    // answered: doors of nodes have the same one on every node.
    if !its_realm || owner(*from.ip()).as_ref() != Some(spoke) {
        debug!(cluster = %spoke, %from, %realm, "a datagram is not this spoke's to send");
        return None;
    }
    let target = owner(*to.ip())?;
    let links = inner.links.lock();
    links.get(&target).map(|link| link.transport.clone())
}
