//! Makes a pod's sandbox, tells what becomes of it, and forgets pods that are gone.
//!
//! Guarantees:
//! - of a pod that is gone nothing stays in memory but its UID, and that only while its source still wants it
//!   (`of_a_deleted_pod_nothing_stays_in_memory`);
//! - a mount that fails is told when it fails again (`a_mount_is_told_to_fail_when_what_it_needs_does_not_come`).

use std::net::Ipv4Addr;

use freewheel_link::allocatable;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::Kind;
use tracing::{info, warn};

use super::Agent;
use super::pod_source::PodRef;
use super::storage::of_containers;
use crate::env::{Allocatable, EnvSources};
use crate::pods::{Pod, Sandbox};

impl Agent {
    pub(super) fn add_network(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        self.sandboxes.add_network(pod)
    }

    /// Addresses that have become free are for those that wait; who still waits for one then is told so.
    pub(super) fn give_addresses(&mut self) {
        while let Some(uid) = self.sandboxes.pod_networks.call_next() {
            self.sync_pod(&uid);
        }
        for uid in self.sandboxes.pod_networks.take_new_waiters() {
            let text = "Failed to create pod sandbox: no pod address is free on this node";
            self.event(&uid, None, true, "FailedCreatePodSandBox", text.to_owned());
        }
    }

    /// The ranges of a realm have changed: pods that are up with an address of another device get a new sandbox.
    pub(super) fn find_strays(&mut self, realm: &ClusterName) {
        let mut strays = Vec::new();
        for pod in self.pods.values_mut().filter(|pod| pod.realm == *realm) {
            if self.sandboxes.pod_networks.strays(pod) {
                strays.push(pod.spec.uid.clone());
            }
        }
        for uid in strays {
            let text = "Pod sandbox changed, it will be killed and re-created: the hub has given its address to \
                        another device";
            self.event(&uid, None, true, "SandboxChanged", text.to_owned());
            self.turns.touch(&uid);
        }
    }

    /// Calls with everything that a pod's values are taken from.
    pub(super) fn with_around<T>(&self, pod: &Pod, then: impl FnOnce(&EnvSources<'_>) -> T) -> T {
        let config =
            |kind: Kind, name: &str| self.config_data(&pod.realm, &pod.spec.namespace, kind, name);
        let services = || self.services_for(pod);
        let storage = of_containers(pod);
        let guests = allocatable::of(self.status.node());
        then(&EnvSources {
            pod: &pod.spec,
            ip: pod.ip().unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            host_ip: self.status.node().address,
            allocatable: Allocatable {
                memory: guests.memory,
                cpu_milli: guests.cpu_milli,
                storage: guests.storage,
            },
            storage: &storage,
            config: &config,
            services: &services,
        })
    }

    pub(super) fn remove_network(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        self.sandboxes.remove_network(pod);
        true
    }

    pub(super) fn leave(&mut self, uid: &str) -> bool {
        let Some(mut pod) = self.pods.remove(uid) else { return false };
        info!(pod = %format_args!("{}/{}", pod.spec.namespace, pod.spec.name), "pod is gone");
        self.turns.set(uid, None);
        let left = std::mem::take(&mut pod.sandbox);
        if self.is_wanted(PodRef::from(&pod)) {
            self.gone.insert(uid.to_owned());
        }
        self.images.look_again();
        self.clean(PodRef::from(&pod), left);
        true
    }

    /// Removes what a pod left on this device, and tells the hub that nothing is left. `left`: of its sandbox.
    pub(super) fn clean(&mut self, pod: PodRef<'_>, left: Sandbox) {
        let PodRef { realm, uid, .. } = pod;
        self.sandboxes.remove(uid, left);
        if let Err(error) = self.ledger.forget_pod(uid) {
            warn!(error = &error as &dyn std::error::Error, pod = uid, "pod is not forgotten");
        }
        let wanted = self.is_wanted(pod);
        self.status.gone(realm, uid, wanted);
    }
}
