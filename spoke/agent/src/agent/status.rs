//! What the hub is told: how the device and each pod are, and what has happened to them.
//!
//! The same state is said once; what waits for a hub is the outbox's.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use freewheel_link::report::{NodeEventV1, NodeStatusV1, ReportStamp};

use crate::ledger::PodStateV1;
use crate::outbox::Outbox;
use crate::pods::{DecisionContext, Module, Pod, Which, events, status};
use crate::ports::{Clock, Exit, Ports};

/// Tells the hub.
pub(super) struct Status {
    clock: Arc<dyn Clock>,
    outbox: Outbox,
    /// The device, as the binary sees it.
    node: NodeStatusV1,
}

impl Status {
    pub(super) fn new(ports: &Ports, boot_epoch: u64, node: NodeStatusV1) -> Self {
        let outbox = Outbox::new(ports.uplink.clone(), boot_epoch);
        Self { clock: ports.clock.clone(), outbox, node }
    }

    /// The device, as the binary sees it.
    pub(super) const fn node(&self) -> &NodeStatusV1 {
        &self.node
    }

    /// Something about the device changed.
    pub(super) fn set_node(&mut self, node: NodeStatusV1) {
        self.node = node;
    }

    /// Tells how the device is, with the conditions that the agent knows of.
    pub(super) fn device<'a>(&mut self, conditions: impl Iterator<Item = &'a str>) {
        let mut node = self.node.clone();
        node.pressure.extend(conditions.map(str::to_owned));
        self.outbox.node(node);
    }

    /// Says at the Node what is reclaimed, as kubelet does.
    pub(super) fn reclaims(&mut self, resource: &str) {
        self.node_warning("EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
    }

    /// Warns at the Node.
    pub(super) fn node_warning(&mut self, reason: &str, message: String) {
        let (reason, at) = (reason.to_owned(), self.clock.unix_ms());
        self.outbox.node_event(NodeEventV1 { warning: true, reason, message, at });
    }

    /// Tells how a pod is, when that has changed.
    pub(super) fn pod(&mut self, pod: &mut Pod, modules: &BTreeMap<Digest, Module>) {
        let see = DecisionContext { now: self.clock.now(), modules };
        let status = status::status(pod, see, self.clock.unix_ms());
        if !pod.is_known_better() && pod.reported.as_ref() != Some(&status) {
            pod.reported = Some(status.clone());
            self.outbox.pod(status);
        }
    }

    /// Tells of a pod of an earlier life whose record this one cannot read.
    pub(super) fn unreadable(&mut self, state: &PodStateV1, why: &str) {
        self.outbox.pod(status::unreadable(state, why, self.clock.unix_ms()));
    }

    /// Something happened to a pod, or to one of its containers.
    pub(super) fn event(
        &mut self,
        pod: &Pod,
        which: Option<Which>,
        warning: bool,
        what: &str,
        text: String,
    ) {
        let unix = self.clock.unix_ms();
        self.outbox.event(match which {
            Some(which) => events::of_container(pod, which, unix, warning, what, text),
            None => events::about(pod, unix, warning, what, text),
        });
    }

    /// A container ended.
    pub(super) fn exited(&mut self, pod: &Pod, which: Which, exit: &Exit) {
        let Some((container, _)) = pod.at(which) else { return };
        for event in events::of_exit(pod, which, container, exit, self.clock.unix_ms()) {
            self.outbox.event(event);
        }
    }

    /// A request took more memory than there is.
    pub(super) fn out_of_memory(&mut self, pod: &Pod, which: Which) {
        let event = events::of_instance_out_of_memory(pod, which, self.clock.unix_ms());
        self.outbox.event(event);
    }

    /// Nothing is left of a pod. The hub waits to hear of it while the plan still names it (`planned`).
    pub(super) fn gone(&mut self, realm: &ClusterName, uid: &str, planned: bool) {
        self.outbox.gone(realm, uid, planned);
    }

    /// The record of a pod that is gone has changed.
    pub(super) fn repeat_farewell(&mut self, uid: &str) {
        self.outbox.repeat_farewell(uid);
    }

    /// The plan does not name this pod any more.
    pub(super) fn unplanned(&mut self, uid: &str) {
        self.outbox.unplanned(uid);
    }

    /// The session with this number is up, or none is.
    pub(super) fn connected(&mut self, session: Option<u64>) {
        self.outbox.connected(session);
    }

    /// The hub has everything up to here.
    pub(super) fn acknowledged(&mut self, stamp: ReportStamp) {
        self.outbox.acknowledged(stamp);
    }

    /// The hub cannot keep the report with this stamp. Answers with the UID of the pod that it was about.
    pub(super) fn refused(&mut self, stamp: ReportStamp) -> Option<&str> {
        self.outbox.refused(stamp)
    }

    /// Whether the hub could not keep the newest word about this pod.
    pub(super) fn is_refused(&self, uid: &str) -> bool {
        self.outbox.is_refused(uid)
    }
}
