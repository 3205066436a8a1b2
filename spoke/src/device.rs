//! What this machine is, as its Node shows it.
//!
//! Guarantees:
//! - capacity is what this process can really use: the machine's memory or its control group's limit, the cores that it
//!   may run on or its quota, whichever is less (`capacity_is_what_this_process_can_use`);
//! - what of that is the guests' is said by [`freewheel_link::allocatable`], to the hub and to the runtime alike
//!   (`the_hub_counts_with_what_the_runtime_enforces`);
//! - thresholds that somebody sets are held against the machine's memory, not against the guests' part of it
//!   (`what_a_user_leaves_to_the_machine_is_not_taken_of_what_guests_asked_for`).

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use freewheel_link::allocatable;
use freewheel_link::names::ClusterName;
use freewheel_link::part::Parts;
use freewheel_link::report::NodeStatusV1;
use freewheel_spoke_account::MemoryAccount;
use freewheel_spoke_agent::admission::FEATURES;
use freewheel_spoke_agent::eviction::{Left, Observed, Signal};

use crate::{cgroup, mappings, open_files};

/// Where the modules are, under the data directory.
pub(crate) const MODULES: &str = "modules";

/// What is known of the machine before its profile is.
pub(crate) struct Device {
    /// Where `/proc` and `/sys` are.
    root: PathBuf,
    pub(crate) cpu_milli: u32,
    pub(crate) memory: u64,
    /// Descriptors of this process.
    pub(crate) files: u64,
    /// Mappings of memory of this process.
    pub(crate) mappings: u64,
    pub(crate) pods: u32,
}

impl Device {
    /// Looks at this machine.
    pub(crate) fn probe() -> Self {
        Self::at(Path::new("/"), open_files::allowed())
    }

    fn at(root: &Path, files: u64) -> Self {
        let bounds = cgroup::bounds(root);
        let mappings = mappings::allowed(root);
        let cores = cores(root).saturating_mul(1000);
        let memory = meminfo(root, "MemTotal").unwrap_or(1 << 30);
        let memory = bounds.memory.map_or(memory, |limit| limit.min(memory));
        Self {
            root: root.to_owned(),
            cpu_milli: bounds.cpu_milli.map_or(cores, |quota| quota.min(cores)),
            memory,
            files,
            mappings,
            pods: pods(memory).min(open_files::pods(files)).min(mappings::pods(mappings)),
        }
    }

    /// Memory that all guests may have together.
    pub(crate) fn for_guests(&self) -> u64 {
        allocatable::memory(self.memory)
    }

    /// Cores that are worth a thread each.
    pub(crate) fn cores(&self) -> usize {
        usize::try_from(self.cpu_milli.div_ceil(1000)).unwrap_or(1).max(1)
    }

    /// What is left of memory, of what `guests` may have together, and of the disks of `data` and of the modules in it.
    pub(crate) fn left(&self, data: &Path, guests: &MemoryAccount) -> Observed {
        let memory = self.memory_left().map(|available| (available, self.memory));
        // Also where the machine has plenty: at their bound one guest takes what its neighbours ask for next.
        let theirs = guests.limit().map(|limit| limit.saturating_sub(guests.used()) as u64);
        let theirs = theirs.map(|available| (available, self.memory));
        // One look, so that one file system has one number.
        let look = |path: &Path| {
            let found = rustix::fs::statvfs(path).ok()?;
            let bytes = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
            Some((bytes, (found.f_favail, found.f_files)))
        };
        let (disk, modules) = (look(data), data.join(MODULES));
        let images = if file_system(&modules).is_none_or(|own| Some(own) == file_system(data)) {
            disk
        } else {
            look(&modules)
        };
        let all = [
            (Signal::Memory, memory),
            (Signal::Guests, theirs),
            (Signal::Disk, disk.map(|(bytes, _)| bytes)),
            (Signal::Inodes, disk.map(|(_, inodes)| inodes)),
            (Signal::Images, images.map(|(bytes, _)| bytes)),
        ];
        let left = all.into_iter().filter_map(|(signal, left)| {
            let (available, capacity) = left?;
            Some((signal, Left { available, capacity }))
        });
        left.collect()
    }

    /// Of what guests hold, what they have not touched yet: the machine still counts it as available.
    pub(crate) fn untouched(&self, guests: &MemoryAccount) -> u64 {
        let touched = memory_value(&read(&self.root, "proc/self/status"), "RssAnon");
        (guests.used() as u64).saturating_sub(touched.unwrap_or(0))
    }

    /// Memory that is left now: the machine's or the control group's, whichever is less.
    fn memory_left(&self) -> Option<u64> {
        let machine = meminfo(&self.root, "MemAvailable");
        [machine, cgroup::bounds(&self.root).memory_left].into_iter().flatten().min()
    }
}

/// Which file system something is on.
fn file_system(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.dev())
}

/// Cores that are online and that this process may run on.
fn cores(root: &Path) -> u32 {
    let online = read(root, "sys/devices/system/cpu/online");
    let status = read(root, "proc/self/status");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let known = match (list(&online), list(allowed.unwrap_or_default())) {
        (Some(online), Some(allowed)) => overlap(&online, &allowed),
        (Some(one), None) | (None, Some(one)) => one.iter().map(|(from, to)| to - from + 1).sum(),
        (None, None) => 0,
    };
    let fallback = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if known == 0 { u32::try_from(fallback()).unwrap_or(1) } else { known }
}

/// A list of the kernel's such as `0-3,8`, as ranges with both ends.
fn list(text: &str) -> Option<Vec<(u32, u32)>> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        // More cores than the kernel knows are a mistake in the text.
        (from <= to && to < 1 << 16).then_some((from, to))
    };
    text.trim().split(',').map(range).collect()
}

fn overlap(one: &[(u32, u32)], other: &[(u32, u32)]) -> u32 {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    pairs.map(|(a, b)| (a.1.min(b.1) + 1).saturating_sub(a.0.max(b.0))).sum()
}

/// Memory for each pod: half as much again as the smallest program counts as while it waits, and five times what it
/// takes with all that the agent keeps of its pod.
const POD_MEMORY_BYTES: u64 = 192 << 10;

/// Never fewer than kubelet's 110; larger pods are bounded by the memory of all guests.
fn pods(memory: u64) -> u32 {
    u32::try_from((memory / POD_MEMORY_BYTES).clamp(110, 5000)).unwrap_or(110)
}

/// The whole status.
pub(crate) fn status(
    device: &Device,
    data: &Path,
    address: Ipv4Addr,
    profile: &str,
    labels: &[(String, String)],
) -> NodeStatusV1 {
    let (storage, _) = disk(data);
    let mut labels = labels.to_vec();
    labels.sort();
    labels.dedup_by(|a, b| a.0 == b.0);
    NodeStatusV1 {
        address: address.into(),
        hostname: hostname(),
        architecture: architecture().to_owned(),
        kernel: line("/proc/sys/kernel/osrelease"),
        os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        machine_id: line("/etc/machine-id"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        profile: profile.to_owned(),
        features: FEATURES,
        cpu_milli: device.cpu_milli,
        memory: device.memory,
        storage,
        pods: device.pods,
        labels,
        // The agent says it: it knows since when. That of the clock says who knows what hubs have told.
        pressure: Vec::new(),
        parts: Parts::default(),
    }
}

/// Bytes that all logs may take of a disk of this size: a twentieth, and no more than a gigabyte.
pub(crate) fn for_logs(storage: u64) -> u64 {
    (storage / 20).min(1 << 30)
}

/// (size, free) in bytes of the file system under a path.
pub(crate) fn disk(path: &Path) -> (u64, u64) {
    match rustix::fs::statvfs(path) {
        Ok(found) => (found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize),
        Err(_) => (0, 0),
    }
}

/// A value of /proc/meminfo in bytes.
pub(crate) fn meminfo(root: &Path, key: &str) -> Option<u64> {
    memory_value(&read(root, "proc/meminfo"), key)
}

fn read(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file)).unwrap_or_default()
}

fn memory_value(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn os_image(os_release: &str) -> String {
    let pretty = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn hostname() -> String {
    line("/proc/sys/kernel/hostname")
}

const fn architecture() -> &'static str {
    // Go's words, which Kubernetes uses.
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "arm") {
        "arm"
    } else {
        std::env::consts::ARCH
    }
}

/// The host name as a cluster's name, as far as it can be one.
pub(crate) fn default_name() -> Option<ClusterName> {
    name_from(&hostname())
}

fn name_from(hostname: &str) -> Option<ClusterName> {
    let first = hostname.split('.').next()?.to_ascii_lowercase();
    let clean: String =
        first.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    ClusterName::try_from(clean.trim_matches('-')).ok().filter(|name| !name.is_root())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use freewheel_spoke_agent::eviction::{self, Watch};

    use super::*;

    #[test]
    fn the_machine_says_what_it_is() {
        let device = Device::probe();
        let labels = [("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        let status = status(&device, Path::new("/"), Ipv4Addr::LOCALHOST, "p", &labels);
        assert!(0 < status.cpu_milli && 0 < status.memory && 0 < status.storage);
        assert!(!status.kernel.is_empty());
        assert_eq!(status.labels[0].0, "a");
        assert!((110..=5000).contains(&status.pods));
    }

    #[test]
    fn texts_of_the_system_are_read() {
        assert_eq!(memory_value("MemTotal:  2048 kB\nX: 1 kB", "MemTotal"), Some(2 << 20));
        assert_eq!(memory_value("MemTotalX: 1 kB", "MemTotal"), None);
        assert_eq!(os_image("ID=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        for (host, name) in
            [("Pi_7.local", Some("pi-7")), ("root", None), ("---", None), ("", None)]
        {
            assert_eq!(name_from(host).as_ref().map(ClusterName::as_str), name, "{host:?}");
        }
    }

    /// A machine of 8 GiB and four cores in a control group, of which these files say more.
    pub(crate) fn machine(more: &[(&str, &str)]) -> (tempfile::TempDir, Device) {
        let dir = tempfile::tempdir().unwrap();
        let usual = [
            ("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n"),
            ("proc/self/cgroup", "0::/spoke\n"),
            ("proc/self/status", "Name:\tspoke\nCpus_allowed_list:\t0-7\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
        ];
        for (path, text) in usual.iter().chain(more) {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let device = Device::at(dir.path(), 1 << 20);
        (dir, device)
    }

    #[test]
    fn capacity_is_what_this_process_can_use() {
        let (_dir, whole) = machine(&[]);
        assert_eq!((whole.memory, whole.cpu_milli, whole.cores()), (8 << 30, 4000, 4));
        let (_dir, bounded) = machine(&[
            ("sys/fs/cgroup/spoke/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/spoke/cpu.max", "150000 100000\n"),
        ]);
        assert_eq!((bounded.memory, bounded.cpu_milli, bounded.cores()), (1 << 30, 1500, 2));
        assert_eq!(bounded.pods, 5000);
        let (_dir, generous) = machine(&[
            ("sys/fs/cgroup/spoke/memory.max", "99999999999999"),
            ("sys/fs/cgroup/spoke/cpu.max", "9900000 100000"),
        ]);
        assert_eq!((generous.memory, generous.cpu_milli), (8 << 30, 4000));
        let (_dir, pinned) = machine(&[("proc/self/status", "Cpus_allowed_list:\t1,3-9\n")]);
        assert_eq!(pinned.cpu_milli, 2000);
    }

    #[test]
    fn a_node_offers_no_more_pods_than_it_has_descriptors_for() {
        let (dir, whole) = machine(&[]);
        assert_eq!(whole.pods, 5000);
        assert_eq!(Device::at(dir.path(), 1024).pods, 256);
    }

    #[test]
    fn a_node_offers_no_more_pods_than_it_has_mappings_for() {
        let (_dir, device) = machine(&[("proc/sys/vm/max_map_count", "4096\n")]);
        assert_eq!((device.mappings, device.pods), (4096, 325));
    }

    #[test]
    fn the_hub_counts_with_what_the_runtime_enforces() {
        let (dir, device) = machine(&[("sys/fs/cgroup/spoke/memory.max", "1073741824")]);
        let status = status(&device, dir.path(), Ipv4Addr::LOCALHOST, "p", &[]);
        let guests = allocatable::of(&status);
        let pressure = eviction::defaults()[0].quantity(device.memory);
        assert_eq!(guests.memory, device.for_guests() - pressure);
        assert_eq!(device.for_guests(), (1 << 30) / 8 * 7);
        assert!(guests.storage < status.storage && 0 < guests.storage);
        assert_eq!(guests.pods, device.pods);
    }

    #[test]
    fn a_full_control_group_is_memory_pressure() {
        let (dir, device) = machine(&[
            ("sys/fs/cgroup/spoke/memory.max", "1073741824"),
            ("sys/fs/cgroup/spoke/memory.current", "1073000000"),
        ]);
        let left = device.left(dir.path(), &MemoryAccount::node());
        assert!(
            0 < left[&Signal::Disk].available && 0 < left[&Signal::Inodes].capacity,
            "{left:?}"
        );
        let verdict = Watch::new(eviction::defaults()).observe(&left, Duration::ZERO);
        assert_eq!(verdict.short[0].signal, Signal::Memory);
    }

    #[test]
    fn what_a_user_leaves_to_the_machine_is_not_taken_of_what_guests_asked_for() {
        let plenty = "MemTotal: 8388608 kB\nMemAvailable: 7340032 kB\n";
        let (dir, device) = machine(&[("proc/meminfo", plenty)]);
        let guests = MemoryAccount::node();
        guests.set_limit(1 << 30);
        let _some = guests.take(600 << 20).unwrap();
        let asked = eviction::parse("memory.available<500Mi").unwrap();
        let left = device.left(dir.path(), &guests);
        let verdict = Watch::new(vec![asked]).observe(&left, Duration::ZERO);
        assert_eq!(verdict.short, []);
    }

    #[test]
    fn modules_on_the_same_disk_have_its_numbers_and_on_another_their_own() {
        let (dir, device) = machine(&[]);
        let left = || device.left(dir.path(), &MemoryAccount::node());
        let both = |left: &Observed| (left[&Signal::Disk], left[&Signal::Images]);
        let (disk, images) = both(&left());
        assert_eq!(disk, images, "there are none yet");
        let modules = dir.path().join(MODULES);
        fs::create_dir(&modules).unwrap();
        let (disk, images) = both(&left());
        assert_eq!(disk, images);
        fs::remove_dir(&modules).unwrap();
        // Another file system that every machine has.
        std::os::unix::fs::symlink("/proc", &modules).unwrap();
        let other = rustix::fs::statvfs("/proc").unwrap();
        let (disk, images) = both(&left());
        assert_ne!(disk, images);
        assert_eq!(images.capacity, other.f_blocks * other.f_frsize);
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(list("0-3,8\n"), Some(vec![(0, 3), (8, 8)]));
        for bad in ["", "x", "3-1", "0-99999999"] {
            assert_eq!(list(bad), None, "{bad:?}");
        }
        assert_eq!(overlap(&[(0, 3)], &[(2, 9)]), 2);
        assert_eq!(overlap(&[(0, 1)], &[(4, 9)]), 0);
    }
}
