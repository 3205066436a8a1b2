//! P30, P31: a hub that holds much: what it weighs, how soon it serves again, what a write costs.
//!
//! ```text
//! empty ─▶ 1,000 ─▶ 100,000 ─▶ 1,000,000 objects, through the API
//!   └ start  └ writes   └ start      └ writes, memory, start
//! ```

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::Stop;
use serde_json::{Value, json};

use crate::figures::{column, median, spread};
use crate::folders::fresh;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::report::Report;
use crate::row::{Row, Verdict};
use crate::{load, proc};

const COLLECTION: &str = "/api/v1/namespaces/stored/configmaps";

/// What is measured of one number of objects.
struct Step {
    objects: u32,
    /// Figures of one writer on one connection, with the hub's CPU per write in microseconds.
    writes: Vec<Value>,
    /// Proportional set size in KiB, at rest.
    memory: u64,
    /// Seconds from start to ready.
    starts: Vec<f64>,
}

pub fn run(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    load::program()?;
    let empty = fresh_starts(plan)?;
    let mut hub = Hub::start(plan, "stored")?;
    let idle = proc::memory(hub.process.id()).map_or(0, |(pss, _)| pss);
    let peer = idle_peer();
    let mut steps = Vec::new();
    let mut made = 0;
    for objects in if plan.quick { [1_000, 2_000, 5_000] } else { [1_000, 100_000, 1_000_000] } {
        let step;
        (hub, step) = measure(hub, plan, objects, objects - made)?;
        made = objects;
        println!("{}", told(&step));
        steps.push(step);
    }
    let [few, many, most] = &steps[..] else { return Err(Stop("three steps were planned".into())) };
    report.add(store(plan, few, most))?;
    report.add(start(plan, &empty, many, idle, peer))
}

/// A hub's very first start, its keys and certificates included.
fn fresh_starts(plan: Plan) -> Result<Vec<f64>, Stop> {
    // Built before it is timed.
    drop(Hub::start(plan, "first")?);
    (0..plan.rounds).map(|_| Ok(Hub::launch(fresh("first")?)?.1)).collect()
}

/// What kube-apiserver and etcd weigh when they hold nothing, in KiB.
fn idle_peer() -> Result<u64, Stop> {
    let peer = Peer::start()?;
    let both = [peer.apiserver.id(), peer.etcd.id()];
    Ok(both.iter().filter_map(|process| Some(proc::memory(*process)?.0)).sum())
}

/// Adds so many objects and measures.
fn measure(hub: Hub, plan: Plan, objects: u32, more: u32) -> Result<(Hub, Step), Stop> {
    let server = hub.server();
    let order = |what: &str| json!({"do": what, "server": server, "path": COLLECTION, "connections": 1, "count": 0});
    let mut order_one = order("fill");
    order_one["prefix"] = json!("none");
    load::ask(&order_one)?;
    let mut fill = order("create");
    fill["prefix"] = json!(format!("to-{objects}"));
    fill["connections"] = json!(64);
    fill["seconds"] = json!(590.0);
    fill["count"] = json!(more);
    let filled = load::steady(&fill)?;
    if filled["count"] != more {
        return Err(Stop(format!("only {} of {more} objects were made in time", filled["count"])));
    }
    let mut writes = Vec::new();
    for round in 0..plan.rounds {
        let mut one = order("create");
        one["prefix"] = json!(format!("at-{objects}-{round}"));
        one["seconds"] = json!(60.0);
        one["count"] = json!(if plan.quick { 100 } else { 1_000 });
        let before = proc::cpu_seconds(hub.process.id());
        let mut figures = load::steady(&one)?;
        let used = proc::cpu_seconds(hub.process.id()) - before;
        figures["cpu"] = json!(used * 1e6 / figures["count"].as_f64().unwrap_or(f64::NAN));
        writes.push(figures);
    }
    let memory = proc::memory(hub.process.id()).map_or(0, |(pss, _)| pss);
    let (mut hub, mut starts) = (hub, Vec::new());
    for _ in 0..plan.rounds {
        child::go_on()?;
        let seconds;
        (hub, seconds) = hub.again()?;
        starts.push(seconds);
    }
    Ok((hub, Step { objects, writes, memory, starts }))
}

fn told(step: &Step) -> String {
    format!(
        "{:>9} objects: start {:.2} s; {} MiB PSS; a write at 1 connection {}, {:.0} µs of CPU",
        step.objects,
        median(&step.starts),
        step.memory / 1024,
        spread(&step.writes, ""),
        median(&column(&step.writes, "cpu")),
    )
}

fn raw(step: &Step) -> Value {
    json!({"objects": step.objects, "writes": step.writes, "pss": step.memory, "starts": step.starts})
}

fn store(plan: Plan, few: &Step, most: &Step) -> Row {
    let (start, tail) = (median(&most.starts), median(&column(&most.writes, "p99")));
    let holds = most.memory <= 2560 * 1024 && start <= 10.0 && tail <= 20_000.0;
    let cost = |step: &Step| median(&column(&step.writes, "cpu"));
    Row {
        id: "P30",
        what: "1,000,000 ConfigMaps of 1 KiB: memory, start on them, writes beside them",
        measured: vec![
            told(few),
            told(most),
            format!(
                "CPU of a write: {:.2} × that of one beside {}",
                cost(most) / cost(few),
                few.objects
            ),
        ],
        gate: (
            "PSS ≤ 2.5 GiB, restart to serving ≤ 10 s, p99 of a write ≤ 20 ms",
            Verdict::of(plan, holds),
        ),
        stretch: ("restart ≤ 5 s", Verdict::of(plan, holds && start <= 5.0)),
        raw: json!({"few": raw(few), "most": raw(most)}),
    }
}

fn start(plan: Plan, empty: &[f64], many: &Step, idle: u64, peer: Result<u64, Stop>) -> Row {
    let (first, full) = (median(empty), median(&many.starts));
    let mut measured =
        vec![format!("first start on an empty folder: {first:.3} s to /readyz"), told(many)];
    let light = match &peer {
        Ok(theirs) => {
            measured.push(format!(
                "idle and empty: {} MiB PSS; kube-apiserver and etcd {} MiB",
                idle / 1024,
                theirs / 1024
            ));
            idle * 5 <= *theirs
        }
        Err(stop) => {
            measured.push(format!("idle and empty: {} MiB PSS; no peer: {stop}", idle / 1024));
            true
        }
    };
    let within = |empty: f64, many: f64| Verdict::of(plan, light && first <= empty && full <= many);
    Row {
        id: "P31",
        what: "a hub's start, empty and on 100,000 objects; its memory when idle",
        measured,
        gate: ("≤ 0.2 s / ≤ 2 s; idle ≤ 1/5 of kube-apiserver + etcd", within(0.2, 2.0)),
        stretch: ("≤ 0.1 s / ≤ 1 s", within(0.1, 1.0)),
        raw: json!({"empty": empty, "many": raw(many), "idle": idle, "peer_idle": peer.ok()}),
    }
}
