//! What /proc tells of a process.

use freewheel_xtask_kit::command::Stop;
use serde_json::{Value, json};

/// Proportional set size and private dirty memory in KiB.
pub fn memory(process: u32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let field = |name: &str| -> Option<u64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    Some((field("Pss:")?, field("Private_Dirty:")?))
}

/// All of smaps_rollup's fields in KiB, and the number of threads.
pub fn rollup(process: u32) -> Value {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let mut all = json!({});
    for line in text.lines() {
        if let Some((name, rest)) = line.split_once(':')
            && let Some(size) = rest.split_whitespace().next().and_then(|n| n.parse::<u64>().ok())
        {
            all[name] = json!(size);
        }
    }
    all["threads"] =
        json!(std::fs::read_dir(format!("/proc/{process}/task")).map_or(0, Iterator::count));
    all
}

/// From here on the peak of a process's resident memory is counted anew.
pub fn forget_peak(process: u32) -> Result<(), Stop> {
    let file = format!("/proc/{process}/clear_refs");
    std::fs::write(&file, "5").map_err(|e| Stop(format!("cannot write {file}: {e}")))
}

/// Resident memory now and at its peak, in KiB.
pub fn resident(process: u32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// CPU seconds that a process has used.
pub fn cpu_seconds(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field may hold spaces; utime and stime are the 14th and 15th.
    let after = text.rsplit(") ").next().unwrap_or_default();
    let ticks =
        |at: usize| after.split(' ').nth(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
