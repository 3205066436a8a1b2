//! Deployments from apply to undo, with every controller running.

use std::collections::{BTreeMap, BTreeSet};

use crate::hub::{Hub, deployment, get, is_rolled_out, list, serves};
use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Expect, Layer, Limits, Operation, Store, Txn};
use parking_lot::Mutex;
use serde_json::json;

const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";

#[tokio::test(start_paused = true)]
async fn a_rolling_update_never_falls_below_what_was_asked_and_can_be_undone() {
    let mut hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("root", "deployments", "default", deployment("web", 4, "a:1")).await;
    hub.eventually("first rollout", |s| is_rolled_out(s, "web", "a:1", 4)).await;
    let nodes: BTreeSet<String> = list(&*hub.snapshot(), "root", "pods", "default")
        .iter()
        .map(|p| p["spec"]["nodeName"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(nodes.len(), 2, "replicas are spread");

    hub.always("pods", |s| {
        let pods = list(s, "root", "pods", "default");
        assert!(4 <= pods.iter().filter(|p| serves(p)).count(), "fewer than four serve");
        let there = pods.iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null());
        assert!(there.count() <= 5, "more than the surge");
    });
    let image = |image: &'static str| {
        move |d: &mut serde_json::Value| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        }
    };
    hub.change("root", "deployments", "default", "web", image("a:2")).await;
    hub.eventually("second rollout", |s| is_rolled_out(s, "web", "a:2", 4)).await;
    let snapshot = hub.snapshot();
    let web = get(&*snapshot, "root", "deployments", "default", "web").unwrap();
    assert_eq!(web["metadata"]["annotations"][REVISION_ANNOTATION], "2");
    assert_eq!(list(&*snapshot, "root", "replicasets", "default").len(), 2);

    hub.change("root", "deployments", "default", "web", image("a:1")).await;
    hub.eventually("undo", |s| is_rolled_out(s, "web", "a:1", 4)).await;
    let sets = list(&*hub.snapshot(), "root", "replicasets", "default");
    assert_eq!(sets.len(), 2, "undo uses the old set again");
    let old = sets.iter().find(|s| s["spec"]["replicas"] == 4).unwrap();
    assert_eq!(old["metadata"]["annotations"][REVISION_ANNOTATION], "3");
    assert_eq!(old["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    hub.eventually("it is told about", |s| {
        let events = list(s, "root", "events", "default");
        ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled", "SuccessfulDelete"]
            .iter()
            .all(|reason| events.iter().any(|e| e["reason"] == **reason))
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn scaling_and_pausing() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.eventually("first rollout", |s| is_rolled_out(s, "web", "a:1", 1)).await;
    hub.change("root", "deployments", "default", "web", |d| d["spec"]["replicas"] = json!(6)).await;
    hub.eventually("grown", |s| is_rolled_out(s, "web", "a:1", 6)).await;
    hub.change("root", "deployments", "default", "web", |d| {
        d["spec"]["paused"] = json!(true);
        d["spec"]["replicas"] = json!(2);
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a:2");
    })
    .await;
    hub.eventually("a paused one shrinks without rolling", |s| {
        let pods = list(s, "root", "pods", "default");
        pods.len() == 2 && pods.iter().all(|p| p["spec"]["containers"][0]["image"] == "a:1")
    })
    .await;
    hub.change("root", "deployments", "default", "web", |d| d["spec"]["paused"] = json!(false))
        .await;
    hub.eventually("resumed", |s| is_rolled_out(s, "web", "a:2", 2)).await;
    hub.change("root", "deployments", "default", "web", |d| d["spec"]["replicas"] = json!(0)).await;
    hub.eventually("none", |s| list(s, "root", "pods", "default").is_empty()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_gets_nowhere_says_so_after_its_deadline_and_still_goes_on() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let mut body = deployment("web", 2, "a:1");
    body["spec"]["progressDeadlineSeconds"] = json!(60);
    hub.create("root", "deployments", "default", body).await;
    hub.eventually("rolled out", |s| is_rolled_out(s, "web", "a:1", 2)).await;
    let template = |image: &'static str, cpu: &'static str| {
        move |d: &mut serde_json::Value| {
            let container = &mut d["spec"]["template"]["spec"]["containers"][0];
            container["image"] = json!(image);
            container["resources"]["requests"]["cpu"] = json!(cpu);
        }
    };
    hub.change("root", "deployments", "default", "web", template("a:2", "100")).await;
    let condition = |s: &dyn freewheel_hub_store::Snapshot, kind: &str| {
        let web = get(s, "root", "deployments", "default", "web").unwrap();
        let all = web["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|c| c["type"] == kind).unwrap_or_default()
    };
    hub.eventually("it says so", |s| {
        condition(s, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    })
    .await;
    let snapshot = hub.snapshot();
    let said = condition(&*snapshot, "Progressing");
    let sets = list(&*snapshot, "root", "replicasets", "default");
    let new =
        sets.iter().find(|s| s["metadata"]["annotations"][REVISION_ANNOTATION] == "2").unwrap();
    let name = new["metadata"]["name"].as_str().unwrap();
    assert_eq!(said["status"], "False");
    assert_eq!(said["message"], format!("ReplicaSet {name:?} has timed out progressing."));
    assert_eq!(condition(&*snapshot, "Available")["status"], "True", "the old ones still serve");
    hub.change("root", "deployments", "default", "web", template("a:3", "100m")).await;
    hub.eventually("a better one goes through", |s| is_rolled_out(s, "web", "a:3", 2)).await;
    let said = condition(&*hub.snapshot(), "Progressing");
    assert!(said["message"].as_str().unwrap().ends_with("has successfully progressed."));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn recreate_never_runs_two_templates() {
    let mut hub = Hub::with_spokes(&["pi-1"]).await;
    let mut body = deployment("web", 3, "a:1");
    body["spec"]["strategy"] = json!({"type": "Recreate"});
    hub.create("root", "deployments", "default", body).await;
    hub.eventually("first rollout", |s| is_rolled_out(s, "web", "a:1", 3)).await;
    hub.always("pods", |s| {
        let pods = list(s, "root", "pods", "default");
        let images: BTreeSet<String> =
            pods.iter().map(|p| p["spec"]["containers"][0]["image"].to_string()).collect();
        assert!(images.len() <= 1, "two templates at once");
    });
    hub.change("root", "deployments", "default", "web", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a:2");
    })
    .await;
    hub.eventually("second rollout", |s| is_rolled_out(s, "web", "a:2", 3)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn old_sets_go_beyond_the_history_limit() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let mut body = deployment("web", 1, "a:0");
    body["spec"]["revisionHistoryLimit"] = json!(1);
    hub.create("root", "deployments", "default", body).await;
    for image in ["a:1", "a:2", "a:3"] {
        hub.change("root", "deployments", "default", "web", |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        })
        .await;
        hub.eventually("rolled out", |s| is_rolled_out(s, "web", image, 1)).await;
    }
    hub.eventually("two sets are left", |s| list(s, "root", "replicasets", "default").len() == 2)
        .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleting_a_deployment_takes_its_pods_unless_they_are_orphaned() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    for (name, how) in [
        ("back", Propagation::Background),
        ("fore", Propagation::Foreground),
        ("free", Propagation::Orphan),
    ] {
        hub.create("root", "deployments", "default", deployment(name, 2, "a:1")).await;
        hub.eventually("rolled out", |s| is_rolled_out(s, name, "a:1", 2)).await;
        hub.delete("deployments", "default", name, how).await;
        hub.eventually("it is gone", |s| get(s, "root", "deployments", "default", name).is_none())
            .await;
    }
    let is_free = |o: &serde_json::Value| o["metadata"]["labels"]["app"] == "free";
    hub.eventually("only what was orphaned is left", |s| {
        let (sets, pods) =
            (list(s, "root", "replicasets", "default"), list(s, "root", "pods", "default"));
        sets.len() == 1 && pods.len() == 2 && sets.iter().chain(&pods).all(is_free)
    })
    .await;
    let sets = list(&*hub.snapshot(), "root", "replicasets", "default");
    assert!(sets[0]["metadata"]["ownerReferences"].is_null());

    // A Deployment with the same selector adopts the set again.
    hub.create("root", "deployments", "default", deployment("free", 2, "a:1")).await;
    hub.eventually("adopted", |s| {
        let sets = list(s, "root", "replicasets", "default");
        sets.len() == 1 && sets[0]["metadata"]["ownerReferences"][0]["name"] == "free"
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_loses_its_label_is_replaced_and_left_alone() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 2, "a:1")).await;
    hub.eventually("rolled out", |s| is_rolled_out(s, "web", "a:1", 2)).await;
    let pods = list(&*hub.snapshot(), "root", "pods", "default");
    let name = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
    hub.change("root", "pods", "default", &name, |p| p["metadata"]["labels"]["app"] = json!("x"))
        .await;
    hub.eventually("three pods, one of them free", |s| {
        let pods = list(s, "root", "pods", "default");
        let free = pods.iter().filter(|p| p["metadata"]["ownerReferences"].is_null());
        pods.len() == 3 && free.count() == 1
    })
    .await;
    hub.stop().await;
}

/// Everybody who follows the store falls behind all the time here and has to read it anew.
#[tokio::test(start_paused = true)]
async fn controllers_that_fall_behind_still_get_there() {
    let limits = Limits { events: 8, bytes: 1 << 20 };
    let hub = Hub::over(MemoryStore::with_limits(1, limits), &["pi-1", "pi-2"]).await;
    hub.create("root", "deployments", "default", deployment("web", 40, "a:1")).await;
    hub.eventually("first rollout", |s| is_rolled_out(s, "web", "a:1", 40)).await;
    hub.change("root", "deployments", "default", "web", |d| d["spec"]["replicas"] = json!(3)).await;
    hub.eventually("shrunk", |s| is_rolled_out(s, "web", "a:1", 3)).await;
    hub.delete("deployments", "default", "web", Propagation::Background).await;
    hub.eventually("gone", |s| list(s, "root", "pods", "default").is_empty()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_replicas() {
    let spokes = ["pi-1", "pi-2", "pi-3", "pi-4", "pi-5", "pi-6"];
    let hub = Hub::with_spokes(&spokes).await;
    let mut body = deployment("web", 150, "a:1");
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({});
    hub.create("root", "deployments", "default", body).await;
    hub.eventually("first rollout", |s| {
        let web = get(s, "root", "deployments", "default", "web").unwrap();
        web["status"]["availableReplicas"] == 150
    })
    .await;
    let pods = list(&*hub.snapshot(), "root", "pods", "default");
    for spoke in spokes {
        assert_eq!(pods.iter().filter(|p| p["spec"]["nodeName"] == spoke).count(), 25, "{spoke}");
    }
    hub.stop().await;
}

/// A store that takes every third write of each of the resources that only controllers make.
struct Busy(MemoryStore, Mutex<BTreeMap<Resource, usize>>);

#[async_trait]
impl Layer for Busy {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let made = ["replicasets.apps", "endpoints", "endpointslices.discovery.k8s.io", "events"];
        let theirs = |key: &&Key| made.contains(&key.resource.as_str());
        let new_pod =
            |one: &Expect| matches!(one, Expect::Absent(key) if key.resource.as_str() == "pods");
        let mut crowded = txn.operations.iter().map(Operation::key).filter(theirs);
        let new = txn.expect.iter().find(|one| new_pod(one)).map(Expect::key);
        if let Some(key) = crowded.next().or(new) {
            let mut counts = self.1.lock();
            let count = counts.entry(key.resource.clone()).or_default();
            *count += 1;
            if !count.is_multiple_of(3) {
                return Err(CommitError::Busy);
            }
        }
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_busy_is_asked_again_and_nothing_is_lost() {
    let store = Busy(MemoryStore::with_incarnation(1), Mutex::default());
    let hub = Hub::over(store, &["pi-1", "pi-2"]).await;
    let service = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    hub.create("root", "services", "default", service).await;
    hub.create("root", "deployments", "default", deployment("web", 4, "a:1")).await;
    hub.eventually("first rollout", |s| is_rolled_out(s, "web", "a:1", 4)).await;
    hub.change("root", "deployments", "default", "web", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a:2");
    })
    .await;
    hub.eventually("second rollout", |s| is_rolled_out(s, "web", "a:2", 4)).await;
    hub.eventually("all serve", |s| {
        let slices = list(s, "root", "endpointslices", "default");
        let name = "kubernetes.io/service-name";
        let of_web = slices.iter().filter(|it| it["metadata"]["labels"][name] == "web");
        of_web.map(|it| it["endpoints"].as_array().map_or(0, Vec::len)).sum::<usize>() == 4
    })
    .await;
    hub.eventually("everything is told", |s| {
        let events = list(s, "root", "events", "default");
        let of = |reason: &str| events.iter().filter(|it| it["reason"] == reason).count();
        8 <= of("Scheduled") && 8 <= of("SuccessfulCreate") && 4 <= of("SuccessfulDelete")
    })
    .await;
    hub.stop().await;
}
