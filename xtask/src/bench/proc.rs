//! What /proc tells of a process.

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
