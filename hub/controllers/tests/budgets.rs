//! PodDisruptionBudgets, with every controller running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use crate::hub::{Hub, cluster, condition, deployment, get, is_rolled_out, kind, list, reason};
use freewheel_hub_objects::{DeleteOptions, ObjectRef, WriteOptions};
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

async fn budget(hub: &Hub, name: &str, spec: Value) {
    let body = json!({"metadata": {"name": name}, "spec": spec});
    hub.create("root", "poddisruptionbudgets", "default", body).await;
}

fn status(s: &dyn Snapshot, name: &str) -> Value {
    let found = get(s, "root", "poddisruptionbudgets", "default", name);
    found.map(|budget| budget["status"].clone()).unwrap_or_default()
}

fn says(s: &dyn Snapshot, name: &str, counts: [i64; 4]) -> bool {
    let status = status(s, name);
    let fields = ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"];
    fields.iter().zip(counts).all(|(field, count)| status[*field] == json!(count))
}

async fn evict(hub: &Hub, pod: &str) -> u16 {
    let (kind, name) = (kind("pods"), pod.to_owned());
    let place = ObjectRef { kind, cluster: cluster("root"), namespace: "default".into(), name };
    let how = WriteOptions::default();
    hub.objects
        .evict(&how, &place, &DeleteOptions::default())
        .await
        .map_or_else(|e| e.code, |()| 201)
}

fn names(s: &dyn Snapshot) -> Vec<String> {
    let pods = list(s, "root", "pods", "default");
    pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_budget_follows_its_pods() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let selector = json!({"matchLabels": {"app": "web"}});
    budget(&hub, "web", json!({"maxUnavailable": "25%", "selector": selector})).await;
    hub.eventually("nobody yet", |s| says(s, "web", [0, 0, 0, 0])).await;
    hub.create("root", "deployments", "default", deployment("web", 4, "a:1")).await;
    hub.eventually("one of four may go", |s| says(s, "web", [4, 3, 4, 1])).await;
    hub.eventually("it says so", |s| {
        let budget = get(s, "root", "poddisruptionbudgets", "default", "web").unwrap();
        reason(&budget, "DisruptionAllowed") == "SufficientPods"
            && budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
    })
    .await;
    let all = names(&*hub.snapshot());
    assert_eq!((evict(&hub, &all[0]).await, evict(&hub, &all[1]).await), (201, 429));
    hub.eventually("it is replaced", |s| {
        is_rolled_out(s, "web", "a:1", 4) && says(s, "web", [4, 3, 4, 1])
    })
    .await;
    hub.change("root", "deployments", "default", "web", |d| d["spec"]["replicas"] = json!(1)).await;
    hub.eventually("a quarter of one is one", |s| says(s, "web", [1, 0, 1, 1])).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_cannot_be_made_up_allows_nothing() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "j", "uid": "u",
        "controller": true});
    let body = json!({"metadata": {"name": "p", "labels": {"app": "j"}, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let template = json!({"spec": {"template": {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let spec = json!({"schedule": "@yearly", "suspend": true, "jobTemplate": template});
    let job = json!({"metadata": {"name": "j"}, "spec": spec});
    let job = hub.create("root", "cronjobs", "default", job).await;
    let mut body = body;
    body["metadata"]["ownerReferences"][0]["uid"] = job["metadata"]["uid"].clone();
    hub.create("root", "pods", "default", body).await;
    let selector = json!({"matchLabels": {"app": "j"}});
    budget(&hub, "jobs", json!({"minAvailable": "50%", "selector": selector})).await;
    hub.eventually("it says why", |s| {
        let budget = get(s, "root", "poddisruptionbudgets", "default", "jobs").unwrap();
        reason(&budget, "DisruptionAllowed") == "SyncFailed"
            && budget["status"]["disruptionsAllowed"] == 0
            && budget["status"]["conditions"][0]["message"]
                == "cronjobs.batch does not implement the scale subresource"
    })
    .await;
    // An empty selector guards all of the namespace; a number needs nobody's scale.
    budget(&hub, "all", json!({"minAvailable": 0, "selector": {}})).await;
    hub.eventually("one of one", |s| says(s, "all", [1, 0, 1, 1])).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_not_deleted_is_no_target_any_more() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let body = json!({"metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    hub.create("root", "pods", "default", body).await;
    hub.eventually("it runs", |s| {
        get(s, "root", "pods", "default", "p").is_some_and(|p| condition(&p, "Ready") == "True")
    })
    .await;
    hub.change_status("root", "pods", "default", "p", |pod| {
        let now = "2026-01-01T00:00:00Z";
        pod["status"]["conditions"].as_array_mut().unwrap().push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "lastTransitionTime": now,
        }));
    })
    .await;
    hub.eventually("it is taken back", |s| {
        let pod = get(s, "root", "pods", "default", "p").unwrap();
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        let target = conditions.iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
        target["status"] == "False" && target["observedGeneration"] == 1
    })
    .await;
    hub.stop().await;
}
