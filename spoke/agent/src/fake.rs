//! Ports for simulations and tests: an engine that runs nothing, a network without packets, a disk that
//! loses what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use freewheel_link::digest::{Digest, SetDigest};
use freewheel_link::generation::Generation;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::ServiceV1;
use freewheel_link::probes::ProbeV1;
use freewheel_link::report::{NodeStatusV1, Report, ReportStamp, UnixMillis};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::ports::{
    Clock, ContainerId, Containers, Disk, Exit, FilePermits, Input, Modules, Network, PodNetwork,
    Ports, Probed, StartContainer, Uplink,
};
pub use files::{FakeFiles, PendingMeasurement};

mod files;

/// Tokio's clock, which a simulation can pause and turn.
pub struct TokioClock {
    start: tokio::time::Instant,
    unix_ms: AtomicU64,
}

impl TokioClock {
    /// Starts now, at this wall clock time.
    #[must_use]
    pub fn new(unix_ms: UnixMillis) -> Self {
        Self { start: tokio::time::Instant::now(), unix_ms: unix_ms.into() }
    }

    /// Sets the wall clock.
    pub fn set(&self, unix_ms: UnixMillis) {
        self.unix_ms.store(unix_ms.saturating_sub(self.passed()), Relaxed);
    }

    fn passed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_ms(&self) -> UnixMillis {
        self.unix_ms.load(Relaxed).saturating_add(self.passed())
    }
}

/// Containers that start at once, run until they are stopped (143) or [`FakeEngine::end`] ends them.
pub struct FakeEngine {
    inputs: mpsc::Sender<Input>,
    running: Mutex<BTreeMap<ContainerId, Arc<StartContainer>>>,
    /// Bytes that running containers have, by pod.
    pub memory: Mutex<BTreeMap<String, u64>>,
    /// Containers do not end when they are asked to.
    pub stubborn: Mutex<bool>,
    /// What probes of a container come to that do not succeed, by its name.
    pub ill: Mutex<BTreeMap<String, Probed>>,
    /// Files that pods may open, all together.
    pub places: Arc<Mutex<usize>>,
    log: Mutex<Vec<String>>,
}

impl FakeEngine {
    /// Reports to this queue, which must have room.
    #[must_use]
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self {
            inputs,
            running: Mutex::default(),
            memory: Mutex::default(),
            stubborn: Mutex::default(),
            ill: Mutex::default(),
            places: Arc::new(Mutex::new(usize::MAX)),
            log: Mutex::default(),
        }
    }

    /// What runs now, in order.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<StartContainer>> {
        self.running.lock().values().cloned().collect()
    }

    /// Everything asked so far: `start web/0`, `stop web/0 30s`, `probe web/0 Liveness`, `freeze uid`, `forget uid`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Ends a running container by name.
    pub fn end(&self, container: &str, code: i32) {
        let found = self.running.lock().keys().find(|id| id.container == container).cloned();
        if let Some(id) = found {
            let reason = if code == 0 { "Completed" } else { "Error" };
            self.exit(&id, code, reason);
        }
    }

    /// Ends what runs of a pod.
    pub fn end_of(&self, pod_uid: &str) {
        let all: Vec<_> =
            self.running.lock().keys().filter(|id| id.pod == pod_uid).cloned().collect();
        all.iter().for_each(|id| self.exit(id, 143, "Error"));
    }

    fn exit(&self, id: &ContainerId, code: i32, reason: &str) {
        if self.running.lock().remove(id).is_some() {
            let (reason, message) = (reason.to_owned(), String::new());
            let exit = Exit { code, reason, message, was_asked_to_stop: true };
            let _ = self.inputs.try_send(Input::Exited(id.clone(), exit));
        }
    }
}

impl Containers for FakeEngine {
    fn start(&self, start: StartContainer) {
        let id = start.id.clone();
        self.log.lock().push(format!("start {}/{}", id.container, id.attempt));
        let mounted = start.mounts.is_some();
        self.running.lock().insert(id.clone(), Arc::new(start));
        if mounted {
            let _ = self.inputs.try_send(Input::Started(id));
        } else {
            self.exit(&id, 128, "StartError");
        }
    }

    fn file_permits(&self, _: &str, count: usize) -> Option<Box<dyn FilePermits>> {
        let mut left = self.places.lock();
        *left = left.checked_sub(count)?;
        Some(Box::new(Taken { left: self.places.clone(), count }))
    }

    fn stop(&self, id: &ContainerId, grace: Duration) {
        let line = format!("stop {}/{} {}s", id.container, id.attempt, grace.as_secs());
        self.log.lock().push(line);
        if !*self.stubborn.lock() {
            self.exit(id, 143, "Error");
        }
    }

    fn probe(&self, id: &ContainerId, probe: ProbeV1) {
        self.log.lock().push(format!("probe {}/{} {:?}", id.container, id.attempt, probe.kind));
        let ill = self.ill.lock().get(&id.container).cloned();
        let outcome = Input::Probed(id.clone(), probe.kind, ill.unwrap_or(Probed::Success));
        let _ = self.inputs.try_send(outcome);
    }

    fn memory(&self, pod_uid: &str) -> Vec<(String, u64)> {
        let used = self.memory.lock().get(pod_uid).copied().unwrap_or(0);
        let running = self.running.lock();
        let own = running.keys().filter(|id| id.pod == pod_uid);
        own.map(|id| (id.container.clone(), used)).collect()
    }

    fn freeze_memory(&self, pod_uid: &str) {
        self.log.lock().push(format!("freeze {pod_uid}"));
    }

    fn forget_pod(&self, pod_uid: &str) {
        self.log.lock().push(format!("forget {pod_uid}"));
    }
}

#[derive(Debug)]
struct Taken {
    left: Arc<Mutex<usize>>,
    count: usize,
}

impl FilePermits for Taken {
    fn keep(&mut self, count: usize) {
        *self.left.lock() += self.count - count;
        self.count = count;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// A network that remembers who is in it.
#[derive(Default)]
pub struct FakeNetwork {
    /// Pods by UID.
    pub pods: Mutex<BTreeMap<String, PodNetwork>>,
    /// Services by (realm, namespace, name).
    pub services: Mutex<BTreeMap<(ClusterName, String, String), ServiceV1>>,
    /// The cluster's DNS domain.
    pub domain: Mutex<String>,
}

impl Network for FakeNetwork {
    fn add_pod(&self, pod: PodNetwork) {
        self.pods.lock().insert(pod.uid.clone(), pod);
    }

    fn remove_pod(&self, uid: &str) {
        self.pods.lock().remove(uid);
    }

    fn set_service(
        &self,
        realm: &ClusterName,
        namespace: &str,
        name: &str,
        service: Option<ServiceV1>,
    ) {
        let key = (realm.clone(), namespace.to_owned(), name.to_owned());
        match service {
            Some(service) => self.services.lock().insert(key, service),
            None => self.services.lock().remove(&key),
        };
    }

    fn set_node(&self, _: std::net::IpAddr, domain: &str) {
        domain.clone_into(&mut self.domain.lock());
    }
}

/// Modules that are all there, but those named as broken.
#[derive(Default)]
pub struct FakeModules {
    /// Those that are fetched for ever, until somebody sends [`Input::Module`].
    pub slow: Mutex<BTreeSet<Digest>>,
    /// The last answer to [`Modules::persist`].
    pub kept: Mutex<Vec<Digest>>,
    /// How often room was asked for.
    pub cleared: Mutex<usize>,
}

impl Modules for FakeModules {
    fn want(&self, component: Digest) -> Option<PathBuf> {
        let slow = self.slow.lock().contains(&component);
        (!slow).then(|| PathBuf::from(format!("/modules/{}.cwasm", component.hex())))
    }

    fn keep(&self, components: &[Digest]) {
        *self.kept.lock() = components.to_vec();
    }

    fn make_room(&self) {
        *self.cleared.lock() += 1;
    }
}

/// An uplink that keeps what it is told.
#[derive(Default)]
pub struct FakeUplink {
    /// Reports in order.
    pub reports: Mutex<Vec<(ReportStamp, Report)>>,
    /// What was acknowledged, in order.
    pub took: Mutex<Vec<(Generation, SetDigest)>>,
    /// What runs and is not durable, in order.
    pub runs: Mutex<Vec<(Generation, SetDigest)>>,
    /// What a greeting would say of the device.
    pub device: Mutex<Option<NodeStatusV1>>,
}

impl Uplink for FakeUplink {
    fn report(&self, _session: u64, stamp: ReportStamp, report: Report) {
        self.reports.lock().push((stamp, report));
    }

    fn took(&self, generation: Generation, digest: SetDigest) {
        self.took.lock().push((generation, digest));
    }

    fn runs(&self, generation: Generation, digest: SetDigest) {
        self.runs.lock().push((generation, digest));
    }

    fn device(&self, status: &NodeStatusV1) {
        *self.device.lock() = Some(status.clone());
    }
}

/// A disk in memory with a volatile cache.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<SimFile>>);

#[derive(Default)]
struct SimFile {
    bytes: Vec<u8>,
    synced: usize,
    refuses: Option<io::ErrorKind>,
    aside: Option<Vec<u8>>,
}

impl SimDisk {
    /// Cuts the power: what was not synced is there in part, torn, or not at all.
    pub fn cut_power(&self, random: &mut fastrand::Rng) {
        let mut file = self.0.lock();
        let kept = random.usize(file.synced..=file.bytes.len());
        file.bytes.truncate(kept);
        let torn = kept - random.usize(file.synced..=kept);
        for byte in file.bytes.iter_mut().rev().take(torn) {
            if random.bool() {
                *byte = random.u8(..);
            }
        }
        file.synced = kept;
    }

    /// From now on every write fails (or works again).
    pub fn set_full(&self, full: bool) {
        self.set_refuses(full.then_some(io::ErrorKind::StorageFull));
    }

    /// From now on every write fails like this (or works again).
    pub fn set_refuses(&self, how: Option<io::ErrorKind>) {
        self.0.lock().refuses = how;
    }

    /// What was kept aside last.
    #[must_use]
    pub fn aside(&self) -> Option<Vec<u8>> {
        self.0.lock().aside.clone()
    }

    /// Length of the file.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().bytes.len()
    }

    /// Whether there is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn write(&self, change: impl FnOnce(&mut SimFile)) -> io::Result<()> {
        let mut file = self.0.lock();
        if let Some(how) = file.refuses {
            // Half of it may have been written: the worst case.
            return Err(how.into());
        }
        change(&mut file);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn read(&self) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().bytes.clone())
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if self.0.lock().refuses == Some(io::ErrorKind::StorageFull) {
            let half = &bytes[..bytes.len() / 2];
            self.0.lock().bytes.extend_from_slice(half);
        }
        self.write(|file| file.bytes.extend_from_slice(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.write(|file| file.synced = file.bytes.len())
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(|file| {
            file.bytes = bytes.to_vec();
            file.synced = bytes.len();
        })
    }

    fn is_kept(&self) -> bool {
        self.0.lock().refuses != Some(io::ErrorKind::ReadOnlyFilesystem)
    }

    fn keep_aside(&self) -> io::Result<()> {
        self.write(|file| file.aside = Some(file.bytes.clone()))
    }

    fn salt(&self) -> u32 {
        0x5a17
    }
}

/// All of the above, wired.
pub struct FakeWorld {
    /// Time.
    pub clock: Arc<TokioClock>,
    /// Containers.
    pub engine: Arc<FakeEngine>,
    /// Network.
    pub fabric: Arc<FakeNetwork>,
    /// Modules.
    pub modules: Arc<FakeModules>,
    /// What the hub hears, unless the uplink is replaced.
    pub uplink: Arc<FakeUplink>,
    /// The ledger's disk, to be kept over restarts.
    pub disk: SimDisk,
    /// Directories.
    pub files: Arc<FakeFiles>,
    /// The agent's queue.
    pub inputs: mpsc::Sender<Input>,
}

impl FakeWorld {
    /// Ports for one start of an agent, and the queue it reads from.
    #[must_use]
    pub fn new(disk: SimDisk, unix_ms: UnixMillis) -> (Self, Ports, mpsc::Receiver<Input>) {
        let (inputs, queue) = mpsc::channel(4096);
        let world = Self {
            clock: Arc::new(TokioClock::new(unix_ms)),
            engine: Arc::new(FakeEngine::new(inputs.clone())),
            fabric: Arc::default(),
            modules: Arc::default(),
            uplink: Arc::default(),
            disk: disk.clone(),
            files: Arc::default(),
            inputs,
        };
        let ports = Ports {
            clock: world.clock.clone(),
            containers: world.engine.clone(),
            network: world.fabric.clone(),
            modules: world.modules.clone(),
            disk: Arc::new(disk),
            uplink: world.uplink.clone(),
        };
        (world, ports, queue)
    }
}

/// A device for tests.
#[must_use]
pub fn node() -> NodeStatusV1 {
    NodeStatusV1 {
        address: [192, 168, 1, 7].into(),
        hostname: "pi-7".to_owned(),
        architecture: "arm64".to_owned(),
        kernel: "6.12".to_owned(),
        os_image: "Debian".to_owned(),
        machine_id: "m".to_owned(),
        boot_id: "b".to_owned(),
        version: "0.1.0".to_owned(),
        profile: "48-aarch64-small-1".to_owned(),
        features: crate::admission::FEATURES,
        cpu_milli: 4000,
        memory: 1 << 30,
        storage: 8 << 30,
        pods: 110,
        labels: Vec::new(),
        pressure: Vec::new(),
        parts: freewheel_link::part::Parts::default(),
    }
}
