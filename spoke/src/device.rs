//! What this machine is, as its Node shows it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use freewheel_link::names::ClusterName;
use freewheel_link::report::NodeStatusV1;
use freewheel_spoke_agent::admission::FEATURES;

/// Free space below this share of a disk is pressure, as kubelet's default of 10 %.
const DISK_PRESSURE_SHARE: u64 = 10;
/// Free memory below this is pressure, as kubelet's default of 100 MiB; small devices get a twentieth.
const MEMORY_PRESSURE: u64 = 100 << 20;

/// Memory that guests never get: the agent, the system and what the kernel needs to find a way out.
const RESERVED: u64 = 64 << 20;

/// What is known of the machine before its profile is.
pub(crate) struct Device {
    pub(crate) cpu_milli: u32,
    pub(crate) memory: u64,
    pub(crate) pods: u32,
}

impl Device {
    pub(crate) fn probe() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let memory = meminfo("MemTotal").unwrap_or(1 << 30);
        Self { cpu_milli: u32::try_from(cores * 1000).unwrap_or(1000), memory, pods: pods(memory) }
    }

    /// Memory that all guests may have together: an eighth stays with the system.
    pub(crate) fn for_guests(&self) -> u64 {
        self.memory.saturating_sub(RESERVED.max(self.memory / 8))
    }
}

/// One pod per 512 KiB, four times what an idle one takes; never fewer than kubelet's 110.
fn pods(memory: u64) -> u32 {
    u32::try_from((memory >> 19).clamp(110, 5000)).unwrap_or(110)
}

/// The whole status.
pub(crate) fn status(
    device: &Device,
    data: &Path,
    address: Ipv4Addr,
    profile: &str,
    labels: &[(String, String)],
) -> NodeStatusV1 {
    let (storage, free) = disk(data);
    let mut labels = labels.to_vec();
    labels.sort();
    labels.dedup_by(|a, b| a.0 == b.0);
    NodeStatusV1 {
        address,
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
        pressure: pressure(storage, free, device.memory, meminfo("MemAvailable")),
    }
}

fn pressure(storage: u64, free: u64, memory: u64, available: Option<u64>) -> Vec<String> {
    let mut out = Vec::new();
    if 0 < storage && free < storage / DISK_PRESSURE_SHARE {
        out.push("DiskPressure".to_owned());
    }
    if available.is_some_and(|available| available < MEMORY_PRESSURE.min(memory / 20)) {
        out.push("MemoryPressure".to_owned());
    }
    out
}

/// (size, free) in bytes of the file system under a path.
pub(crate) fn disk(path: &Path) -> (u64, u64) {
    match rustix::fs::statvfs(path) {
        Ok(found) => (found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize),
        Err(_) => (0, 0),
    }
}

/// A value of /proc/meminfo in bytes.
fn meminfo(key: &str) -> Option<u64> {
    memory_value(&fs::read_to_string("/proc/meminfo").ok()?, key)
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

/// The local address that packets to the hub leave from. Sends nothing.
pub(crate) async fn address_towards(hub: &str) -> Option<Ipv4Addr> {
    let found = tokio::net::lookup_host(hub).await.ok()?.find(std::net::SocketAddr::is_ipv4)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(found).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn guests_leave_memory_to_the_system() {
        let guests = |memory| Device { cpu_milli: 0, memory, pods: 0 }.for_guests();
        assert_eq!(guests(256 << 20), 192 << 20);
        assert_eq!(guests(8 << 30), 7 << 30);
        assert_eq!(guests(1 << 20), 0);
    }

    #[test]
    fn pressure_is_named() {
        assert_eq!(pressure(100, 50, 1 << 30, Some(1 << 29)), [""; 0]);
        assert_eq!(pressure(100, 9, 1 << 30, Some(1 << 20)), ["DiskPressure", "MemoryPressure"]);
    }
}
