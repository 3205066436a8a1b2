//! Holds pods to what they may have on the disk: measures those with limits every now and then, beside the
//! agent's loop, and names those that have more.
//!
//! Guarantees:
//! - a pod without limits costs nothing (`a_limit_that_is_lifted_is_forgotten_and_none_costs_nothing`);
//! - a pod has its limits until it is gone, however long it may take to end
//!   (`a_pod_that_is_being_deleted_is_held_to_its_limits`);
//! - one measurement runs at a time, and the next waits for a while after its end, however large the directories are
//!   (`the_next_measurement_waits_for_the_end_of_the_last`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use freewheel_link::plan::{PodStorageV1, StorageV1};
use tokio::sync::mpsc;

use crate::files::Files;
use crate::pods::Pod;
use crate::pods::storage::{Limits, Usage};
use crate::usage::{Size, Tree};
use crate::volumes;

/// Between the end of one measurement and the next, as kubelet's housekeeping.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// What was measured of a pod: (UID, what it has).
pub(super) type OfPod = (String, Usage);

/// What was measured.
pub(super) struct Measured {
    /// Of all pods, not of those with limits alone.
    pub(super) all: bool,
    /// All of it was seen: nobody has more.
    pub(super) whole: bool,
    pub(super) pods: Vec<OfPod>,
}

/// What a directory is of.
enum Of {
    Volume(String),
    Logs(String),
    Shown,
}

/// The pods with limits, and when they are measured.
pub(super) struct Meter {
    limits: BTreeMap<String, Limits>,
    next: Option<Duration>,
    busy: bool,
    /// The next measurement is of all pods, for an eviction.
    all: bool,
    tell: mpsc::Sender<Measured>,
}

impl Meter {
    /// A meter and where its measurements come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<Measured>) {
        let (tell, told) = mpsc::channel(1);
        (Self { limits: BTreeMap::new(), next: None, busy: false, all: false, tell }, told)
    }

    /// When to measure; `None`: not before something else has happened.
    pub(super) fn due(&self) -> Option<Duration> {
        if self.busy {
            None
        } else if self.all {
            Some(Duration::ZERO)
        } else {
            self.next.filter(|_| !self.limits.is_empty())
        }
    }

    /// All pods are measured as soon as that can be.
    pub(super) const fn measure_all(&mut self) {
        self.all = true;
    }

    /// Unless they are asked for again, those with limits are enough.
    pub(super) const fn forget_all(&mut self) {
        self.all = false;
    }

    /// Looks at the pods anew: which have limits.
    pub(super) fn apply_limits<'a>(&mut self, pods: impl Iterator<Item = &'a Pod>, now: Duration) {
        let limits = pods.filter_map(|pod| {
            Some((pod.spec.uid.clone(), Limits::of(&pod.spec, storage(pod).as_ref())?))
        });
        self.limits = limits.collect();
        if self.next.is_none() {
            self.next = Some(now + MEASURE_EVERY);
        }
    }

    /// Starts a measurement when one is due. `shortage`: which time the disk is short; zero: it is not.
    pub(super) fn measure<'a>(
        &mut self,
        pods: impl Iterator<Item = &'a Pod>,
        (files, data): (&dyn Files, &Path),
        shortage: u64,
        now: Duration,
    ) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        let (mut trees, mut of) = (Vec::new(), Vec::new());
        let all = std::mem::take(&mut self.all);
        for pod in pods.filter(|pod| lives(pod)) {
            let uid = &pod.spec.uid;
            if !all && !self.limits.contains_key(uid) {
                continue;
            }
            for (tree, what) in trees_of(data, pod) {
                trees.push(tree);
                of.push((uid.clone(), what));
            }
        }
        if trees.is_empty() {
            self.next = Some(now + MEASURE_EVERY);
            return;
        }
        self.busy = true;
        let tell = self.tell.clone();
        let done = move |sizes: Vec<Size>| {
            let whole = sizes.iter().all(|size| size.whole);
            // There is room: one measurement runs at a time. An agent that ended asks for none.
            let _ = tell.try_send(Measured { all, whole, pods: sort(of, sizes) });
        };
        files.measure(trees, shortage, Box::new(done));
    }

    /// A measurement has ended: the pods that have more than they may, as (UID, why).
    pub(super) fn take(&mut self, measured: &Measured, now: Duration) -> Vec<(String, String)> {
        self.busy = false;
        self.next = Some(now + MEASURE_EVERY);
        let beyond = measured
            .pods
            .iter()
            .filter_map(|(uid, usage)| Some((uid.clone(), self.limits.get(uid)?.exceeded(usage)?)));
        beyond.collect()
    }
}

/// What a pod says of the disk. One that cannot be read was refused when it came.
fn storage(pod: &Pod) -> Option<PodStorageV1> {
    pod.spec.parts.get().ok().flatten()
}

/// What the containers of a pod say of the disk.
pub(super) fn of_containers(pod: &Pod) -> Vec<StorageV1> {
    storage(pod).map(|storage| storage.containers).unwrap_or_default()
}

fn trees_of(data: &Path, pod: &Pod) -> Vec<(Tree, Of)> {
    let uid = &pod.spec.uid;
    let own = pod.spec.volumes.iter().filter(|volume| volumes::is_own(volume));
    let of_volumes = own.map(|volume| {
        let dir = volumes::volume_dir(data, uid, &volume.name);
        (Tree::Filled(dir), Of::Volume(volume.name.clone()))
    });
    let containers = pod.spec.init.iter().chain(&pod.spec.containers);
    let of_logs = containers.clone().map(|container| {
        let dir = volumes::log_dir(data, uid, &container.name);
        (Tree::Filled(dir), Of::Logs(container.name.clone()))
    });
    let mut mounts = containers.flat_map(|container| &container.mounts);
    let shown = mounts.any(|mount| !mount.sub_path.is_empty());
    let shown = shown.then(|| (Tree::Shown(volumes::shown_dir(data, uid)), Of::Shown));
    of_volumes.chain(of_logs).chain(shown).collect()
}

/// Whether a pod can have more tomorrow than today.
pub(super) fn lives(pod: &Pod) -> bool {
    pod.may_be_evicted() && pod.sandbox.is_ready()
}

fn sort(of: Vec<(String, Of)>, sizes: Vec<Size>) -> Vec<OfPod> {
    let mut all: BTreeMap<String, Usage> = BTreeMap::new();
    for ((uid, what), size) in of.into_iter().zip(sizes) {
        let usage = all.entry(uid).or_default();
        usage.inodes = usage.inodes.saturating_add(size.inodes);
        match what {
            Of::Volume(name) => usage.volumes.insert(name, size.bytes),
            Of::Logs(name) => usage.logs.insert(name, size.bytes),
            Of::Shown => usage.shown.replace(size.bytes),
        };
    }
    all.into_iter().collect()
}
