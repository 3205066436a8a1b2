//! `cargo xtask bench [NAME…]`: the performance gates, measured on this machine beside their peers.
//!
//! ```text
//! mod      names, rounds, the table, target/bench/latest.json
//! row      one gate: what was measured, whether it holds      figures  medians and ranges
//! proc     what /proc tells of processes
//! load     the load generator (tests/bench/load)              hub      our hub and a spoke      peer  kube-apiserver + etcd
//! both     our hub and kube-apiserver, driven in turns
//! api      P25 P26 P28      lists  P27 P29      stored  P30 P31      overload  P33
//! device  P01 P02      start  P07 P40      http  P13      fleet  P20S P22S P23S
//! turns    how long a controller worked
//! swarm   P20 P21 P22 P24 P44 P45 P46 P47      outage  P32 P32N
//! ```
//!
//! * Both sides run at the same time on the same disk and are driven in turns, A B A B, by the same one-threaded driver.
//! * A verdict is the median of the rounds' ratios; fewer than five rounds give none.
//! * What cannot be had on a machine is named and gets no verdict.

mod api;
mod both;
mod device;
mod figures;
mod fleet;
mod http;
pub mod hub;
mod lists;
pub mod load;
mod outage;
mod overload;
mod peer;
mod proc;
mod row;
mod start;
mod stored;
mod swarm;
mod turns;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::child;
use crate::command::{Stop, empty, output, target};
use row::Row;

/// What `bench` can be told.
#[derive(Args)]
pub struct Options {
    /// Which of P01 P02 P07 P13 P20 to P24 P20S P22S P23S P25 to P33 P40 P44 to P47, or of the groups api, device,
    /// fleet; all when none is named
    names: Vec<String>,
    /// Turns of each side; below five there is no verdict
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measure the programs that are there instead of building what the checkout holds now
    #[arg(long)]
    built: bool,
    /// Shorter turns and rests, for trying things out
    #[arg(long)]
    quick: bool,
    /// Simulated spokes of the fleet [default: 10000, 200 with --quick]; below 10,000 there is no verdict on what their
    /// number decides
    #[arg(long, value_parser = clap::value_parser!(u32).range(20..=200_000))]
    spokes: Option<u32>,
    /// Then twice as many, and again, up to this many, for as long as what their number decides holds
    #[arg(long)]
    most: Option<u32>,
}

/// How long and how often.
#[derive(Clone, Copy)]
pub struct Plan {
    rounds: u32,
    quick: bool,
    /// Build nothing of ours.
    built: bool,
    /// Of a swarm, to begin with and at most.
    spokes: (u32, u32),
}

/// A bench: its group, the gates it measures, and how.
type Bench = (&'static str, &'static [&'static str], fn(Plan) -> Result<Vec<Row>, Stop>);

const BENCHES: [Bench; 10] = [
    ("device", &["P02"], device::size),
    ("api", &["P25", "P26", "P28"], api::run),
    ("api", &["P27", "P29"], lists::run),
    ("api", &["P30", "P31"], stored::run),
    ("api", &["P33"], overload::run),
    ("device", &["P01"], device::memory),
    ("device", &["P07", "P40"], start::run),
    ("device", &["P13"], http::run),
    ("fleet", &["P20S", "P22S", "P23S"], fleet::run),
    ("fleet", &swarm::IDS, swarm::run),
];

/// Measures and prints.
pub fn run(options: &Options) -> Result<(), Stop> {
    let named = chosen(&options.names)?;
    let wanted = |id: &str| named.contains(&id);
    child::listen()?;
    let spokes = options.spokes.unwrap_or(if options.quick { 200 } else { 10_000 });
    let most = options.most.unwrap_or(spokes);
    let Options { rounds, quick, built, .. } = *options;
    let plan = Plan { rounds, quick, built, spokes: (spokes, most) };
    let mut rows = Vec::new();
    for (_, ids, bench) in BENCHES {
        if !ids.iter().any(|id| wanted(id)) {
            continue;
        }
        println!("\n== {}", ids.join(" "));
        match bench(plan) {
            Ok(made) => rows.extend(made.into_iter().filter(|row| wanted(row.id))),
            Err(stop) => {
                child::go_on()?;
                rows.extend(ids.iter().filter(|id| wanted(id)).map(|id| Row::missing(id, &stop.0)));
            }
        }
    }
    rows.sort_by_key(|row| row.id);
    println!("\n{}", machine());
    println!(
        "{} rounds{}\n",
        plan.rounds,
        if plan.quick { ", QUICK: not the gates' own durations" } else { "" }
    );
    for row in &rows {
        println!("{row}");
    }
    keep(plan, &rows)
}

/// The gates that are asked for, by name or by group.
fn chosen(names: &[String]) -> Result<Vec<&'static str>, Stop> {
    let ids = |wanted: &dyn Fn(&str, &str) -> bool| -> Vec<&'static str> {
        let all =
            BENCHES.iter().flat_map(|(group, ids, _)| ids.iter().map(move |id| (*group, *id)));
        all.filter(|(group, id)| wanted(group, id)).map(|(_, id)| id).collect()
    };
    if names.is_empty() {
        return Ok(ids(&|_, _| true));
    }
    let mut chosen = Vec::new();
    for name in names {
        let found =
            ids(&|group, id| name.eq_ignore_ascii_case(group) || name.eq_ignore_ascii_case(id));
        if found.is_empty() {
            let known = ids(&|_, _| true).join(" ");
            return Err(Stop(format!(
                "there is no bench {name}; there are {known}, api, device and fleet"
            )));
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

/// The folder for everything that a bench keeps.
fn folder() -> PathBuf {
    target().join("bench")
}

/// Programs that were built or fetched once.
fn tools() -> PathBuf {
    target().join("tools")
}

/// An empty folder of this name.
fn fresh(name: &str) -> Result<PathBuf, Stop> {
    let path = folder().join(name);
    empty(&path)?;
    Ok(path)
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

#[cfg(test)]
mod tests {
    use super::{chosen, swarm};

    #[test]
    fn gates_are_chosen_by_name_and_by_group() {
        let asked =
            |names: &[&str]| chosen(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(asked(&["p28"]).ok(), Some(vec!["P28"]));
        let api = ["P25", "P26", "P28", "P27", "P29", "P30", "P31", "P33"];
        assert_eq!(asked(&["api"]).ok(), Some(api.to_vec()));
        assert_eq!(asked(&["P02", "fleet"]).ok().map(|ids| ids.len()), Some(4 + swarm::IDS.len()));
        assert!(asked(&[]).is_ok_and(|ids| 10 < ids.len()));
        let error = asked(&["P99"]).err().map(|stop| stop.0).unwrap_or_default();
        assert!(error.contains("P99") && error.contains("P28"), "{error}");
    }
}
