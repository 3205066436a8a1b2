//! The clients that UDP node ports of a realm may have: each node port as many as any other, because with forged
//! addresses one node port could have all.
//!
//! Guarantees:
//! - node ports have no more together than their realm has ports for them
//!   (`a_door_that_opens_gets_its_part_from_the_others`).

use tokio::sync::watch;

use crate::sockets::MAX_SOCKETS;

/// Clients of one node port at a time.
const CLIENTS_PER_PORT_MAX: usize = 1024;

/// The node ports of a realm that are open.
pub(crate) struct UdpClientQuota(watch::Sender<usize>);

impl Default for UdpClientQuota {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl UdpClientQuota {
    /// One more node port is open, until what is returned goes.
    pub(crate) fn open(&self) -> UdpClientShare {
        self.0.send_modify(|node_ports| *node_ports += 1);
        UdpClientShare { node_ports: self.0.clone(), seen: self.0.subscribe() }
    }
}

/// One node port's part.
pub(crate) struct UdpClientShare {
    node_ports: watch::Sender<usize>,
    seen: watch::Receiver<usize>,
}

impl UdpClientShare {
    /// Clients that it may have now.
    pub(crate) fn most(&self) -> usize {
        (MAX_SOCKETS / (*self.seen.borrow()).max(1)).clamp(1, CLIENTS_PER_PORT_MAX)
    }

    /// Waits until that may have changed.
    pub(crate) async fn changed(&mut self) {
        // The sender is here: it is never closed.
        let _ = self.seen.changed().await;
    }
}

impl Drop for UdpClientShare {
    fn drop(&mut self) {
        self.node_ports.send_modify(|node_ports| *node_ports -= 1);
    }
}
