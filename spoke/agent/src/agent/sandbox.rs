//! Makes a pod's sandbox, and takes away what is left of a pod.
//!
//! Guarantees:
//! - of a pod that is gone nothing stays in memory but its UID, and that only while its source still wants it
//!   (`of_a_deleted_pod_nothing_stays_in_memory`).

use std::net::Ipv4Addr;

use freewheel_link::allocatable;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::Kind;
use tracing::{info, warn};

use super::Agent;
use super::pod_source::PodRef;
use super::storage::of_containers;
use crate::env::{Allocatable, EnvSources};
use crate::pods::{Pod, Volumes};
use crate::volumes;

impl Agent {
    pub(super) fn add_network(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        let up = self.homes.bring_up(pod);
        if !up && pod.said.is_none() {
            let text = "Failed to create pod sandbox: no pod address is free on this node";
            self.event(uid, None, true, "FailedCreatePodSandBox", text.to_owned());
        }
        up
    }

    /// The ranges of a realm have changed: pods that are up with an address of another device get a new sandbox.
    pub(super) fn find_strays(&mut self, realm: &ClusterName) {
        let mut strays = Vec::new();
        for pod in self.pods.values_mut().filter(|pod| pod.realm == *realm) {
            if self.homes.strays(pod) {
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
        let services = self.services_for(pod);
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

    pub(super) fn make_volumes(&self, pod: &Pod) -> Result<(), String> {
        let (files, data) = (&*self.files, &self.data);
        self.with_around(pod, |around| volumes::make(files, data, around))
    }

    pub(super) fn add_volumes(&mut self, uid: &str) -> bool {
        let at = self.ports.clock.now();
        let Some(pod) = self.pods.get(uid) else { return false };
        match self.make_volumes(pod) {
            Ok(()) => self.change(uid, |pod| pod.sandbox.set_volumes(Volumes::Made)),
            Err(message) => {
                let before = match pod.sandbox.volumes() {
                    Volumes::Failed { tries, .. } => *tries,
                    Volumes::Absent | Volumes::Made => 0,
                };
                self.event(uid, None, true, "FailedMount", message.clone());
                let failed = Volumes::Failed { message, at, tries: before.saturating_add(1) };
                self.change(uid, |pod| pod.sandbox.set_volumes(failed))
            }
        }
    }

    /// What a pod that has ended for good wrote is nobody's any more; its logs can still be read.
    pub(super) fn remove_volumes(&mut self, uid: &str) {
        let data = &self.data;
        let home = volumes::pod_dir(data, uid).join("volumes");
        for dir in [home, volumes::shown_dir(data, uid)] {
            if let Err(error) = self.files.remove_dir(&dir) {
                warn!(pod = uid, %error, "volumes of an ended pod stay on disk");
            }
        }
        self.change(uid, |pod| pod.sandbox.set_volumes(Volumes::Absent));
    }

    pub(super) fn remove_network(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        self.homes.take_down(pod);
        true
    }

    pub(super) fn leave(&mut self, uid: &str) -> bool {
        let Some(mut pod) = self.pods.remove(uid) else { return false };
        info!(pod = %format_args!("{}/{}", pod.spec.namespace, pod.spec.name), "pod is gone");
        self.turns.set(uid, None);
        self.homes.give_back(&mut pod);
        if self.is_wanted(PodRef::from(&pod)) {
            self.gone.insert(uid.to_owned());
        }
        self.images.look_again();
        self.clean(PodRef::from(&pod));
        true
    }

    /// Removes what a pod left on this device, and tells the hub that nothing is left.
    pub(super) fn clean(&mut self, pod: PodRef<'_>) {
        let PodRef { realm, uid, .. } = pod;
        self.homes.forget(uid);
        self.ports.containers.forget_pod(uid);
        if crate::admission::is_path_segment(uid) {
            let dir = volumes::pod_dir(&self.data, uid);
            if let Err(error) = self.files.remove_dir(&dir) {
                warn!(pod = uid, %error, "remains of a pod stay on disk");
            }
        }
        if let Err(error) = self.ledger.forget_pod(uid) {
            warn!(error = &error as &dyn std::error::Error, pod = uid, "pod is not forgotten");
        }
        let wanted = self.is_wanted(pod);
        self.status.gone(realm, uid, wanted);
    }
}
