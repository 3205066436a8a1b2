//! Namespaces that a set asks for on each of its clusters.

use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::hub::{Hub, condition, get, list};

const SET: &str = "cluster.open-cluster-management.io/clusterset";

/// Namespaces of a cluster by what they say of being managed.
fn managed(s: &dyn Snapshot, cluster: &str, is: &str) -> Vec<String> {
    let says = |it: &&Value| {
        let labels = it["metadata"]["labels"].as_object().into_iter().flatten();
        labels.into_iter().any(|(name, label)| {
            name.starts_with("clusterset.open-cluster-management.io/") && *label == is
        })
    };
    let all = list(s, cluster, "namespaces", "");
    let names =
        all.iter().filter(says).map(|it| it["metadata"]["name"].as_str().unwrap_or_default());
    names.map(str::to_owned).collect()
}

/// What a cluster says of them.
fn told(s: &dyn Snapshot, cluster: &str) -> Vec<Value> {
    let cluster = get(s, "root", "managedclusters", "", cluster).unwrap_or_default();
    cluster["status"]["managedNamespaces"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn namespaces_of_a_set_are_on_its_clusters() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let asked = json!([{"name": "team-b"}, {"name": "team-a"}]);
    let attic = json!({"metadata": {"name": "attic"}, "spec": {"managedNamespaces": asked}});
    hub.create("root", "managedclustersets", "", attic).await;
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["metadata"]["labels"][SET] = json!("attic");
    })
    .await;
    let are = |names: &'static [&'static str]| {
        move |s: &dyn Snapshot| {
            managed(s, "pi-1", "true") == names && told(s, "pi-1").len() == names.len()
        }
    };
    hub.eventually("they are there", are(&["team-a", "team-b"])).await;
    let said = told(&*hub.snapshot(), "pi-1");
    assert_eq!((&said[0]["name"], &said[0]["clusterSet"]), (&json!("team-a"), &json!("attic")));
    let one = json!({"status": {"conditions": said[0]["conditions"]}});
    assert_eq!(condition(&one, "NamespaceAvailable"), "True");
    assert!(managed(&*hub.snapshot(), "pi-2", "true").is_empty());
    hub.delete_in("pi-1", "namespaces", "", "team-a").await;
    hub.eventually("what is deleted is told of while it goes, or is there again", |s| {
        let now = get(s, "pi-1", "namespaces", "", "team-a");
        now.is_some_and(|it| it["metadata"]["deletionTimestamp"].is_null())
            && managed(s, "pi-1", "true").len() == 2
    })
    .await;
    hub.change("root", "managedclustersets", "", "attic", |it| {
        it["spec"]["managedNamespaces"] = json!([{"name": "team-b"}]);
    })
    .await;
    hub.eventually("one is asked for no more", are(&["team-b"])).await;
    assert_eq!(managed(&*hub.snapshot(), "pi-1", "false"), ["team-a"], "and stays");
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["metadata"]["labels"][SET] = json!("default");
    })
    .await;
    hub.eventually("who leaves the set keeps them for itself", are(&[])).await;
    assert_eq!(managed(&*hub.snapshot(), "pi-1", "false"), ["team-a", "team-b"]);
    hub.stop().await;
}
