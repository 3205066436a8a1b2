//! One spoke of the swarm: an agent with a ledger, its uplink, and a line to the hub.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use freewheel_link::names::ClusterName;
use freewheel_link::quic::Dialer;
use freewheel_link::report::NodeStatusV1;
use freewheel_spoke_agent::agent::{Agent, Config};
use freewheel_spoke_agent::fake::{self, SimDisk, TokioClock};
use freewheel_spoke_agent::ledger::LedgerError;
use freewheel_spoke_agent::ports::{Input, Ports};
use freewheel_spoke_agent::uplink::{Handle, SpokeInfo};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hollow::{Hollow, HollowContainers};
use crate::line::Line;
use crate::seen::{Counts, Seen, Watched};

/// What may wait for one agent. Containers answer within its own turn: there is room for all that a node may have.
const INPUT_QUEUE_LENGTH: usize = 4096;

/// What all spokes share.
pub(crate) struct Common {
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) hollow: Arc<Hollow>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// One spoke.
pub(crate) struct Spoke {
    /// The number of its socket.
    pub(crate) socket: usize,
    pub(crate) seen: Arc<Seen>,
    pub(crate) line: Arc<Line>,
    uplink: Handle,
    inputs: mpsc::Sender<Input>,
    /// What it says of itself.
    node: Mutex<NodeStatusV1>,
}

impl Spoke {
    /// Starts one that has joined; it runs until the swarm's end.
    pub(crate) fn start(
        common: &Common,
        number: usize,
        socket: usize,
        cluster: ClusterName,
        dialer: Dialer,
    ) -> Result<Self, LedgerError> {
        let seen = Arc::new(Seen::default());
        let line = Arc::new(Line::new(dialer, seen.clone(), common.counts.clone()));
        let uplink = Handle::new();
        let (inputs, queue) = mpsc::channel(INPUT_QUEUE_LENGTH);
        let watched =
            Watched { uplink: uplink.clone(), seen: seen.clone(), counts: common.counts.clone() };
        let ports = Ports {
            clock: common.clock.clone(),
            containers: Arc::new(HollowContainers::new(inputs.clone(), common.counts.clone())),
            network: common.hollow.clone(),
            modules: common.hollow.clone(),
            disk: Arc::new(SimDisk::default()),
            uplink: Arc::new(watched),
        };
        let node = device(number, &cluster);
        let files = common.hollow.clone();
        let config = Config { data: "/data".into(), node: node.clone(), files, thresholds: vec![] };
        let agent = Agent::open(ports, config)?;
        let (held, digest) = agent.held();
        let boot_epoch = agent.boot_epoch();
        let me = SpokeInfo { cluster, boot_epoch, held, digest, node: node.clone() };
        let driver = uplink.driver(me, line.clone(), fastrand::Rng::new());
        common.tasks.spawn(agent.run(queue, common.stop.clone()));
        let (hollow, stop) = (common.hollow.clone(), common.stop.clone());
        common.tasks.spawn(driver.run(inputs.clone(), hollow, stop));
        Ok(Self { socket, seen, line, uplink, inputs, node: Mutex::new(node) })
    }

    /// Whether it is in session.
    pub(crate) fn is_up(&self) -> bool {
        self.uplink.is_up()
    }

    /// Its connection ends; it comes again.
    pub(crate) fn flap(&self) {
        self.line.cut();
    }

    /// It tells something new of itself: that it was updated.
    pub(crate) fn report(&self) {
        let mut node = self.node.lock();
        let (old, new) = ("Hollow 1", "Hollow 2");
        node.os_image = if node.os_image == old { new } else { old }.to_owned();
        // One whose queue is full has enough to tell.
        let _ = self.inputs.try_send(Input::Node(node.clone()));
    }
}

/// What it runs on. No module is compiled for its profile: it asks for none.
fn device(number: usize, cluster: &ClusterName) -> NodeStatusV1 {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    // Of 10.0.0.0/8 without what pods have.
    let address = Ipv4Addr::from_bits(0x0a80_0000 | (number & 0x007f_ffff));
    NodeStatusV1 {
        address: IpAddr::V4(address),
        hostname: cluster.to_string(),
        os_image: "Hollow 1".to_owned(),
        machine_id: cluster.to_string(),
        boot_id: cluster.to_string(),
        profile: "hollow".to_owned(),
        ..fake::node()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_device_has_an_address_of_pods() {
        let name = ClusterName::try_from("swarm-1").unwrap();
        for number in [0, 1, 100_000, 1 << 23] {
            let IpAddr::V4(address) = device(number, &name).address else { panic!() };
            assert!(!freewheel_link::message::is_pod_address(address), "{address}");
        }
    }
}
