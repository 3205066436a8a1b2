//! What many pods cost, counted in objects that are looked at and in writes.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::hub::counting::{Counting, Reads};
use crate::hub::{self, Hub, deployment, get, is_rolled_out, kind, list};
use freewheel_hub_objects::{ObjectRef, Propagation, WriteOptions};
use freewheel_hub_store::Snapshot;
use parking_lot::Mutex;
use serde_json::{Value, json};

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})
}

/// A Deployment whose pods ask for nothing, all of which may come at once.
fn light(name: &str, replicas: u32) -> Value {
    let mut body = deployment(name, replicas, "a:1");
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({});
    body
}

fn available(s: &dyn Snapshot, name: &str) -> u64 {
    let deployment = get(s, "root", "deployments", "default", name).unwrap();
    deployment["status"]["availableReplicas"].as_u64().unwrap_or_default()
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_pod_costs_its_own_set() {
    let reads = Reads::default();
    let hub = Hub::over(Counting::new(&reads), &["pi-1", "pi-2", "pi-3", "pi-4"]).await;
    for n in 0..40 {
        let name = format!("app-{n:02}");
        hub.create("root", "services", "default", service(&name)).await;
        hub.create("root", "deployments", "default", light(&name, 10)).await;
    }
    for n in 0..40 {
        hub.eventually("all run", |s| available(s, &format!("app-{n:02}")) == 10).await;
    }
    settle().await;
    let seen = || reads.walked() + hub.indexes.entries_touched();
    let pod = list(&*hub.snapshot(), "root", "pods", "default").pop().unwrap();
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();

    let before = seen();
    let namespace = "default".into();
    let place = ObjectRef {
        kind: kind("pods"),
        cluster: hub::cluster("root"),
        namespace,
        name: name.clone(),
    };
    let fails = |mut pod: Value| {
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
        Ok(pod)
    };
    hub.objects.modify(&WriteOptions::default(), &place, Some("status"), fails).await.unwrap();
    settle().await;
    let unready = seen() - before;

    let before = seen();
    hub.delete("pods", "default", &name, Propagation::Background).await;
    settle().await;
    let replaced = seen() - before;
    assert_eq!(list(&*hub.snapshot(), "root", "pods", "default").len(), 400);
    // A set of ten is counted by its ReplicaSet and its Service a few times; 400 pods, 40 sets and 40
    // Services are never walked over.
    assert!(unready <= 100, "{unready} objects were looked at for a pod that is not ready");
    assert!(replaced <= 400, "{replaced} objects were looked at to replace a pod");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_level_costs_the_schemas_that_it_concerns() {
    let reads = Reads::default();
    let hub = Hub::over(Counting::new(&reads), &["pi-1"]).await;
    let create = async |name: &str| {
        let level = json!({"metadata": {"name": name}, "spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Reject"}}}});
        hub.create("pi-1", "prioritylevelconfigurations", "", level).await;
    };
    for n in 0..150 {
        create(&format!("l-{n:03}")).await;
    }
    for n in 0..200 {
        let schema = json!({"metadata": {"name": format!("s-{n:03}")}, "spec": {"matchingPrecedence": 700,
            "priorityLevelConfiguration": {"name": "l-050"}}});
        hub.create("pi-1", "flowschemas", "", schema).await;
    }
    let told = |s: &dyn Snapshot| {
        let all = list(s, "pi-1", "flowschemas", "");
        all.iter().filter(|it| it["status"]["conditions"][0]["reason"] == "Found").count()
    };
    hub.eventually("all are told of", |s| told(s) == 200).await;
    settle().await;
    let before = reads.walked() + hub.indexes.entries_touched();
    create("k-000").await;
    settle().await;
    let seen = reads.walked() + hub.indexes.entries_touched() - before;
    // As many levels as may act, for who tells requests apart by them as well.
    assert!(seen <= 1_000, "{seen} objects were looked at for a level");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_replicas_cost_few_writes_that_are_not_about_one_of_them() {
    let spokes: Vec<String> = (0..10).map(|n| format!("pi-{n}")).collect();
    let spokes: Vec<&str> = spokes.iter().map(String::as_str).collect();
    let hub = Hub::with_spokes(&spokes).await;
    settle().await;
    let store = hub.objects.store().clone();
    let writes: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let mut watch = store.watch(Vec::new(), store.snapshot().revision()).unwrap();
    let counts = writes.clone();
    let counting = tokio::spawn(async move {
        while let Ok(events) = watch.next().await {
            for key in events.iter().filter_map(|event| event.key()) {
                *counts.lock().entry(key.resource.as_str().to_owned()).or_default() += 1;
            }
        }
    });
    hub.create("root", "services", "default", service("web")).await;
    hub.create("root", "deployments", "default", light("web", 1000)).await;
    hub.eventually("rolled out", |s| available(s, "web") == 1000).await;
    settle().await;
    counting.abort();
    let snapshot = hub.snapshot();
    assert!(is_rolled_out(&*snapshot, "web", "a:1", 1000));

    let slices = list(&*snapshot, "root", "endpointslices", "default");
    let sizes: Vec<usize> = slices
        .iter()
        .filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "web")
        .map(|s| s["endpoints"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [100; 10]);
    let endpoints = get(&*snapshot, "root", "endpoints", "default", "web").unwrap();
    assert_eq!(endpoints["subsets"][0]["addresses"].as_array().unwrap().len(), 1000);
    let annotations = &endpoints["metadata"]["annotations"];
    assert_eq!(annotations["endpoints.kubernetes.io/over-capacity"], Value::Null);

    let writes = writes.lock().clone();
    // Created, bound, running: three of each pod. They became ready over 50 s here, one by one.
    assert_eq!(writes["pods"], 3_000);
    assert!(writes["replicasets.apps"] <= 400, "{writes:?}");
    assert!(writes["deployments.apps"] <= 400, "{writes:?}");
    assert!(writes["endpoints"] <= 300, "{writes:?}");
    assert!(writes["endpointslices.discovery.k8s.io"] <= 600, "{writes:?}");
    let about_the_set = list(&*snapshot, "root", "events", "default");
    let about_the_set =
        about_the_set.iter().filter(|e| e["involvedObject"]["kind"] == "ReplicaSet");
    assert!(about_the_set.count() <= 10, "similar events are combined");
    // One "Scheduled" for each pod; about sets and Nodes a handful.
    assert!(writes["events"] <= 1_100, "{writes:?}");
    hub.stop().await;
}
