//! ClusterProfiles: the fleet, where namespaces are bound to it.

use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::hub::{Hub, condition, get, list};

const SET: &str = "cluster.open-cluster-management.io/clusterset";

fn names(s: &dyn Snapshot, namespace: &str) -> Vec<String> {
    let all = list(s, "root", "clusterprofiles", namespace);
    all.iter().map(|it| it["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn profile(s: &dyn Snapshot, cluster: &str) -> Value {
    get(s, "root", "clusterprofiles", "default", cluster).unwrap_or_default()
}

async fn bind(hub: &Hub, set: &str) {
    let bound = json!({"metadata": {"name": set}, "spec": {"clusterSet": set}});
    hub.create("root", "managedclustersetbindings", "default", bound).await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_is_shown_where_it_is_bound() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let attic = json!({"metadata": {"name": "attic"}, "spec": {}});
    hub.create("root", "managedclustersets", "", attic).await;
    hub.change("root", "managedclusters", "", "pi-2", |it| {
        it["metadata"]["labels"][SET] = json!("attic");
    })
    .await;
    bind(&hub, "attic").await;
    hub.eventually("who is in the set is shown", |s| names(s, "default") == ["pi-2"]).await;
    hub.eventually("as it is", |s| {
        let shown = profile(s, "pi-2");
        condition(&shown, "ControlPlaneHealthy") == "True"
            && condition(&shown, "Joined") == "True"
            && shown["status"]["properties"].as_array().is_some_and(|all| {
                all.iter().any(|it| it["name"] == "kubeversion.open-cluster-management.io")
            })
    })
    .await;
    let shown = profile(&*hub.snapshot(), "pi-2");
    assert_eq!(shown["metadata"]["labels"]["x-k8s.io/cluster-manager"], "open-cluster-management");
    assert_eq!(shown["metadata"]["labels"]["multicluster.x-k8s.io/clusterset"], "attic");
    bind(&hub, "global").await;
    hub.eventually("all are", |s| names(s, "default") == ["pi-1", "pi-2"]).await;
    hub.connect("pi-1", false).await;
    hub.eventually("who is silent is shown so", |s| {
        condition(&profile(s, "pi-1"), "ControlPlaneHealthy") == "Unknown"
    })
    .await;
    hub.delete("clusterprofiles", "default", "pi-1", Propagation::Background).await;
    hub.eventually("what is taken away comes back", |s| {
        condition(&profile(s, "pi-1"), "ControlPlaneHealthy") == "Unknown"
    })
    .await;
    hub.delete("managedclustersetbindings", "default", "global", Propagation::Background).await;
    hub.eventually("who is bound no more is gone", |s| names(s, "default") == ["pi-2"]).await;
    hub.change("root", "managedclusters", "", "pi-2", |it| {
        it["metadata"]["labels"][SET] = json!("default");
    })
    .await;
    hub.eventually("who has left the set, too", |s| names(s, "default").is_empty()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_profile_of_somebody_else_is_left_alone() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let other = json!({"metadata": {"name": "pi-1", "labels": {"x-k8s.io/cluster-manager": "other"}},
        "spec": {"clusterManager": {"name": "other"}}});
    let other = hub.create("root", "clusterprofiles", "default", other).await;
    bind(&hub, "global").await;
    hub.eventually("the rest is shown", |s| !profile(s, "pi-2").is_null()).await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(profile(&*hub.snapshot(), "pi-1"), other);
    hub.stop().await;
}
