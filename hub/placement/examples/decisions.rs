//! What one decision costs: in a fleet with room, in one where a tenth of the nodes has room, and where
//! none has.
//!
//! `cargo run --release -p freewheel-hub-placement --example decisions [NODES]`

use std::time::Instant;

use freewheel_hub_placement::node::Node;
use freewheel_hub_placement::{Fleet, PodRequest, decide};
use freewheel_link::names::ClusterName;
use serde_json::json;

const DECISIONS: u64 = 2_000;

fn request(cpu: &str) -> Option<PodRequest> {
    let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "c",
        "resources": {"requests": {"cpu": cpu, "memory": "16Mi"}}}]}});
    Some(PodRequest::read(ClusterName::root(), &serde_json::from_value(pod).ok()?))
}

fn node(number: usize) -> Option<Node> {
    let node = json!({
        "metadata": {"name": format!("pi-{number}"), "labels": {"site": format!("s{}", number % 50)}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "1000"},
            "conditions": [{"type": "Ready", "status": "True"}]},
    });
    Some(Node::read(&serde_json::from_value(node).ok()?))
}

fn fleet(nodes: usize, full: impl Fn(usize) -> bool) -> Option<Fleet> {
    let mut fleet = Fleet::new();
    let all = request("4")?;
    for number in 0..nodes {
        fleet.set_node(&ClusterName::root(), node(number)?);
        if full(number) {
            fleet.place(&format!("full-{number}").into(), &format!("pi-{number}"), &all);
        }
    }
    Some(fleet)
}

fn measure(name: &str, fleet: &mut Fleet) -> Option<()> {
    let asked = request("1m")?;
    let (mut next, mut looked_at, mut refused) = (0, 0, 0);
    let start = Instant::now();
    for number in 0..DECISIONS {
        match decide(fleet, &asked, next, number) {
            Ok(pick) => {
                next = pick.next;
                looked_at += pick.looked_at;
                fleet.place(&format!("p{number}").into(), &pick.node, &asked);
            }
            Err(_) => refused += 1,
        }
    }
    let each = start.elapsed() / u32::try_from(DECISIONS).ok()?;
    let picked = DECISIONS.saturating_sub(refused);
    let nodes = u64::try_from(looked_at).ok()?.checked_div(picked).unwrap_or_default();
    println!("{name:<28} {each:>12.2?} each, {nodes:>6} nodes looked at, {refused} refused");
    Some(())
}

fn main() {
    let nodes = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    println!("{nodes} nodes, {DECISIONS} decisions");
    type Full = fn(usize) -> bool;
    let fleets: [(&str, Full); 3] = [
        ("room everywhere", |_| false),
        ("room on every tenth", |n| n % 10 != 0),
        ("room nowhere", |_| true),
    ];
    for (name, full) in fleets {
        if fleet(nodes, full).and_then(|mut fleet| measure(name, &mut fleet)).is_none() {
            eprintln!("{name}: the fixture cannot be read");
        }
    }
}
