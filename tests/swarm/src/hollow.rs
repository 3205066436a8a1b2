//! What a spoke of the swarm has in place of a machine: containers that run at once and for ever, a network, modules and
//! directories of which nothing is kept. All but the containers is shared, and costs nothing per spoke.
//!
//! Guarantees:
//! - a container runs from its start until it is stopped, once (`a_container_runs_until_it_is_stopped`).

use std::collections::BTreeSet;
use std::fs::File as HostFile;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_link::digest::Digest;
use freewheel_link::message::{LogsV1, RefusalV1, TunnelV1};
use freewheel_link::names::ClusterName;
use freewheel_link::plan::ServiceV1;
use freewheel_link::probes::ProbeV1;
use freewheel_spoke_agent::files::{File, Files, Measured};
use freewheel_spoke_agent::host_dir::{Entered, HostDir};
use freewheel_spoke_agent::ports::{
    ContainerId, Containers, Exit, FilePermits, Input, Modules, Network, PodNetwork, Probed,
    StartContainer,
};
use freewheel_spoke_agent::uplink::{Duplex, LogStream, Serve};
use freewheel_spoke_agent::usage::{Size, Tree};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::seen::Counts;

/// Containers that run at once, until they are stopped.
pub(crate) struct HollowContainers {
    inputs: mpsc::Sender<Input>,
    running: Mutex<BTreeSet<ContainerId>>,
    counts: Arc<Counts>,
}

impl HollowContainers {
    /// Tells its agent over this queue, which must have room.
    pub(crate) fn new(inputs: mpsc::Sender<Input>, counts: Arc<Counts>) -> Self {
        Self { inputs, running: Mutex::default(), counts }
    }

    /// The queue is as long as the agent's own turns; one that is full has an agent that is gone.
    fn tell(&self, input: Input) {
        let _ = self.inputs.try_send(input);
    }
}

impl Containers for HollowContainers {
    fn start(&self, start: StartContainer) {
        if self.running.lock().insert(start.id.clone()) {
            self.counts.starts.fetch_add(1, Relaxed);
            self.tell(Input::Started(start.id));
        }
    }

    fn file_permits(&self, _: &str, _: usize) -> Option<Box<dyn FilePermits>> {
        Some(Box::new(Unbounded))
    }

    fn stop(&self, id: &ContainerId, _: Duration) {
        if self.running.lock().remove(id) {
            self.counts.ends.fetch_add(1, Relaxed);
            let (reason, message) = ("Error".to_owned(), String::new());
            let exit = Exit { code: 143, reason, message, was_asked_to_stop: true };
            self.tell(Input::Exited(id.clone(), exit));
        }
    }

    fn probe(&self, id: &ContainerId, probe: ProbeV1) {
        self.tell(Input::Probed(id.clone(), probe.kind, Probed::Success));
    }

    fn memory(&self, _: &str) -> Vec<(String, u64)> {
        Vec::new()
    }

    fn freeze_memory(&self, _: &str) {}

    fn forget_pod(&self, _: &str) {}
}

/// Files that nobody opens.
#[derive(Debug)]
struct Unbounded;

impl FilePermits for Unbounded {
    fn keep(&mut self, _: usize) {}
}

/// A pod network, modules and directories that are whatever they are asked for.
pub(crate) struct Hollow;

impl Network for Hollow {
    fn add_pod(&self, _: PodNetwork) {}

    fn remove_pod(&self, _: &str) {}

    fn set_service(&self, _: &ClusterName, _: &str, _: &str, _: Option<ServiceV1>) {}

    fn set_node(&self, _: IpAddr, _: &str) {}
}

impl Modules for Hollow {
    fn want(&self, component: Digest) -> Option<PathBuf> {
        Some(format!("/modules/{}", component.hex()).into())
    }

    fn keep(&self, _: &[Digest]) {}

    fn make_room(&self) {}
}

impl Files for Hollow {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn write_set(&self, _: &Path, _: &[File]) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, dir: &Path) -> io::Result<HostDir> {
        Ok(HostDir::simulated(dir.to_owned()))
    }

    fn enter(&self, dir: &Path, inside: &str, _: bool) -> io::Result<Entered> {
        Ok(Entered::Dir(HostDir::simulated(dir.join(inside))))
    }

    fn link(&self, _: &HostFile, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn touch(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn dirs_in(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn files_in(&self, _: &Path) -> io::Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }

    fn is_removing(&self) -> bool {
        false
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn measure(&self, trees: Vec<Tree>, _: u64, done: Measured) {
        done(trees.iter().map(|_| Size { bytes: 0, inodes: 0, whole: true }).collect());
    }
}

/// Of what guests would answer there is nothing.
#[async_trait]
impl Serve for Hollow {
    async fn logs(&self, _: LogsV1) -> Result<LogStream, RefusalV1> {
        Err(RefusalV1::new("NotFound", "pods of a swarm say nothing"))
    }

    async fn tunnel(&self, _: TunnelV1) -> Result<Box<dyn Duplex>, RefusalV1> {
        Err(RefusalV1::new("NotFound", "pods of a swarm listen nowhere"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_container_runs_until_it_is_stopped() {
        let (inputs, mut queue) = mpsc::channel(8);
        let counts = Arc::new(Counts::default());
        let containers = HollowContainers::new(inputs, counts.clone());
        let id = ContainerId { pod: "u".into(), container: "c".into(), attempt: 0 };
        containers.start(start(id.clone()));
        containers.start(start(id.clone()));
        containers.stop(&id, Duration::ZERO);
        containers.stop(&id, Duration::ZERO);
        assert!(matches!(queue.try_recv(), Ok(Input::Started(started)) if started == id));
        assert!(matches!(queue.try_recv(), Ok(Input::Exited(_, exit)) if exit.code == 143));
        assert!(queue.try_recv().is_err());
        assert_eq!((counts.starts.load(Relaxed), counts.ends.load(Relaxed)), (1, 1));
    }

    fn start(id: ContainerId) -> StartContainer {
        StartContainer {
            id,
            realm: ClusterName::root(),
            namespace: "default".into(),
            pod_name: "p".into(),
            artifact: PathBuf::new(),
            args: Vec::new(),
            env: Vec::new(),
            mounts: None,
            memory_limit: None,
            cpu_limit_milli: None,
            ports: Vec::new(),
            http: freewheel_link::plan::HttpV1::default(),
            log: PathBuf::new(),
        }
    }
}
