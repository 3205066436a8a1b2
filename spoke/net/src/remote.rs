//! The way to other nodes, as the network sees it.

use std::net::{SocketAddr, SocketAddrV4};

use bytes::Bytes;
use freewheel_link::names::ClusterName;
use futures::future::BoxFuture;

use crate::bridge::Stream;
use crate::error::NetError;

/// The way to pods on other nodes (the link). It gets every connection and every datagram to a pod address
/// that is not here.
pub trait Remote: Send + Sync {
    /// Opens a stream to a pod of this realm; the far side hands it to its own fabric.
    fn connect(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, Result<Box<dyn Stream>, NetError>>;

    /// The link that is up: its number, which no later one has. `None`: it is known that there is none, and
    /// nothing waits for one.
    fn link(&self) -> Option<u64> {
        Some(0)
    }

    /// Resolves when the link that is up has gone down. Streams end then, whatever they wait for.
    fn outage(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    /// Sends a datagram of a pod, or of a client of this node's ports
    /// ([`SNAT_ADDRESS`](freewheel_link::message::SNAT_ADDRESS)), to a pod of this realm, or drops it. It must not
    /// wait.
    fn send_datagram(&self, _: &ClusterName, _: SocketAddrV4, _: SocketAddrV4, _: Bytes) {}
}

/// A stream over the link.
pub(crate) struct RemoteStream {
    pub(crate) stream: Box<dyn Stream>,
    /// Resolves when its link has gone down, or it has to make room.
    pub(crate) outage: BoxFuture<'static, ()>,
}
