//! What a run comes to: a row for whoever waits for it as soon as one is measured, a table at the end, and
//! `target/bench/latest.json`.
//!
//! Guarantees:
//! - what was measured is kept, however the run ends (`what_is_measured_is_kept_at_once`).

use std::path::PathBuf;

use freewheel_xtask_kit::command::{Stop, output};
use serde_json::json;

use crate::folders::folder;
use crate::plan::Plan;
use crate::row::Row;

/// The rows of a run.
pub struct Report {
    plan: Plan,
    /// The gates that are asked for.
    wanted: Vec<&'static str>,
    rows: Vec<Row>,
    path: PathBuf,
}

impl Report {
    /// One of these gates.
    pub fn of(plan: Plan, wanted: Vec<&'static str>) -> Self {
        Self { plan, wanted, rows: Vec::new(), path: folder().join("latest.json") }
    }

    /// Whether this gate is asked for.
    pub fn wants(&self, id: &str) -> bool {
        self.wanted.contains(&id)
    }

    /// Prints and keeps a row, before anything else is measured: that may take hours, or be stopped.
    pub fn add(&mut self, row: Row) -> Result<(), Stop> {
        if !self.wants(row.id) {
            return Ok(());
        }
        println!("\n{row}");
        self.rows.push(row);
        self.keep()
    }

    /// Says of those among these gates that have no row why.
    pub fn miss(&mut self, ids: &[&'static str], why: &Stop) -> Result<(), Stop> {
        for &id in ids {
            if !self.rows.iter().any(|row| row.id == id) {
                self.add(Row::missing(id, &why.0))?;
            }
        }
        Ok(())
    }

    /// Prints all of them.
    pub fn end(mut self) -> Result<(), Stop> {
        self.rows.sort_by_key(|row| row.id);
        println!("\n{}", machine());
        println!(
            "{} rounds{}\n",
            self.plan.rounds,
            if self.plan.quick { ", QUICK: not the gates' own durations" } else { "" }
        );
        for row in &self.rows {
            println!("{row}");
        }
        self.keep()?;
        println!("All figures: {}", self.path.display());
        Ok(())
    }

    fn keep(&self) -> Result<(), Stop> {
        let commit = output(std::process::Command::new("git").args(["rev-parse", "HEAD"]))
            .unwrap_or_default();
        let all = json!({
            "machine": machine(),
            "commit": commit.trim(),
            "rounds": self.plan.rounds,
            "quick": self.plan.quick,
            "gates": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        let folder = self.path.parent().map_or_else(folder, PathBuf::from);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&self.path, format!("{all:#}\n")))
            .map_err(|e| Stop(format!("cannot write {}: {e}", self.path.display())))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Verdict;

    fn row(id: &'static str) -> Row {
        let verdict = || Verdict::once(true);
        Row {
            id,
            what: "something",
            measured: vec!["1 ms".to_owned()],
            gate: ("≤ 2 ms", verdict()),
            stretch: ("≤ 1 ms", verdict()),
            raw: json!(1),
        }
    }

    #[test]
    fn what_is_measured_is_kept_at_once() {
        let folder = std::env::temp_dir().join(format!("freewheel-report-{}", std::process::id()));
        let path = folder.join("latest.json");
        let plan = Plan { rounds: 5, quick: false, built: true, spokes: (20, 20) };
        let wanted = vec!["P25", "P26", "P28"];
        let mut report = Report { plan, wanted, rows: Vec::new(), path: path.clone() };
        let kept = || {
            let text = std::fs::read_to_string(&path).unwrap();
            let all: serde_json::Value = serde_json::from_str(&text).unwrap();
            let gates = all["gates"].as_array().unwrap();
            gates.iter().map(|gate| format!("{} {}", gate["id"], gate["what"])).collect::<Vec<_>>()
        };
        report.add(row("P28")).unwrap();
        assert_eq!(kept(), [r#""P28" "something""#]);
        // Nobody has asked for it.
        report.add(row("P27")).unwrap();
        report.miss(&["P28", "P25"], &Stop("it ended".into())).unwrap();
        assert_eq!(kept(), [r#""P28" "something""#, r#""P25" "not measured""#]);
        report.add(row("P26")).unwrap();
        report.end().unwrap();
        let sorted = [r#""P25" "not measured""#, r#""P26" "something""#, r#""P28" "something""#];
        assert_eq!(kept(), sorted);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
