//! What a fleet costs its hub: `cargo xtask bench P20S P22S P23S` asks this program, one order each, and reads a line of
//! JSON. Spokes speak the real protocol over pipes in memory, so that sessions are measured and not a network.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a bench that cannot measure stops"
)]

mod fake;
#[expect(dead_code, unused_imports, reason = "tests use all of it")]
#[path = "../../tests/link/support.rs"]
mod support;

use std::time::Instant;

use fake::{CONFIG_MAPS, Fleet, SERVICES, config_map, service};
use freewheel_hub_metrics::{Format, Metrics};
use support::*;

/// Proportional set size of this process in bytes, after it has given back what it does not need, as the hub's program
/// does when it is quiet (`hub/src/serve/heap.rs`).
fn memory() -> f64 {
    freewheel_link::heap::give_back();
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
}

/// Seconds of processor time that this process has taken.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn looks(metrics: &Metrics) -> u64 {
    let text = metrics.text(Format::Prometheus).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("freewheel_plan_looks_total "));
    line.unwrap().parse().unwrap()
}

/// Bytes of one session that rests, its device having been told of so many Services of the root.
async fn sessions(spokes: usize, services: usize) -> Value {
    let hub = Hub::new(true).await;
    hub.listen().await;
    for number in 0..services {
        let name = format!("s{number}");
        hub.create(SERVICES, "default", &name, service(&name, "NodePort")).await;
    }
    let mut fleet = Fleet::join(hub, spokes).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = memory();
    fleet.connect(false).await;
    fleet.rest().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = memory() - before;
    json!({"spokes": spokes, "services": services, "bytes_per_session": all / spokes as f64})
}

/// The same where each has a pod of the root, and all of those read one ConfigMap of so many bytes.
async fn configured(spokes: usize, bytes: usize) -> Value {
    let hub = Hub::new(true).await;
    hub.listen().await;
    hub.create(CONFIG_MAPS, "default", "all", config_map("all", bytes)).await;
    for number in 0..spokes {
        let name = format!("pod-{number}");
        let mut reader = pod(&name, &format!("pi-{number}"));
        reader["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "all"}}]);
        hub.create(PODS, "default", &name, reader).await;
    }
    let mut fleet = Fleet::join(hub, spokes).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = memory();
    fleet.connect(false).await;
    fleet.rest().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = memory() - before;
    json!({"spokes": spokes, "bytes": bytes, "bytes_per_session": all / spokes as f64})
}

/// Whom changes of the root wake, and how long it takes until the last of them holds what came of it.
async fn fan(spokes: usize, busy: usize) -> Value {
    let hub = Hub::new(true).await;
    let metrics = Metrics::default();
    hub.gateway.show(&metrics);
    hub.listen().await;
    for number in 0..busy {
        let name = format!("pod-{number}");
        hub.create(PODS, "default", &name, pod(&name, &format!("pi-{number}"))).await;
    }
    hub.create(SERVICES, "default", "warm", service("warm", "NodePort")).await;
    let mut fleet = Fleet::join(hub, spokes).await;
    fleet.connect(true).await;
    fleet.rest().await;
    let mut changes = Vec::new();
    for round in 0..5 {
        for (what, concerned) in [
            ("a ClusterIP Service", busy),
            ("a NodePort Service", spokes),
            ("a label", 0),
            ("a ConfigMap that nobody names", 0),
            ("a pod", 1),
        ] {
            let (looked, taken, time) = (looks(&metrics), fleet.taken(), cpu());
            let start = Instant::now();
            fleet.change(what, round).await;
            fleet.until_taken(taken + concerned).await;
            let last = start.elapsed();
            fleet.rest().await;
            changes.push(json!({
                "what": what, "concerned": concerned, "woken": looks(&metrics) - looked,
                "taken": fleet.taken() - taken, "last": last.as_micros(), "cpu": cpu() - time,
            }));
        }
    }
    json!({"spokes": spokes, "changes": changes})
}

/// Bytes of a pod beside its body, and how long one more takes on a spoke that has few, and many.
async fn pods(pods: usize, row: usize) -> Value {
    const SPOKES: usize = 20;
    let hub = Hub::new(true).await;
    hub.listen().await;
    let mut fleet = Fleet::join(hub, SPOKES + 1).await;
    fleet.connect(true).await;
    fleet.rest().await;
    let before = memory();
    let mut body = 0;
    for number in 0..pods {
        let name = format!("pod-{number}");
        let node = format!("pi-{}", number % SPOKES);
        body += fleet.create_pod(&name, &node).await;
    }
    fleet.rest().await;
    let each = (memory() - before) / pods as f64;
    let mut times = Vec::new();
    for number in 0..row {
        let (taken, start) = (fleet.taken(), Instant::now());
        fleet.create_pod(&format!("row-{number}"), &format!("pi-{SPOKES}")).await;
        fleet.until_taken(taken + 1).await;
        times.push(start.elapsed().as_nanos() as f64 / 1000.0);
    }
    json!({"pods": pods, "bytes": each, "body": body as f64 / pods as f64, "times": times})
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    // Whoever runs all targets of the crate asks for nothing.
    let [what, first, second] = &given[..] else { return };
    let (first, second) = (first.parse().unwrap(), second.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let answer = match what.as_str() {
        "sessions" => runtime.block_on(Box::pin(sessions(first, second))),
        "configured" => runtime.block_on(Box::pin(configured(first, second))),
        "fan" => runtime.block_on(Box::pin(fan(first, second))),
        "pods" => runtime.block_on(Box::pin(pods(first, second))),
        other => panic!("there is no order {other}"),
    };
    println!("{answer}");
    // What is left serves nobody.
    std::process::exit(0);
}
