//! A port of the node that leads into a realm, as those see it who carry what comes through.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::plan::Protocol;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::conn::{Connecting, Side};
use crate::error::NetError;
use crate::gates::Gate;
use crate::realm::Realm;
use crate::route::{Hop, Route, Source, To};
use crate::shared::Shared;

/// First and longest wait before a port that somebody else has is tried again.
pub(crate) const BIND_RETRY_FIRST_AND_MAX: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_secs(5));

/// A port of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its number on the node's address.
    pub port: u16,
}

/// Where a node port leads.
#[derive(Clone)]
pub(crate) struct NodePortTarget {
    pub(crate) realm: Arc<Realm>,
    pub(crate) to: To,
}

impl NodePortTarget {
    /// Connects a client, whose real address the pod sees.
    pub(crate) fn connect(&self, peer: SocketAddr) -> Connecting {
        let from = Source::Outside(peer.ip());
        self.realm.connect(from, Side::outside(peer).through(Gate::NodePort), &self.to)
    }

    /// Whether it leads to a pod that is not known to be full and that this client could be sent to.
    pub(crate) fn may_have_room(&self, client: IpAddr) -> bool {
        match self.realm.route(Source::Outside(client), &self.to, Protocol::Tcp) {
            Route::Service { service, port } => self.realm.may_have_room(&service, port),
            // There is one pod, and who asks was turned away.
            Route::Straight(_) => false,
        }
    }

    /// The pod that serves the next datagram of this client, whose flow went to `former` so far.
    pub(crate) fn next_of_flow(
        &self,
        client: IpAddr,
        former: Option<SocketAddr>,
    ) -> Result<SocketAddr, NetError> {
        match self.realm.route(Source::Outside(client), &self.to, Protocol::Udp) {
            Route::Service { service, port } => {
                self.realm.next_of_flow(&service, port, client, former)
            }
            Route::Straight(Hop::Here { at, .. } | Hop::Elsewhere { at }) => Ok(at),
            Route::Straight(Hop::Nowhere(error)) => Err(error),
        }
    }
}

/// A wanted node port, as its task sees it.
pub(crate) struct NodePortListener {
    pub(crate) node_port: NodePort,
    pub(crate) target: RwLock<NodePortTarget>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) closed: CancellationToken,
    pub(crate) owner: String,
}
