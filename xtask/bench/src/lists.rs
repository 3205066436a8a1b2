//! P27, P29: whole lists, and how soon a client sees its own write, beside kube-apiserver.

use freewheel_xtask_kit::command::Stop;
use serde_json::json;

use crate::both::Both;
use crate::figures::{Ratios, column, median, spread, time};
use crate::plan::Plan;
use crate::report::Report;
use crate::row::{Row, Verdict};
use crate::{load, proc};

const PODS: &str = "/api/v1/namespaces/lists/pods";
const ECHO: &str = "/api/v1/namespaces/echo/configmaps";

/// As `kubectl` asks for them.
const PAGE: u32 = 500;

pub fn run(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    let both = Both::start(plan, "lists")?;
    // An empty store first: what is seen soon is seen soon whatever else lies there, which P30 looks at.
    report.add(both.own_writes()?)?;
    both.fill()?;
    report.add(both.lists()?)
}

impl Both {
    /// 150,000 pods on each side.
    fn fill(&self) -> Result<(), Stop> {
        for server in self.servers() {
            load::ask(&json!({
                "do": "fill", "server": server, "path": PODS, "prefix": "none", "connections": 1, "count": 0,
            }))?;
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
            });
            // kube-apiserver alone has no controller that makes it; where it is there already, that is refused.
            let accounts = PODS.replace("/pods", "/serviceaccounts");
            let _ = load::request(&server, "POST", &accounts, &account);
            let figures = load::steady(&json!({
                "do": "create", "server": server, "path": PODS, "prefix": "pod", "object": "pod",
                "connections": 64, "seconds": 900.0, "count": self.pods(),
            }))?;
            println!(
                "{} pods made, {:.0}/s",
                self.pods(),
                figures["per_second"].as_f64().unwrap_or_default()
            );
        }
        Ok(())
    }

    fn pods(&self) -> u32 {
        if self.plan.quick { 5_000 } else { 150_000 }
    }

    fn lists(&self) -> Result<Row, Stop> {
        let process = self.hub.process.id();
        let mut raw = json!({});
        let (mut measured, mut holds, mut far) = (Vec::new(), true, true);
        for (name, page) in [("in one answer", None), ("in pages of 500", Some(PAGE))] {
            proc::forget_peak(process)?;
            let before = proc::resident(process).map_or(0, |(now, _)| now);
            let turns = self.turns(
                &format!("lists {name}"),
                |_, server, _| json!({"do": "list", "server": server, "path": PODS, "page": page}),
            )?;
            let peak = proc::resident(process).map_or(0, |(_, peak)| peak);
            let grown = mebibytes(peak.saturating_sub(before));
            for (side, rounds) in [("ours:  ", &turns.ours), ("theirs:", &turns.theirs)] {
                let (seconds, first) = (column(rounds, "seconds"), column(rounds, "first_byte"));
                if !rounds.is_empty() {
                    let megabytes = median(&column(rounds, "bytes")) / 1e6;
                    measured.push(format!(
                        "{name:<15} {side} {:.2} s, first byte after {}, {megabytes:.0} MB",
                        median(&seconds),
                        time(median(&first)),
                    ));
                }
            }
            let ratio = turns.ratios("seconds");
            measured
                .push(format!("{name:<15} time ratio {ratio}; our memory grew by {grown:.0} MiB"));
            let seconds = median(&column(&turns.ours, "seconds"));
            let first = median(&column(&turns.ours, "first_byte"));
            // The first byte of a list is that of its first page.
            holds &= seconds <= 5.0 && grown <= 100.0 && first <= 100_000.0;
            far &= seconds <= 2.0 && grown <= 100.0;
            raw[name] = turns.raw();
        }
        Ok(Row {
            id: "P27",
            what: "one list of 150,000 pods, JSON, TLS, one client",
            measured,
            gate: (
                "≤ 5 s, first byte ≤ 100 ms, hub memory + ≤ 100 MiB",
                Verdict::of(self.plan, holds),
            ),
            stretch: ("≤ 2 s", Verdict::of(self.plan, far)),
            raw,
        })
    }

    fn own_writes(&self) -> Result<Row, Stop> {
        let writes = if self.plan.quick { 50 } else { 500 };
        let turns = self.turns("own writes", |round, server, _| {
            json!({
                "do": "echo", "server": server, "path": ECHO, "writes": writes, "prefix": format!("r{round}"),
            })
        })?;
        let mut measured = Vec::new();
        for (side, rounds) in [("ours:  ", &turns.ours), ("theirs:", &turns.theirs)] {
            if !rounds.is_empty() {
                measured.push(format!("{side} write → read back {}", spread(rounds, "read.")));
                measured.push(format!("{side} write → own watch {}", spread(rounds, "seen.")));
            }
        }
        let ratio =
            |field: &str| Ratios::of(&column(&turns.ours, field), &column(&turns.theirs, field));
        measured.push(format!(
            "ratio of p50: read back {}, own watch {}",
            ratio("read.p50"),
            ratio("seen.p50")
        ));
        let within = |p50: f64| {
            ["read", "seen"].iter().all(|what| {
                median(&column(&turns.ours, &format!("{what}.p50"))) <= p50
                    && median(&column(&turns.ours, &format!("{what}.p99"))) <= 10_000.0
            })
        };
        Ok(Row {
            id: "P29",
            what: "a client's own write: until it is read back, until its watch tells of it; 1 KiB ConfigMaps",
            measured,
            gate: ("p50 ≤ 0.7 ms, p99 ≤ 10 ms, both", Verdict::of(self.plan, within(700.0))),
            stretch: ("p50 ≤ 0.3 ms", Verdict::of(self.plan, within(300.0))),
            raw: turns.raw(),
        })
    }
}

fn mebibytes(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}
