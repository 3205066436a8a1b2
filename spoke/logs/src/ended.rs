//! Logs of starts that have ended, which stay until their pod goes or has had two more: the oldest make room.
//!
//! Guarantees:
//! - they have no more than half of what the node gives to logs, and the newest stay whole
//!   (`logs_of_what_has_ended_make_room_the_oldest_first`);
//! - what went with its pod is in nobody's way (`what_is_gone_counts_no_more`).
//!
//! Not held: what had ended before the agent started is not counted. When the disk is nearly full, that goes, too.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use freewheel_spoke_agent::volumes::log_aside;

use crate::stamp::stamp;

/// As many are remembered: a small one counts for more than it is.
const LOGS_MAX: u64 = 16 << 10;

/// They, the oldest first.
#[derive(Debug)]
pub(crate) struct EndedLogs {
    most: u64,
    logs: VecDeque<(PathBuf, u64)>,
    bytes: u64,
}

impl EndedLogs {
    pub(crate) const fn new(most: u64) -> Self {
        Self { most, logs: VecDeque::new(), bytes: 0 }
    }

    /// One more has ended. Blocks.
    pub(crate) fn add(&mut self, log: &Path) {
        let counted = |log: &Path| size(log).map(|bytes| bytes.max(self.most / LOGS_MAX));
        let Some(bytes) = counted(log) else { return };
        self.logs.push_back((log.to_owned(), bytes));
        self.bytes += bytes;
        if self.bytes <= self.most {
            return;
        }
        self.logs.retain_mut(|(log, bytes)| {
            let now = counted(log);
            *bytes = now.unwrap_or(0);
            now.is_some()
        });
        self.bytes = self.logs.iter().map(|(_, bytes)| bytes).sum();
        if self.bytes <= self.most {
            return;
        }
        // Some room at once: not each one that ends is to look at all of them.
        while self.most / 8 * 7 < self.bytes
            && let Some((oldest, bytes)) = self.logs.pop_front()
        {
            self.bytes -= bytes;
            empty(&oldest);
        }
    }
}

/// Of a log that is there.
fn size(log: &Path) -> Option<u64> {
    let newest = std::fs::metadata(log).ok()?.len();
    Some(newest + std::fs::metadata(log_aside(log)).map_or(0, |aside| aside.len()))
}

/// Says in the log where it is.
fn empty(log: &Path) {
    // What goes in between went with its pod, and is not made again.
    let _ = std::fs::remove_file(log_aside(log));
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(log) {
        let time = stamp(SystemTime::now());
        let _ = writeln!(file, "{time} stderr F [this log made room for those that ended later]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of one that has written two files of 64 KiB.
    fn log(dir: &Path, name: usize) -> PathBuf {
        let log = dir.join(format!("{name}.log"));
        std::fs::write(&log, vec![b'x'; 64 << 10]).unwrap();
        std::fs::write(log_aside(&log), vec![b'x'; 64 << 10]).unwrap();
        log
    }

    #[test]
    fn logs_of_what_has_ended_make_room_the_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut ended = EndedLogs::new(512 << 10);
        let logs: Vec<_> = (0..10).map(|name| log(dir.path(), name)).collect();
        logs.iter().for_each(|log| ended.add(log));
        let sizes: Vec<u64> = logs.iter().map(|log| size(log).unwrap()).collect();
        assert!(sizes.iter().sum::<u64>() <= 513 << 10, "{sizes:?}");
        assert_eq!(sizes[7..], [128 << 10; 3]);
        let first = std::fs::read_to_string(&logs[0]).unwrap();
        assert!(first.ends_with(" stderr F [this log made room for those that ended later]\n"));
    }

    #[test]
    fn what_is_gone_counts_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut ended = EndedLogs::new(512 << 10);
        let kept = log(dir.path(), 0);
        ended.add(&kept);
        for name in 1..100 {
            let log = log(dir.path(), name);
            ended.add(&log);
            std::fs::remove_file(&log).unwrap();
        }
        assert_eq!(size(&kept), Some(128 << 10));
        assert!(ended.logs.len() <= 4);
        ended.add(&dir.path().join("never written"));
        assert!(!dir.path().join("never written").exists());
    }
}
