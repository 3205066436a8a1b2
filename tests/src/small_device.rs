//! A device with little memory, on a machine with much.
//!
//! The spoke starts in a mount namespace of its own, in which `/proc/meminfo` is a file of ours: it says how much memory
//! the device has, and what the spoke has left of it. No control group is needed, and none is touched. The kernel does
//! not end who takes more: [`SmallDevice::most`] tells what was taken at the most, and the test compares.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::process::{memory, peak};

/// How often what is left is written anew.
const EVERY: Duration = Duration::from_millis(50);

/// Keeps the device's memory true to what its spoke takes.
pub struct SmallDevice {
    spoke: u32,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl SmallDevice {
    /// A new spoke that joins, with this much memory.
    #[must_use]
    pub fn join(fleet: &mut Fleet, name: &str, kib: u64) -> Self {
        let path = fleet.path(&format!("{name}.meminfo"));
        let file = File::create(&path).expect("a file for the memory");
        write(&file, kib, 0);
        let mut words = unshare();
        words.extend(["sh", "-c"].map(str::to_owned));
        words.push("mount --bind \"$0\" /proc/meminfo && exec \"$@\"".to_owned());
        words.push(path.to_string_lossy().into_owned());
        fleet.start_through(name, words);
        fleet.join(name);
        let spoke = fleet.spoke_id(name);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                if let Some(taken) = memory(spoke, "VmRSS:") {
                    write(&file, kib, taken);
                }
                std::thread::sleep(EVERY);
            }
        });
        Self { spoke, stop, writer: Some(writer) }
    }

    /// KiB that the spoke took at the most.
    #[must_use]
    pub fn most(&self) -> u64 {
        peak(self.spoke)
    }
}

impl Drop for SmallDevice {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The same number of bytes at every time and in one write, so that no reader sees half of it.
fn write(file: &File, kib: u64, taken: u64) {
    let left = kib.saturating_sub(taken);
    let text =
        format!("MemTotal: {kib:>12} kB\nMemFree: {left:>12} kB\nMemAvailable: {left:>12} kB\n");
    file.write_all_at(text.as_bytes(), 0).expect("the device's memory");
}

/// The command that gives a program mounts of its own: as root, or as root of a user namespace.
#[must_use]
pub fn unshare() -> Vec<String> {
    let ways = [vec!["unshare", "--mount"], vec!["unshare", "--map-root-user", "--mount"]];
    let works = |way: &Vec<&str>| {
        let tried = Command::new(way[0])
            .args(&way[1..])
            .args(["mount", "--bind", "/dev/null", "/proc/meminfo"])
            .output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let found = ways.into_iter().find(works);
    let found = found.unwrap_or_else(|| {
        panic!(
            "no mount namespace: this test needs root or user namespaces, and unshare and mount of util-linux"
        )
    });
    found.into_iter().map(str::to_owned).collect()
}
