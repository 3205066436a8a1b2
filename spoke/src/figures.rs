//! What this device counts, put together when the hub asks: nothing is looked at before.
//!
//! Guarantees:
//! - figures of the process and of the machine are their own (`the_process_and_the_machine_are_looked_at`).

use std::fs;
use std::path::Path;

use freewheel_link::figures::{DeviceV1, Figures};
use freewheel_spoke_agent::uplink::Handle;
use freewheel_spoke_net::Fabric;
use freewheel_spoke_runtime::Runtime;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::device::{disk, meminfo};

/// All of it, the device first.
pub(crate) fn of(
    data: &Path,
    (runtime, fabric): (&Runtime, &Fabric),
    uplink: &Handle,
) -> Vec<Figures> {
    let pods = runtime.figures();
    let device = DeviceV1 {
        pods: count(pods.len()),
        containers: count(pods.iter().map(|pod| pod.containers.len()).sum()),
        guests: count(fabric.account().used()),
        most_guests: fabric.account().limit().map(count).unwrap_or_default(),
        sessions: uplink.sessions(),
        datagrams_lost: uplink.lost_datagrams(),
        messages_skipped: uplink.skipped_messages(),
        ..machine(data)
    };
    let gates = fabric.gates().into_iter().map(Figures::Gate);
    let pods = pods.into_iter().map(Figures::Pod);
    std::iter::once(Figures::Device(device)).chain(gates).chain(pods).collect()
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// What the kernel says of this process and of the machine; nothing of what it does not say.
fn machine(data: &Path) -> DeviceV1 {
    let (disk, disk_free) = disk(data);
    let memory = |key| meminfo(Path::new("/"), key).unwrap_or_default();
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses, which may hold anything; the next is the third.
    let fields: Vec<&str> = own.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| {
        fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
    };
    let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    DeviceV1 {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: booted.unwrap_or(0_u64) * 1000 + millis(field(22)),
        cpu_ms: millis(field(14) + field(15)),
        resident: field(24) * count(page_size()),
        // Looking is one more.
        files: fs::read_dir("/proc/self/fd")
            .map_or(0, |open| count(open.count().saturating_sub(1))),
        most_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        working_set: memory("MemTotal").saturating_sub(memory("MemAvailable")),
        busy_ms: millis(busy(&stat)),
        disk,
        disk_free,
        ..DeviceV1::default()
    }
}

/// Ticks of all processors that were not idle.
fn busy(stat: &str) -> u64 {
    let cpu = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    // User, nice, system, then idle and waiting for a disk, interrupts, soft interrupts, stolen; the rest is in them.
    let ticks = cpu.split_whitespace().take(8).enumerate();
    let busy = ticks.filter(|(at, _)| !matches!(at, 3 | 4));
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

fn millis(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / clock_ticks_per_second().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_and_the_machine_are_looked_at() {
        let found = machine(Path::new("/"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - std::time::Duration::from_millis(found.started).as_secs_f64();
        assert!((-5.0..86_400.0).contains(&age), "{age}");
        assert!((3..=found.most_files).contains(&found.files), "{found:?}");
        assert!(1 << 20 < found.resident && found.resident < found.working_set, "{found:?}");
        assert!(found.cpu_ms <= found.busy_ms && found.disk_free <= found.disk, "{found:?}");
        let stat = "cpu  10 20 30 4000 5000 6 7 8 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy(stat), 10 + 20 + 30 + 6 + 7 + 8);
    }
}
