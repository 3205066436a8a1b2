//! A swarm of simulated spokes before a fleet's hub (`tests/swarm`): real links and agents, containers that run at once.

use std::time::Duration;

use freewheel_swarm::{Command, Order, Swarm};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::eventually::eventually;
use crate::fleet::{Fleet, PATIENCE};
use crate::kubectl::Kubectl;

/// Devices that may join with one token at once; more of them wait their turn.
const DEVICES_PER_TOKEN: usize = 100;

/// Spokes `swarm-0`, `swarm-1` and so on; they say goodbye when this is dropped.
pub struct FleetSwarm {
    swarm: Option<Swarm>,
    runtime: Runtime,
}

impl FleetSwarm {
    /// So many, in session.
    #[must_use]
    pub fn join(fleet: &Fleet, count: usize) -> Self {
        let (mut tokens, mut ca_hash) = (Vec::new(), String::new());
        for _ in 0..count.div_ceil(DEVICES_PER_TOKEN) {
            let [token, hash] = fleet.token(&["--accept", "--reusable"]);
            tokens.push(token.parse().expect("a token"));
            ca_hash = hash;
        }
        let ca_hash = ca_hash.parse().expect("a digest");
        let order = Order::new(fleet.link_address(), ca_hash, tokens, "swarm");
        let runtime = Runtime::new().expect("a runtime");
        let swarm = {
            let _within = runtime.enter();
            Swarm::new(order).expect("a swarm")
        };
        let mut all = Self { swarm: Some(swarm), runtime };
        all.tell(&format!("join {count}"));
        all.tell("until up within 60s");
        all
    }

    /// A line of its language (`tests/swarm/src/command.rs`); what comes of it.
    #[track_caller]
    pub fn tell(&mut self, line: &str) -> Value {
        let command: Command = line.parse().expect("a line that is understood");
        let swarm = self.swarm.as_mut().expect("a swarm until it is dropped");
        match self.runtime.block_on(swarm.run(&command)) {
            Ok(answer) => answer,
            Err(error) => panic!("{line}: {error}: {}", swarm.say()),
        }
    }

    /// A Service with a port on all nodes is made, and all spokes hold it.
    #[track_caller]
    pub fn hears_of_a_change(&mut self, kubectl: &Kubectl, name: &str) {
        kubectl.apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, \
             spec: {{type: NodePort, selector: {{app: nobody}}, ports: [{{port: 80}}]}}}}"
        ));
        let path = "jsonpath={.metadata.resourceVersion}";
        let revision = kubectl.run(&["get", "service", name, "-o", path]);
        self.tell(&format!("until held {revision} within 60s"));
    }
}

impl Drop for FleetSwarm {
    fn drop(&mut self) {
        if let Some(swarm) = self.swarm.take() {
            self.runtime.block_on(swarm.end());
        }
    }
}

/// `pods` of DaemonSets run on each of `spokes`, a change of the root reaches all of them, and after `kill -9` of the
/// hub all are back in sync with it, with the pods that they had.
pub fn outlives_its_hub(spokes: usize, pods: usize) {
    let mut fleet = Fleet::hub();
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    for number in 0..pods {
        kubectl.apply(&format!(
            "{{apiVersion: apps/v1, kind: DaemonSet, metadata: {{name: d{number}}}, spec: {{\
             selector: {{matchLabels: {{d: d{number}}}}}, template: {{\
             metadata: {{labels: {{d: d{number}}}}}, spec: {{containers: [{{name: main, image: 'kit:v1'}}]}}}}}}}}"
        ));
    }
    let mut swarm = FleetSwarm::join(&fleet, spokes);
    swarm.tell(&format!("until running {} within 10m", spokes * pods));
    all_ready(&kubectl, spokes, pods);
    let born = pods_of(&kubectl);
    swarm.hears_of_a_change(&kubectl, "first");

    swarm.tell("mark");
    fleet.kill_hub();
    fleet.start_hub();
    swarm.tell("until back within 2m");
    swarm.hears_of_a_change(&kubectl, "second");
    all_ready(&kubectl, spokes, pods);
    assert_eq!(pods_of(&kubectl), born, "pods were replaced or restarted");
    let said = swarm.tell("say");
    let touched = [&said["starts"], &said["ends"], &said["turned_away"]];
    assert_eq!(touched, [0, 0, 0], "{said}");
    assert_eq!(said["up"], spokes, "{said}");
}

/// All nodes are Ready, and so are the pods of all DaemonSets.
fn all_ready(kubectl: &Kubectl, spokes: usize, pods: usize) {
    let path = "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status} {end}";
    let count = |out: &str| out.split_whitespace().filter(|status| *status == "True").count();
    for (kind, all) in [("nodes", spokes), ("pods", spokes * pods)] {
        // Each is some writes of the hub's, and a disk may take ten of them a second.
        let patience = PATIENCE + Duration::from_millis(250) * u32::try_from(all).expect("fewer");
        eventually(&format!("{all} {kind} are Ready"), patience, || {
            let said = kubectl.try_run(&["get", kind, "-o", path]);
            let ready = count(&said.out);
            if ready == all { Ok(()) } else { Err(format!("{ready} are; {}", said.err)) }
        });
    }
}

/// Names, UIDs and restarts.
fn pods_of(kubectl: &Kubectl) -> String {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} \
                {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    kubectl.run(&["get", "pods", "-o", path])
}
