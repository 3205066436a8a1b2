//! What is looked at: a container, and the ports of its pod.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use freewheel_spoke_net::{ConnIo, NetError};

use crate::container::Container;
use crate::http::DEFAULT_PORT;
use crate::module::Kind;
use crate::runtime::Runtime;

/// Bytes of an answer or of a command's output that are read.
pub(super) const PROBE_BYTES_MAX: usize = 10 << 10;

/// Where a look goes.
pub(super) struct Target {
    pub(super) runtime: Arc<Runtime>,
    pub(super) container: Arc<Container>,
    /// The pod's.
    pub(super) ip: IpAddr,
}

impl Target {
    pub(super) const fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// Connects to a port of the pod; an error in the words of Go's net package.
    pub(super) fn dial(&self, port: u16) -> Result<ConnIo, String> {
        let pod = &self.container.start.id.pod;
        let dialled = self.runtime.fabric.probe_pod(pod, port).or_else(|error| {
            match (error, self.served()) {
                (NetError::Refused, Some(own)) => self.runtime.fabric.probe_pod(pod, own),
                (error, _) => Err(error),
            }
        });
        dialled.map_err(|error| format!("dial tcp {}: connect: {error}", self.address(port)))
    }

    /// Where a container is served that answers requests.
    fn served(&self) -> Option<u16> {
        let serves = matches!(self.container.module.kind, Kind::Http(_));
        serves.then(|| self.container.start.ports.first().copied().unwrap_or(DEFAULT_PORT))
    }
}
