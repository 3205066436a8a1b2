//! One pod's network: its own ports, and the way from there to everybody else in its realm.
//!
//! What a pod sends to itself is decided here; for all else the realm is asked.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use freewheel_link::plan::Protocol;
use freewheel_spoke_agent::ports::PodNetwork;

use crate::conn::Connecting;
use crate::error::NetError;
use crate::ports::Ports;
use crate::realm::Realm;
use crate::route::{Route, To};
use crate::udp::{DATAGRAM_BYTES_MAX, UdpPort};

/// One pod's network.
pub struct PodNet {
    ports: Arc<Ports>,
    realm: Arc<Realm>,
}

/// A pod has what others meet of it.
impl Deref for PodNet {
    type Target = Arc<Ports>;

    fn deref(&self) -> &Arc<Ports> {
        &self.ports
    }
}

impl PodNet {
    pub(crate) fn new(who: PodNetwork, realm: Arc<Realm>) -> Arc<Self> {
        Arc::new(Self { ports: Ports::new(who, realm.shared()), realm })
    }

    /// The realm that the pod is in.
    #[must_use]
    pub const fn realm(&self) -> &Arc<Realm> {
        &self.realm
    }

    /// Connects from a container of this pod: to itself, to a pod or a Service of its realm.
    pub fn connect(&self, local: Option<SocketAddr>, to: SocketAddr) -> Connecting {
        if to.port() == 0 || to.ip().is_unspecified() {
            return Connecting::Now(Err(NetError::Invalid));
        }
        let client = match self.client(local, to) {
            Ok(client) => client,
            Err(error) => return Connecting::Now(Err(error)),
        };
        let source = self.source();
        if source.owns(to.ip()) {
            return Connecting::Now(self.take(client, to, to));
        }
        self.realm.connect(source, client, &To::Address(to))
    }

    /// Sends a datagram. Nobody there is not an error, as with UDP everywhere.
    ///
    /// # Errors
    /// When the address cannot be reached from this pod at all, or the datagram is too large.
    pub fn send_udp(&self, from: &UdpPort, to: SocketAddr, bytes: Bytes) -> Result<(), NetError> {
        if to.port() == 0 || to.ip().is_unspecified() || DATAGRAM_BYTES_MAX < bytes.len() {
            return Err(NetError::Invalid);
        }
        let (source, port) = (self.source(), from.address().port());
        let address = SocketAddr::new(self.seen_from(to.ip()), port);
        if source.owns(to.ip()) {
            self.deliver_udp(address, to, bytes);
            return Ok(());
        }
        let hop = match self.realm.route(source, &To::Address(to), Protocol::Udp) {
            Route::Straight(hop) => hop,
            Route::Service { service, port } => {
                let former = from.endpoint(to);
                let endpoint = self.realm.next_of_flow(&service, port, address.ip(), former)?;
                if former != Some(endpoint) {
                    from.choose(to, endpoint);
                }
                self.realm.hop(source, endpoint, Protocol::Udp)
            }
        };
        self.realm.send_udp(hop, address, bytes)
    }

    /// Addresses behind a name, as a container of this pod sees it.
    ///
    /// # Errors
    /// When nobody in the realm has the name.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        self.realm.resolve(self.who(), name)
    }
}
