//! PlacementDecisions of SIG Multicluster: whom placements choose, as tools find it that know nothing of them.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{DeleteOptions, ObjectRef, Propagation, WriteOptions};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::hub::{Hub, cluster, get};

const GROUP: &str = "multicluster.x-k8s.io";

/// Where the one of this name is: both kinds have one plural.
fn place(name: &str) -> ObjectRef {
    let kind: Arc<Kind> = kinds::find(GROUP, "v1alpha1", "placementdecisions").unwrap().clone();
    ObjectRef { kind, cluster: cluster("root"), namespace: "default".into(), name: name.to_owned() }
}

fn shown(s: &dyn Snapshot, name: &str) -> Option<Value> {
    s.get(&place(name).key()).map(|it| it.object.value().unwrap())
}

/// The profiles that it names.
fn chosen(s: &dyn Snapshot, name: &str) -> Vec<String> {
    let shown = shown(s, name).unwrap_or_default();
    let all = shown["decisions"].as_array().cloned().unwrap_or_default();
    all.iter().map(|it| it["clusterProfileRef"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn hub() -> Hub {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let bound = json!({"metadata": {"name": "global"}, "spec": {"clusterSet": "global"}});
    hub.create("root", "managedclustersetbindings", "default", bound).await;
    hub
}

async fn place_all(hub: &Hub) {
    let all = json!({"metadata": {"name": "all"}, "spec": {}});
    hub.create("root", "placements", "default", all).await;
}

#[tokio::test(start_paused = true)]
async fn whom_placements_choose_is_shown_beside_their_clusters() {
    let hub = hub().await;
    place_all(&hub).await;
    let name = "all-decision-1";
    hub.eventually("both are chosen", |s| chosen(s, name) == ["pi-1", "pi-2"]).await;
    let now = hub.snapshot();
    let first = shown(&*now, name).unwrap();
    let labels = &first["metadata"]["labels"];
    assert_eq!(labels["multicluster.x-k8s.io/decision-key"], "all");
    assert_eq!(labels["multicluster.x-k8s.io/decision-index"], "0");
    assert_eq!(first["schedulerName"], "open-cluster-management");
    assert_eq!((&first["spec"], &first["status"]), (&Value::Null, &Value::Null));
    let profile = &first["decisions"][0]["clusterProfileRef"];
    assert_eq!(*profile, json!({"name": "pi-1", "namespace": "default"}));
    hub.eventually("and have profiles there", |s| {
        get(s, "root", "clusterprofiles", "default", "pi-1").is_some()
    })
    .await;
    hub.change("root", "placements", "default", "all", |it| {
        it["spec"]["numberOfClusters"] = json!(1);
    })
    .await;
    hub.eventually("one is", |s| chosen(s, name).len() == 1).await;
    let options = DeleteOptions::default();
    hub.objects.delete(&WriteOptions::default(), &place(name), &options).await.unwrap();
    hub.eventually("what is taken away comes back", |s| chosen(s, name).len() == 1).await;
    let change = |mut value: Value| {
        value["decisions"] = json!([]);
        Ok(value)
    };
    hub.objects.modify(&WriteOptions::default(), &place(name), None, change).await.unwrap();
    hub.eventually("what is changed is set right", |s| chosen(s, name).len() == 1).await;
    hub.delete("placements", "default", "all", Propagation::Background).await;
    hub.eventually("it goes with its placement", |s| shown(s, name).is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_of_somebody_else_is_left_alone() {
    let hub = hub().await;
    let meta = json!({"name": "all-decision-1", "namespace": "default"});
    let own = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "PlacementDecision",
        "metadata": meta, "decisions": [], "schedulerName": "other"});
    let place = place("all-decision-1");
    let made = hub.objects.create(&WriteOptions::default(), &place, own).await.unwrap();
    place_all(&hub).await;
    hub.eventually("they are chosen", |s| {
        get(s, "root", "placementdecisions", "default", "all-decision-1")
            .is_some_and(|it| it["status"]["decisions"].as_array().is_some_and(|it| it.len() == 2))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(
        shown(&*hub.snapshot(), "all-decision-1"),
        Some(made.stored.object.value().unwrap())
    );
    hub.delete("placements", "default", "all", Propagation::Background).await;
    hub.eventually("theirs stays", |s| {
        get(s, "root", "placementdecisions", "default", "all-decision-1").is_none()
    })
    .await;
    assert!(shown(&*hub.snapshot(), "all-decision-1").is_some());
    hub.stop().await;
}
