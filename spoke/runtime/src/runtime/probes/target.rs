//! What is looked at: a container, and the ports of its pod.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use freewheel_spoke_net::ConnIo;

use crate::container::Container;
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
        let start = &self.container.start;
        let at = if self.is_served_elsewhere(port) { start.ports.first() } else { None };
        let dialled = self.runtime.fabric.probe_pod(&start.id.pod, *at.unwrap_or(&port));
        dialled.map_err(|error| format!("dial tcp {}: connect: {error}", self.address(port)))
    }

    /// Whether a port that nobody listens on is one of those that a container declares which answers requests: it is
    /// served on the first of them.
    fn is_served_elsewhere(&self, port: u16) -> bool {
        matches!(self.container.module.kind, Kind::Http(_))
            && self.container.start.ports.contains(&port)
            && !self.container.pod.listens(port)
    }
}
