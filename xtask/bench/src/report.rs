//! What a run came to: a table for whoever waits for it, and `target/bench/latest.json`.

use freewheel_xtask_kit::command::{Stop, output};
use serde_json::json;

use crate::folders::folder;
use crate::plan::Plan;
use crate::row::Row;

/// Prints and keeps it.
pub fn tell(plan: Plan, rows: &[Row]) -> Result<(), Stop> {
    println!("\n{}", machine());
    println!(
        "{} rounds{}\n",
        plan.rounds,
        if plan.quick { ", QUICK: not the gates' own durations" } else { "" }
    );
    for row in rows {
        println!("{row}");
    }
    keep(plan, rows)
}

/// What this was measured on.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!(
        "{cores} cores ({}), load {} at the end; driver and servers share them; not a Raspberry Pi",
        model.unwrap_or("unknown"),
        load.join(" ")
    )
}

fn keep(plan: Plan, rows: &[Row]) -> Result<(), Stop> {
    let commit =
        output(std::process::Command::new("git").args(["rev-parse", "HEAD"])).unwrap_or_default();
    let all = json!({
        "machine": machine(),
        "commit": commit.trim(),
        "rounds": plan.rounds,
        "quick": plan.quick,
        "gates": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    let path = folder().join("latest.json");
    std::fs::create_dir_all(folder())
        .and_then(|()| std::fs::write(&path, format!("{all:#}\n")))
        .map_err(|e| Stop(format!("cannot write {}: {e}", path.display())))?;
    println!("All figures: {}", path.display());
    Ok(())
}
