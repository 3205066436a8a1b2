//! status of a DaemonSet: pure.

use serde_json::{Map, Value, json};

use super::decide::Fleet;

/// Counts the nodes; `old` gives what is not counted.
pub(super) fn status(fleet: &Fleet, generation: i64, collisions: i32, old: &Value) -> Value {
    let [mut desired, mut current, mut misplaced, mut ready, mut updated, mut available] = [0; 6];
    for node in fleet.nodes.values() {
        let first = node.pods.iter().min_by(|a, b| a.order().cmp(&b.order()));
        if !node.fit.should_run {
            misplaced += i32::from(first.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = first else { continue };
        current += 1;
        ready += i32::from(pod.ready);
        available += i32::from(pod.ready && pod.is_available());
        updated += i32::from(pod.updated);
    }
    let mut status = Map::new();
    for (name, count) in [
        ("currentNumberScheduled", current),
        ("desiredNumberScheduled", desired),
        ("numberMisscheduled", misplaced),
        ("numberReady", ready),
    ] {
        status.insert(name.to_owned(), json!(count));
    }
    for (name, count) in [
        ("updatedNumberScheduled", updated),
        ("numberAvailable", available),
        ("numberUnavailable", desired - available),
        ("collisionCount", collisions),
    ] {
        if count != 0 {
            status.insert(name.to_owned(), json!(count));
        }
    }
    if generation != 0 {
        status.insert("observedGeneration".to_owned(), json!(generation));
    }
    if let Some(conditions) = old.get("conditions") {
        status.insert("conditions".to_owned(), conditions.clone());
    }
    Value::Object(status)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_placement::daemon::DaemonFit;

    use super::super::decide::{DaemonNode, DaemonPod, Phase};
    use super::*;
    use crate::pods::Availability;
    use crate::testing::pod;

    fn daemon(name: &str, updated: bool, ready: bool, availability: Availability) -> DaemonPod {
        let (stored, phase) = (pod(name).facts().stored, Phase::Other);
        DaemonPod { stored, bound: true, phase, ready, availability, updated }
    }

    #[test]
    fn nodes_are_counted_by_their_first_pods() {
        let run = DaemonFit { should_run: true, should_continue: true };
        let stay = DaemonFit { should_run: false, should_continue: true };
        let yes = daemon("a", true, true, Availability::Yes);
        let soon = daemon("b", true, true, Availability::In(std::time::Duration::from_secs(1)));
        let old = daemon("c", false, false, Availability::No);
        let mut fleet = Fleet::default();
        for (name, fit, pods) in [
            ("a", run, vec![yes.clone()]),
            ("b", run, vec![soon]),
            ("c", run, vec![old]),
            ("d", run, vec![]),
            ("e", stay, vec![yes]),
            ("f", stay, vec![]),
        ] {
            fleet.nodes.insert(Arc::from(name), DaemonNode { fit, pods });
        }
        assert_eq!(
            status(&fleet, 3, 0, &json!({"collisionCount": 1, "conditions": [{"type": "X"}]})),
            json!({"currentNumberScheduled": 3, "desiredNumberScheduled": 4, "numberMisscheduled": 1,
                "numberReady": 2, "updatedNumberScheduled": 2, "numberAvailable": 1,
                "numberUnavailable": 3, "observedGeneration": 3, "conditions": [{"type": "X"}]})
        );
    }
}
