//! Whether a pod that is new to this device is taken on, as kubelet decides it: who binds a pod by `nodeName` has asked no
//! scheduler. One that is not taken on has failed.
//!
//! Guarantees:
//! - a port of the node has one pod of all realms, the one that came first
//!   (`a_port_of_the_node_has_the_pod_that_came_first`);
//! - a pod for another system has failed, whatever its protection from guests of this one leaves out
//!   (`a_pod_for_another_system_is_not_taken_on`);
//! - pods that an earlier life had stay (`a_port_of_the_node_has_the_pod_that_came_first`).

use std::collections::BTreeSet;

use freewheel_link::plan::{OWN_SYSTEM, PodOsV1, PodV1, Protocol};
use freewheel_link::report::PhaseV1;

use super::Agent;
use super::persist::REFUSAL;
use super::pod_source::PodRef;
use crate::eviction::{Signal, refusal};
use crate::pods::decide::EVICTED;
use crate::pods::{Done, Pod};

/// The scheduler's plugin that kubelet asks again, and what it says.
const NODE_PORTS: &str = "NodePorts";
const NO_FREE_PORTS: &str =
    "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";

/// What kubelet says of a pod that is for another system.
const POD_OS_NOT_SUPPORTED: &str = "PodOSNotSupported";
const OTHER_SYSTEM: &str = "Failed to admit pod as the OS field doesn't match node OS";

impl Agent {
    /// Looks at a pod that no life before this one has had.
    pub(super) fn admit(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).filter(|pod| pod.stays()) else { return };
        if let Some(message) = self.under_pressure(pod) {
            self.reject(uid, EVICTED, &message);
        } else if self.lacks_ports(pod) {
            self.reject(uid, NODE_PORTS, NO_FREE_PORTS);
        } else if is_for_another_system(&pod.spec) {
            self.reject(uid, POD_OS_NOT_SUPPORTED, OTHER_SYSTEM);
        } else if let Some(refusal) = self.keep.refusal() {
            self.event(uid, None, true, refusal.condition(), REFUSAL.to_owned());
        }
    }

    /// Under memory pressure those that asked for nothing are not taken on, under disk pressure none.
    fn under_pressure(&self, pod: &Pod) -> Option<String> {
        let best_effort = pod.spec.init.iter().chain(&pod.spec.containers).all(|container| {
            container.requests == (None, None)
                && container.memory_limit.is_none()
                && container.cpu_limit_milli.is_none()
        });
        let refuses = |condition: &&&str| **condition != Signal::Memory.condition() || best_effort;
        let held: Vec<&str> = self.pressure.conditions().iter().filter(refuses).copied().collect();
        (!held.is_empty()).then(|| refusal(&held))
    }

    /// Whether another pod has a port of the node that this one asks for.
    fn lacks_ports(&self, pod: &Pod) -> bool {
        let wanted: BTreeSet<_> = host_ports(&pod.spec).collect();
        let mut others = self.pods.values().filter(|other| other.spec.uid != pod.spec.uid);
        !wanted.is_empty()
            && others.any(|other| {
                // One that is deleted has its ports until it is gone, unless somebody would not wait for that.
                other.done().is_none()
                    && host_ports(&other.spec).any(|port| wanted.contains(&port))
                    && self.is_wanted(PodRef::from(other))
            })
    }

    fn reject(&mut self, uid: &str, reason: &str, message: &str) {
        self.event(uid, None, true, reason, message.to_owned());
        self.change(uid, |pod| {
            let (phase, reason) = (PhaseV1::Failed, reason.to_owned());
            pod.finish(Done { phase, reason, message: format!("Pod was rejected: {message}") });
        });
    }
}

/// Pod Security leaves such pods alone where a field is nothing to their system.
fn is_for_another_system(pod: &PodV1) -> bool {
    let os = pod.parts.get::<PodOsV1>().ok().flatten();
    os.is_some_and(|os| os.name != OWN_SYSTEM)
}

/// Ports of the node, and whether each is of UDP.
fn host_ports(pod: &PodV1) -> impl Iterator<Item = (u16, bool)> {
    let ports = pod.containers.iter().chain(&pod.init).flat_map(|container| &container.ports);
    ports.filter_map(|port| Some((port.host_port?, port.protocol == Protocol::Udp)))
}
