//! `stats/summary`: the same figures in the form of a kubelet's, as older readers ask for them.
//!
//! There are processor time and memory of the machine, of pods and of containers, and the disk with the agent's data.
//! What a kubelet has beside that and nobody counts here is left out, as the form allows: rates, page faults, memory by
//! its kind, network per pod, images, logs and volumes.
//!
//! Guarantees:
//! - a summary is of the pods of one cluster, as its form has no place for a second one
//!   (`a_summary_is_of_the_pods_of_one_cluster`).

use freewheel_hub_schema::time;
use freewheel_link::figures::{ContainerUseV1, DeviceV1, PodUseV1};
use serde_json::{Map, Value, json};

use super::stored_pod::StoredPod;
use super::text::sum;

/// All of it, of the node of this name, as it is now.
pub(super) fn summary(
    node: &str,
    device: &DeviceV1,
    pods: &[(PodUseV1, StoredPod)],
    now: i64,
) -> Value {
    let now = time::from_unix(now);
    let mut own = Map::new();
    own.insert("nodeName".into(), json!(node));
    own.insert("startTime".into(), json!(seconds(device.started)));
    own.insert("cpu".into(), cpu(device.busy_ms.saturating_mul(1_000_000), &now));
    own.insert("memory".into(), memory(device.working_set, &now));
    own.insert("fs".into(), disk(device, &now));
    let pods: Vec<Value> = pods.iter().map(|(pod, stored)| of_pod(pod, stored, &now)).collect();
    json!({"node": own, "pods": pods})
}

fn of_pod(pod: &PodUseV1, stored: &StoredPod, now: &str) -> Value {
    let used = |of: fn(&ContainerUseV1) -> u64| sum(pod.containers.iter().map(of));
    // A pod that the API has forgotten is as old as its first container.
    let first = pod.containers.iter().map(|one| one.started).min().unwrap_or_default();
    let started = if stored.started.is_empty() { seconds(first) } else { stored.started.clone() };
    let container = |one: &ContainerUseV1| {
        json!({
            "name": one.name, "startTime": seconds(one.started),
            "cpu": cpu(one.cpu_ns, now), "memory": memory(one.memory, now),
        })
    };
    json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": stored.uid},
        "startTime": started,
        "containers": pod.containers.iter().map(container).collect::<Vec<_>>(),
        "cpu": cpu(used(|one| one.cpu_ns), now),
        "memory": memory(used(|one| one.memory), now),
    })
}

fn cpu(nanos: u64, now: &str) -> Value {
    json!({"time": now, "usageCoreNanoSeconds": nanos})
}

/// Nothing here keeps files in memory that could be dropped: what is used is what is needed.
fn memory(bytes: u64, now: &str) -> Value {
    json!({"time": now, "usageBytes": bytes, "workingSetBytes": bytes})
}

fn disk(device: &DeviceV1, now: &str) -> Value {
    json!({
        "time": now, "availableBytes": device.disk_free, "capacityBytes": device.disk,
        "usedBytes": device.disk.saturating_sub(device.disk_free),
    })
}

fn seconds(millis: u64) -> String {
    time::from_unix(i64::try_from(millis / 1000).unwrap_or_default())
}
