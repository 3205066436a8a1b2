//! P25, P26, P28: the API beside kube-apiserver.

use freewheel_xtask_kit::command::Stop;
use serde_json::{Value, json};

use crate::both::Both;
use crate::figures::{column, median, spread, time};
use crate::load;
use crate::plan::Plan;
use crate::report::Report;
use crate::row::Row;

const COLLECTION: &str = "/api/v1/namespaces/bench/configmaps";
const WATCHERS: u32 = 1000;

pub fn run(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    let both = Both::start(plan, "api")?;
    // Watches first: what creates leave in the allocators would hide a watch's memory.
    report.add(both.fan_out()?)?;
    report.add(both.creates()?)?;
    report.add(both.gets()?)
}

impl Both {
    fn creates(&self) -> Result<Row, Stop> {
        let server = |server: &Value| json!({"do": "fill", "server": server, "path": COLLECTION, "prefix": "get", "connections": 1, "count": 1000});
        load::ask(&server(&self.hub.server()))?;
        if let Ok(peer) = &self.peer {
            load::ask(&server(&peer.server))?;
        }
        let mut measured = Vec::new();
        let (mut rate, mut tail, mut raw) = (Vec::new(), Vec::new(), json!({}));
        for connections in [1, 64] {
            let turns = self.turns(&format!("creates at {connections}"), |round, server, _| {
                json!({
                    "do": "create", "server": server, "path": COLLECTION, "connections": connections,
                    "prefix": format!("r{round}c{connections}"), "seconds": self.seconds(), "count": 500_000,
                })
            })?;
            measured.extend(turns.lines(&format!("{connections:>2} conn.")));
            rate.push(turns.ratios("per_second").median());
            tail.push(turns.ratios("p99").median());
            measured.push(format!(
                "         ratio {}, of p99 {}",
                turns.ratios("per_second"),
                turns.ratios("p99")
            ));
            raw[connections.to_string()] = turns.raw();
        }
        let calm = tail.iter().all(|tail| *tail <= 1.0);
        let beats = |one: f64, many: f64| {
            rate.first().is_some_and(|r| one <= *r) && rate.get(1).is_some_and(|r| many <= *r)
        };
        Ok(Row {
            id: "P25",
            what: "durable creates through the API: 1 KiB ConfigMaps, TLS, client certificate",
            measured,
            gate: (
                "≥ 1.5 × kube-apiserver at 1 connection, ≥ 3 × at 64, p99 not worse",
                self.verdict(calm && beats(1.5, 3.0)),
            ),
            stretch: ("≥ 3 × / ≥ 6 ×", self.verdict(calm && beats(3.0, 6.0))),
            raw,
        })
    }

    fn gets(&self) -> Result<Row, Stop> {
        let turns = self.turns("gets at 64", |_, server, _| {
            json!({
                "do": "get", "server": server, "path": COLLECTION, "connections": 64,
                "prefix": "get", "seconds": self.seconds(), "count": 2_000_000,
            })
        })?;
        let ratios = turns.ratios("per_second");
        let mut measured = turns.lines("64 conn.");
        measured.push(format!("         ratio {ratios}, of p99 {}", turns.ratios("p99")));
        let driver = |rounds: &[Value]| {
            let share: Vec<f64> = rounds
                .iter()
                .filter_map(|r| Some(r["driver_cpu"].as_f64()? / r["seconds"].as_f64()?))
                .collect();
            median(&share) * 100.0
        };
        measured.push(format!(
            "         driver: {:.0} % of a core with ours, {:.0} % with theirs",
            driver(&turns.ours),
            driver(&turns.theirs)
        ));
        Ok(Row {
            id: "P26",
            what: "gets through the API: 1 KiB ConfigMaps, TLS, 64 connections",
            measured,
            gate: ("≥ 4 × kube-apiserver at 64", self.verdict(4.0 <= ratios.median())),
            stretch: ("≥ 8 ×", self.verdict(8.0 <= ratios.median())),
            raw: turns.raw(),
        })
    }

    fn fan_out(&self) -> Result<Row, Stop> {
        let writes = if self.plan.quick { 10 } else { 20 };
        let turns = self.turns("watch fan-out", |round, server, ours| {
            let processes: Vec<u32> = match &self.peer {
                Ok(peer) if !ours => vec![peer.apiserver.id(), peer.etcd.id()],
                _ => vec![self.hub.process.id()],
            };
            json!({
                "do": "fan", "server": server, "path": "/api/v1/namespaces/fan/configmaps", "watchers": WATCHERS,
                "writes": writes, "prefix": format!("f{round}"), "memory_of": processes.first(), "cpu_of": processes,
            })
        })?;
        let (times, cpu) = (turns.ratios("last.p50"), turns.ratios("server_cpu"));
        let line = |side: &str, rounds: &[Value]| {
            format!(
                "{side} write → last watcher {}; first watcher p50 {}; server CPU {:.1} µs per event and watcher; {:.0} KiB PSS per watch",
                spread(rounds, "last."),
                time(median(&column(rounds, "first.p50"))),
                per_event(rounds),
                per_watch(rounds),
            )
        };
        let mut measured = vec![line("ours:  ", &turns.ours)];
        if !turns.theirs.is_empty() {
            measured.push(line("theirs:", &turns.theirs));
        }
        measured.push(format!("time ratio {times}, CPU ratio {cpu}"));
        let memory = per_watch(&turns.ours);
        let holds = |share: f64, kib: f64| {
            times.median() <= share && cpu.median() <= share && memory <= kib
        };
        Ok(Row {
            id: "P28",
            what: "watch fan-out: 1,000 watchers of one namespace on a TLS connection each, one write at a time",
            measured,
            gate: (
                "≤ 0.5 × kube-apiserver's time and CPU (etcd's counted), ≤ 96 KiB per watch",
                self.verdict(holds(0.5, 96.0)),
            ),
            stretch: ("≤ 0.2 ×, ≤ 48 KiB", self.verdict(holds(0.2, 48.0))),
            raw: turns.raw(),
        })
    }
}

/// KiB of the server that a watch takes, by the first round: later ones find memory that it left.
fn per_watch(rounds: &[Value]) -> f64 {
    let first = rounds.first();
    let field = |name: &str| first.and_then(|round| round[name].as_f64());
    field("pss_with_watches")
        .zip(field("pss_before"))
        .map_or(f64::NAN, |(with, before)| (with - before) / f64::from(WATCHERS))
}

/// Microseconds of the server's processor that a watcher's event takes.
fn per_event(rounds: &[Value]) -> f64 {
    let each: Vec<f64> = rounds
        .iter()
        .filter_map(|r| Some(r["server_cpu"].as_f64()? / r["events"].as_f64()? * 1e6))
        .collect();
    median(&each)
}
