//! What a ReplicaSet does about the pods it sees: pure.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use freewheel_hub_api::pins::Pins;
use freewheel_hub_schema::error::ApiError;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::pods::PodFacts;

/// What is missing or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// As many as asked for.
    Nothing,
    /// So many more.
    Create(usize),
    /// So many less.
    Delete(usize),
}

/// Compares what is active with what is wanted.
#[must_use]
pub fn need(active: usize, wanted: usize) -> Need {
    match active.cmp(&wanted) {
        Ordering::Equal => Need::Nothing,
        Ordering::Less => Need::Create(wanted - active),
        Ordering::Greater => Need::Delete(active - wanted),
    }
}

/// The pods that go when there are so many too many; `crowds` are the active pods per node of the set
/// and of those with the same owner.
#[must_use]
pub fn victims(
    mut active: Vec<PodFacts>,
    crowds: &HashMap<String, usize>,
    excess: usize,
) -> Vec<PodFacts> {
    let crowd = |pod: &PodFacts| crowds.get(pod.node()).copied().unwrap_or_default();
    active.sort_by(|a, b| first_to_go((a, crowd(a)), (b, crowd(b))));
    active.truncate(excess);
    active
}

/// The order of deletion as kube-controller-manager has it: unassigned, pending, not ready, cheap,
/// crowded on one node, ready for a shorter time, restarted more often, newer.
fn first_to_go(a: (&PodFacts, usize), b: (&PodFacts, usize)) -> Ordering {
    let ((a, a_crowd), (b, b_crowd)) = (a, b);
    let coarse = |p: &PodFacts| (!p.node().is_empty(), phase_order(p), p.is_ready(), cost(p));
    coarse(a)
        .cmp(&coarse(b))
        .then_with(|| b_crowd.cmp(&a_crowd))
        .then_with(|| Reverse(a.ready_since()).cmp(&Reverse(b.ready_since())))
        .then_with(|| b.restarts().cmp(&a.restarts()))
        .then_with(|| b.created().cmp(&a.created()))
        .then_with(|| a.key().name.cmp(&b.key().name))
}

fn phase_order(pod: &PodFacts) -> u8 {
    match pod.phase() {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

/// `controller.kubernetes.io/pod-deletion-cost`; what is no number costs nothing.
fn cost(pod: &PodFacts) -> i32 {
    let annotations = pod.pod.metadata.annotations.as_ref();
    annotations
        .and_then(|a| a.get("controller.kubernetes.io/pod-deletion-cost"))
        .and_then(|c| c.parse().ok())
        .unwrap_or_default()
}

/// The pod that the set's template describes, of what its images stood for.
pub fn pod_from(set: &ReplicaSet, owner: &Value, pins: &Pins) -> Result<Pod, ApiError> {
    let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
    let template = serde_json::to_value(template).map_err(ApiError::internal)?;
    let meta = &template["metadata"];
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": format!("{name}-"), "labels": meta["labels"],
            "annotations": meta["annotations"], "finalizers": meta["finalizers"],
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    });
    pins.write(&mut pod);
    serde_json::from_value(pod).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::is_active;
    use crate::testing::pod;

    #[test]
    fn finished_and_dying_pods_do_not_count() {
        let pods = [
            pod("a").phase("Succeeded").facts(),
            pod("b").deleting().facts(),
            pod("c").on("n").running().facts(),
        ];
        let active = pods.iter().filter(|p| is_active(&p.stored)).count();
        assert_eq!(need(active, 1), Need::Nothing);
        assert_eq!(need(active, 3), Need::Create(2));
        assert_eq!(need(active, 0), Need::Delete(1));
    }

    #[track_caller]
    fn first(pods: &[PodFacts], expected: &str) {
        let mut crowds = HashMap::new();
        for pod in pods {
            *crowds.entry(pod.node().to_owned()).or_default() += 1;
        }
        let victims = victims(pods.to_vec(), &crowds, 1);
        assert_eq!(&*victims[0].key().name, expected);
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let ready = |name: &str, node: &str| pod(name).on(node).running().ready_at(100);
        first(&[ready("a", "n").facts(), pod("b").facts()], "b");
        first(&[ready("a", "n").facts(), pod("b").on("m").phase("Pending").facts()], "b");
        first(&[pod("a").on("n").running().facts(), ready("b", "m").facts()], "a");
        first(&[ready("a", "n").cost(5).facts(), ready("b", "m").cost(-1).facts()], "b");
        first(&[ready("a", "n").facts(), ready("b", "m").facts(), ready("c", "m").facts()], "b");
        first(&[ready("a", "n").facts(), ready("b", "m").ready_at(200).facts()], "b");
        first(&[ready("a", "n").restarts(3).facts(), ready("b", "m").facts()], "a");
        first(&[ready("a", "n").created(5).facts(), ready("b", "m").created(9).facts()], "b");
    }
}
