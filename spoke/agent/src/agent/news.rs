//! What containers, modules and the device have come to.

use std::path::PathBuf;

use freewheel_link::digest::Digest;
use freewheel_link::plan::ModuleV1;
use freewheel_link::probes::ProbeKindV1;
use freewheel_link::report::NodeStatusV1;
use tracing::info;

use super::{Agent, images};
use crate::pods::events;
use crate::pods::status::PORT_NOT_OPENED;
use crate::ports::{ContainerId, Exit, NodePortNews, Probed};
use crate::volumes;

impl Agent {
    /// Something about the device changed.
    pub(super) fn handle_node(&mut self, node: NodeStatusV1) {
        let has = |node: &NodeStatusV1| (node.memory, node.cpu_milli, node.storage);
        self.sandboxes.pod_networks.move_to(node.address);
        let more_or_less = has(self.status.node()) != has(&node);
        self.status.set_node(node);
        if more_or_less {
            let shown = self.pods.values().filter(|pod| volumes::shows_resources(&pod.spec));
            let shown: Vec<String> = shown.map(|pod| pod.spec.uid.clone()).collect();
            shown.iter().for_each(|uid| self.refresh_volumes(uid));
        }
        self.tell_node();
    }

    /// A pod with a hostPort that another program has is told of, and is not ready: its clients reach that program. Of
    /// other ports the Node tells, and not whose they are: its events are read in two clusters.
    pub(super) fn handle_node_port(&mut self, news: NodePortNews) {
        let NodePortNews { owner, port, protocol, error } = news;
        let Some(uid) = owner.strip_prefix("pod/") else {
            if let Some(error) = error {
                self.status.node_warning(PORT_NOT_OPENED, format!("NodePort {port}: {error}"));
            }
            return;
        };
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if let Some(error) = error {
            let text = format!("hostPort {port}: {error}");
            self.status.event(pod, None, true, PORT_NOT_OPENED, text.clone());
            pod.closed_ports.insert((port, protocol), text);
        } else {
            pod.closed_ports.remove(&(port, protocol));
        }
        self.turns.touch(uid);
    }

    pub(super) fn handle_started(&mut self, id: &ContainerId) {
        let (now, unix) = self.time();
        let Some(pod) = self.pods.get_mut(&id.pod) else { return };
        let Some(which) = pod.find(&id.container) else { return };
        let news = pod.at_mut(which).is_some_and(|c| c.started(id.attempt, now, unix));
        if news {
            let text = format!("Started container {}", id.container);
            self.status.event(pod, Some(which), false, "Started", text);
            self.turns.touch(&id.pod);
        }
    }

    pub(super) fn handle_exited(&mut self, id: &ContainerId, exit: &Exit) {
        let (now, unix) = self.time();
        let Some(pod) = self.pods.get_mut(&id.pod) else { return };
        let Some(which) = pod.find(&id.container) else { return };
        let news = pod.at_mut(which).is_some_and(|c| c.exited(id.attempt, exit.clone(), now, unix));
        if !news {
            return;
        }
        info!(
            pod = %format_args!("{}/{}", pod.spec.namespace, pod.spec.name),
            container = id.container, code = exit.code, reason = exit.reason, "container ended"
        );
        self.status.exited(pod, which, exit);
        // What cannot be loaded may have been damaged on disk: ask for it again.
        if exit.reason == "StartError"
            && let Some((_, spec)) = pod.at(which)
            && let ModuleV1::Component(digest) = &spec.module
        {
            self.images.forget(digest);
        }
        self.turns.touch(&id.pod);
    }

    pub(super) fn handle_instance_out_of_memory(&mut self, id: &ContainerId) {
        let Some(pod) = self.pods.get(&id.pod) else { return };
        let Some(which) = pod.find(&id.container) else { return };
        let current = pod.at(which).is_some_and(|(container, _)| container.restarts == id.attempt);
        if current {
            self.status.out_of_memory(pod, which);
        }
    }

    /// What is found of an earlier start than the current one is old.
    pub(super) fn handle_probed(&mut self, id: &ContainerId, kind: ProbeKindV1, outcome: &Probed) {
        let now = self.ports.clock.now();
        let Some(pod) = self.pods.get_mut(&id.pod) else { return };
        let Some(which) = pod.find(&id.container) else { return };
        let Some(container) = pod.at_mut(which) else { return };
        if container.restarts != id.attempt || !container.running() {
            return;
        }
        container.probes.took(kind, outcome.is_well(), now);
        if let Some((reason, text)) = events::of_probe(kind, outcome) {
            self.status.event(pod, Some(which), true, reason, text);
        }
        self.turns.touch(&id.pod);
    }

    pub(super) fn handle_module(
        &mut self,
        digest: Digest,
        outcome: Result<PathBuf, (String, String)>,
    ) {
        for pod in self.pods.values().filter(|pod| images::uses(pod, &digest)) {
            self.turns.touch(&pod.spec.uid);
        }
        self.images.took(digest, outcome);
    }
}
