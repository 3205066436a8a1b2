//! What pods have outside of their containers: an address, volumes, an account with the host, logs. It is made, kept
//! over restarts and taken away here and nowhere else; how far that is for a pod, its [`Sandbox`] says.
//!
//! ```text
//! pod_networks            addresses, who waits for one, and the pods' places in the network
//!
//! keep, left_of           what an earlier life has left: address, the starts that have logs
//! add_network             address, place in the network, account (memory)
//! jobs                    volumes that are made, mounts that are opened (files), beside the agent
//! log, make_log           what a start is given: a log
//! remove_network          place and address go
//! finish                  it has ended for good: volumes go, and an address without a network; its logs stay
//! clear                   the same, on a disk that is short: logs go
//! remove                  it is gone: address, account, directory
//! ```
//!
//! Guarantees:
//! - what a pod that has ended wrote is nobody's any more (`a_pod_that_has_more_than_its_volume_may_hold_is_evicted`), and
//!   its logs stay (`what_has_ended_by_the_hubs_word_does_not_run_again`) until the disk is short or it is gone
//!   (`disk_pressure_takes_what_nobody_needs_and_then_the_pod_that_has_most`,
//!   `of_a_deleted_pod_nothing_stays_in_memory`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use super::orphans;
use crate::files::Files;
use crate::ledger::PodStateV1;
use crate::pods::{Left, Pod, Sandbox, Volumes};
use crate::ports::{ContainerId, Containers, FilePermits, Ports};
use crate::{admission, volumes};
use file_jobs::FileJobs;
pub(super) use file_jobs::{FileJob, FileOutcome, Mounts};
use pod_networks::PodNetworks;

mod file_jobs;
mod pod_networks;

/// Makes sandboxes and takes them away.
pub(super) struct Sandboxes {
    pub(super) pod_networks: PodNetworks,
    pub(super) jobs: FileJobs,
    containers: Arc<dyn Containers>,
    files: Arc<dyn Files>,
    /// The data directory.
    data: PathBuf,
}

impl Sandboxes {
    /// On a device with this address, in this data directory.
    pub(super) fn new(
        ports: &Ports,
        address: IpAddr,
        (files, data): (Arc<dyn Files>, PathBuf),
    ) -> Self {
        let pod_networks = PodNetworks::new(ports.network.clone(), address);
        let jobs = FileJobs::new(files.clone());
        Self { pod_networks, jobs, containers: ports.containers.clone(), files, data }
    }

    /// Where pods have their files.
    pub(super) fn place(&self) -> (&dyn Files, &Path) {
        (&*self.files, &self.data)
    }

    /// The same, for who works there beside the agent.
    pub(super) fn shared_place(&self) -> (Arc<dyn Files>, PathBuf) {
        (self.files.clone(), self.data.clone())
    }

    /// Whether what was taken away takes room still.
    pub(super) fn is_removing(&self) -> bool {
        self.files.is_removing()
    }

    /// Keeps what a pod of an earlier life had, until it comes or is gone.
    pub(super) fn keep(&mut self, state: &PodStateV1) {
        self.pod_networks.keep(state);
    }

    /// What earlier lives have left of a pod that this one has not taken on yet. `state`: what the ledger knows.
    pub(super) fn left_of<'a>(&mut self, uid: &str, state: Option<&'a PodStateV1>) -> Left<'a> {
        let mut logged = BTreeMap::new();
        if admission::is_path_segment(uid) {
            match volumes::logged_starts(&*self.files, &self.data, uid) {
                Ok(found) => logged = found,
                Err(error) => warn!(pod = uid, %error, "the logs of a pod cannot be looked at"),
            }
        }
        Left { lease: self.pod_networks.take_kept(uid), state, logged }
    }

    /// Puts a pod into the network; otherwise it waits for an address.
    pub(super) fn add_network(&mut self, pod: &mut Pod) -> bool {
        self.pod_networks.bring_up(pod)
    }

    /// Places for so many files that a pod opens; `None`: it may open no more.
    pub(super) fn file_permits(&self, uid: &str, count: usize) -> Option<Box<dyn FilePermits>> {
        self.containers.file_permits(uid, count)
    }

    /// The log of a start.
    pub(super) fn log(&self, id: &ContainerId) -> PathBuf {
        volumes::log_path(&self.data, &id.pod, &id.container, id.attempt)
    }

    /// An empty log says that this start is the newest, also before it has written anything.
    pub(super) fn make_log(&self, id: &ContainerId) {
        let (files, log) = (&*self.files, self.log(id));
        let made = log.parent().map_or(Ok(()), |dir| files.make_dir(dir));
        if let Err(error) = made.and_then(|()| files.touch(&log)) {
            warn!(pod = id.pod, container = id.container, %error, "cannot make the log");
        }
        // `kubectl logs -p` reads the start before this one; older ones go.
        if let Some(attempt) = id.attempt.checked_sub(2) {
            let old = self.log(&ContainerId { attempt, ..id.clone() });
            let aside = volumes::log_aside(&old);
            if let Err(error) = files.remove_file(&aside).and_then(|()| files.remove_file(&old)) {
                warn!(pod = id.pod, %error, "an old log stays");
            }
        }
    }

    /// Takes a pod out of the network; its address is free.
    pub(super) fn remove_network(&mut self, pod: &mut Pod) {
        self.pod_networks.take_down(pod);
    }

    /// What a pod that has ended for good wrote is nobody's any more; its logs can still be read.
    pub(super) fn finish(&mut self, pod: &mut Pod) {
        let uid = &pod.spec.uid;
        for dir in [volumes::volumes_dir(&self.data, uid), volumes::shown_dir(&self.data, uid)] {
            if let Err(error) = self.files.remove_dir(&dir) {
                warn!(pod = uid, %error, "volumes of an ended pod stay on disk");
            }
        }
        pod.sandbox.set_volumes(Volumes::Absent);
        // What it had before the agent's restart, and has no network for any more.
        if !pod.sandbox.is_up() {
            self.pod_networks.give_back(pod);
        }
    }

    /// The disk is short: of a pod that has ended for good nothing stays on it.
    pub(super) fn clear(&self, uid: &str) {
        if let Err(error) = self.files.remove_dir(&volumes::pod_dir(&self.data, uid)) {
            warn!(pod = uid, %error, "remains of an ended pod stay on disk");
        }
    }

    /// A pod is gone, and `left` is what was left of its sandbox: nothing of it stays.
    pub(super) fn remove(&mut self, uid: &str, left: Sandbox) {
        self.jobs.forget(uid);
        self.pod_networks.remove(uid, left);
        self.containers.forget_pod(uid);
        if admission::is_path_segment(uid)
            && let Err(error) = self.files.remove_dir(&volumes::pod_dir(&self.data, uid))
        {
            warn!(pod = uid, %error, "remains of a pod stay on disk");
        }
    }

    /// Nothing stays of pods that nobody knows.
    pub(super) fn remove_orphans(&self, known: impl Fn(&str) -> bool) {
        orphans::remove(&*self.files, &self.data, known);
    }
}
