//! A child process with its log in a file; it dies with its owner.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// A running program.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; both outputs are added to `log`.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(open()).stderr(open()).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        Self { child, log: log.to_path_buf() }
    }

    /// SIGKILL: it has no chance to finish anything.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, then waits for its end.
    pub fn stop(&mut self, patience: Duration) -> ExitStatus {
        self.stop_by(Signal::TERM, patience)
    }

    /// A signal, then waits for its end.
    pub fn stop_by(&mut self, signal: Signal, patience: Duration) -> ExitStatus {
        // One that has ended already needs none.
        let _ = kill_process(Pid::from_child(&self.child), signal);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child to wait for") {
                return status;
            }
            assert!(
                start.elapsed() < patience,
                "it did not stop within {patience:?}; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child to wait for")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// KiB of memory that a process holds.
#[must_use]
pub fn resident(id: u32) -> u64 {
    memory(id, "VmRSS:").expect("a living process")
}

/// KiB of memory that a process held at the most.
#[must_use]
pub fn peak(id: u32) -> u64 {
    memory(id, "VmHWM:").expect("a living process")
}

/// A line of a process's status in KiB, while it lives.
#[must_use]
pub fn memory(id: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(8000);
            let tail = log.get(from..).unwrap_or(&log);
            eprintln!("---- {}\n{tail}", self.log.display());
        }
    }
}
