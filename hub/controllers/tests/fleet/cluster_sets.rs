//! Sets of clusters, what is bound to them, and what clusters have from the start.

use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::object::{Key, Object, Resource};
use freewheel_hub_store::{Operation, Txn};
use serde_json::{Value, json};

use crate::hub::{Hub, cluster, condition, get, reason};

const SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";

fn set(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn message(s: &dyn freewheel_hub_store::Snapshot, set: &str) -> String {
    let set = get(s, "root", "managedclustersets", "", set).unwrap_or_default();
    set["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_set_says_whether_anybody_is_in_it() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("root", "managedclustersets", "", set("north")).await;
    let by_label = json!({"metadata": {"name": "attic"}, "spec": {"clusterSelector": {
        "selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"site": "attic"}}}}});
    hub.create("root", "managedclustersets", "", by_label).await;
    hub.eventually("nobody is in the new ones, and everybody in the others", |s| {
        let of = |name: &str| get(s, "root", "managedclustersets", "", name).unwrap_or_default();
        condition(&of("north"), "ClusterSetEmpty") == "True"
            && reason(&of("north"), "ClusterSetEmpty") == "NoClusterMatched"
            && condition(&of("attic"), "ClusterSetEmpty") == "True"
            && message(s, "default") == "2 ManagedClusters selected"
            && message(s, "global") == "2 ManagedClusters selected"
    })
    .await;
    hub.change("root", "managedclusters", "", "pi-1", |cluster| {
        cluster["metadata"]["labels"][SET_LABEL] = json!("north");
        cluster["metadata"]["labels"]["site"] = json!("attic");
    })
    .await;
    hub.eventually("the one that moved is told of in both", |s| {
        let north = get(s, "root", "managedclustersets", "", "north").unwrap();
        condition(&north, "ClusterSetEmpty") == "False"
            && reason(&north, "ClusterSetEmpty") == "ClustersSelected"
            && message(s, "north") == "1 ManagedClusters selected"
            && message(s, "attic") == "1 ManagedClusters selected"
            && message(s, "default") == "1 ManagedClusters selected"
            && message(s, "global") == "2 ManagedClusters selected"
    })
    .await;
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("it is empty again", |s| {
        get(s, "root", "managedclusters", "", "pi-1").is_none()
            && message(s, "north") == "No ManagedCluster selected"
            && message(s, "global") == "1 ManagedClusters selected"
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn default_and_global_are_kept() {
    let hub = Hub::with_spokes(&[]).await;
    let kind_of = |s: &dyn freewheel_hub_store::Snapshot, name: &str| -> Value {
        let set = get(s, "root", "managedclustersets", "", name).unwrap_or_default();
        set["spec"]["clusterSelector"]["selectorType"].clone()
    };
    hub.eventually("both are there", |s| {
        kind_of(s, "default") == "ExclusiveClusterSetLabel"
            && kind_of(s, "global") == "LabelSelector"
    })
    .await;
    hub.delete("managedclustersets", "", "default", Propagation::Background).await;
    let narrow =
        json!({"selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"a": "b"}}});
    hub.change("root", "managedclustersets", "", "global", |set| {
        set["spec"]["clusterSelector"] = narrow.clone();
    })
    .await;
    hub.eventually("they are put back", |s| {
        let global = get(s, "root", "managedclustersets", "", "global").unwrap();
        kind_of(s, "default") == "ExclusiveClusterSetLabel"
            && global["spec"]["clusterSelector"]["labelSelector"]["matchLabels"].is_null()
    })
    .await;
    hub.change("root", "managedclustersets", "", "global", |set| {
        set["metadata"]["annotations"]["cluster.open-cluster-management.io/autoupdate"] =
            json!("false");
        set["spec"]["clusterSelector"] = narrow.clone();
    })
    .await;
    hub.create("root", "managedclustersets", "", set("north")).await;
    hub.eventually("what came later is done", |s| {
        message(s, "north") == "No ManagedCluster selected"
    })
    .await;
    let global = get(&*hub.snapshot(), "root", "managedclustersets", "", "global").unwrap();
    assert_eq!(global["spec"]["clusterSelector"], narrow, "somebody wants it so");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_binding_says_whether_its_set_is_there() {
    let hub = Hub::with_spokes(&[]).await;
    let binding = json!({"metadata": {"name": "north"}, "spec": {"clusterSet": "north"}});
    hub.create("root", "managedclustersetbindings", "default", binding).await;
    let is = |reason_of: &'static str| {
        move |s: &dyn freewheel_hub_store::Snapshot| {
            let binding = get(s, "root", "managedclustersetbindings", "default", "north").unwrap();
            reason(&binding, "Bound") == reason_of
        }
    };
    hub.eventually("there is no set", is("ClusterSetNotFound")).await;
    hub.create("root", "managedclustersets", "", set("north")).await;
    hub.eventually("there is", is("ClusterSetBound")).await;
    hub.delete("managedclustersets", "", "north", Propagation::Background).await;
    hub.eventually("there is none again", is("ClusterSetNotFound")).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_has_a_namespace_that_goes_with_it() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "pi-2"}})).await;
    hub.join("pi-2").await;
    hub.eventually("it has one", |s| {
        get(s, "root", "namespaces", "", "pi-1").is_some_and(|own| {
            own["metadata"]["labels"]["open-cluster-management.io/cluster-name"] == "pi-1"
        })
    })
    .await;
    for name in ["pi-1", "pi-2"] {
        hub.create("root", "configmaps", name, json!({"metadata": {"name": "a"}})).await;
        hub.delete("managedclusters", "", name, Propagation::Background).await;
    }
    hub.eventually("both clusters are gone, and the namespace that was made for one", |s| {
        ["pi-1", "pi-2"].iter().all(|name| get(s, "root", "managedclusters", "", name).is_none())
            && get(s, "root", "namespaces", "", "pi-1").is_none()
    })
    .await;
    let snapshot = hub.snapshot();
    assert!(get(&*snapshot, "root", "configmaps", "pi-1", "a").is_none());
    assert!(get(&*snapshot, "root", "configmaps", "pi-2", "a").is_some(), "it was there before");
    hub.stop().await;
}

fn claims(s: &dyn freewheel_hub_store::Snapshot) -> Vec<(String, String)> {
    let cluster = get(s, "root", "managedclusters", "", "pi-1").unwrap_or_default();
    let all = cluster["status"]["clusterClaims"].as_array().cloned().unwrap_or_default();
    let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    all.iter().map(|it| (text(it, "name"), text(it, "value"))).collect()
}

fn claim(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"value": value}})
}

#[tokio::test(start_paused = true)]
async fn a_cluster_tells_its_claims() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let has = |name: &'static str, value: &'static str| {
        move |s: &dyn freewheel_hub_store::Snapshot| {
            claims(s).contains(&(name.to_owned(), value.to_owned()))
        }
    };
    hub.eventually("its device is known", has("kubeversion.open-cluster-management.io", "v1.36.0"))
        .await;
    assert!(has("product.open-cluster-management.io", "Freewheel")(&*hub.snapshot()));
    let names = [("site", "north"), ("product.open-cluster-management.io", "Own")];
    for (name, value) in names {
        hub.create("pi-1", "clusterclaims", "", claim(name, value)).await;
    }
    let mut hidden = claim("hidden", "x");
    hidden["metadata"]["labels"] = json!({"open-cluster-management.io/spoke-only": ""});
    hub.create("pi-1", "clusterclaims", "", hidden).await;
    hub.eventually("it tells of itself", has("site", "north")).await;
    hub.eventually("its own word counts", has("product.open-cluster-management.io", "Own")).await;
    assert!(!claims(&*hub.snapshot()).iter().any(|(name, _)| name == "hidden"));
    for n in 0..25 {
        hub.create("pi-1", "clusterclaims", "", claim(&format!("z{n:02}"), "1")).await;
    }
    hub.eventually("reserved ones and twenty others are told", |s| {
        let names: Vec<String> = claims(s).into_iter().map(|(name, _)| name).collect();
        names.len() == 24 && names[0] == "id.k8s.io" && names[4] == "site" && names[5] == "z00"
    })
    .await;
    hub.eventually("that there are more is told", |s| {
        let events = crate::hub::list(s, "root", "events", "default");
        events.iter().any(|it| it["reason"] == "CustomClusterClaimsTruncated")
    })
    .await;
    hub.delete_in("pi-1", "clusterclaims", "", "site").await;
    hub.eventually("what goes is told no more", |s| {
        !claims(s).iter().any(|(name, _)| name == "site")
    })
    .await;
    hub.stop().await;
}

/// A property of about.k8s.io, of any length: its kind is the cluster's own.
#[expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]
async fn put_property(hub: &Hub, name: &str, value: &str) {
    let resource = Resource::new("about.k8s.io", "clusterproperties");
    let key = Key::new(&resource, &cluster("pi-1"), "", name);
    let value = json!({"metadata": {"name": name, "uid": name}, "spec": {"value": value}});
    let object = Object::from_value(value, std::collections::BTreeMap::new()).unwrap();
    let operations = vec![Operation::Put(key, object)];
    hub.objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_too_long_is_told_of_and_takes_no_place() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    for n in 0..20 {
        put_property(&hub, &format!("a{n:02}"), &"x".repeat(100_000)).await;
    }
    put_property(&hub, "fits", &"x".repeat(1024)).await;
    hub.create("pi-1", "clusterclaims", "", claim("site", "north")).await;
    hub.eventually("all that fit are told", |s| {
        let names: Vec<String> = claims(s).into_iter().map(|(name, _)| name).collect();
        ["fits", "site"].iter().all(|name| names.iter().any(|it| it == name))
            && !names.iter().any(|it| it == "a00")
    })
    .await;
    let told = |s: &dyn freewheel_hub_store::Snapshot| {
        let events = crate::hub::list(s, "root", "events", "default");
        let found = events.into_iter().find(|it| it["reason"] == "ClusterClaimsTooLong");
        found.map(|it| it["message"].as_str().unwrap().to_owned())
    };
    hub.eventually("and that others are not", |s| {
        told(s).is_some_and(|it| it.starts_with("20 cluster claims are not exposed"))
    })
    .await;
    let root = get(&*hub.snapshot(), "root", "managedclusters", "", "pi-1").unwrap();
    assert!(root.to_string().len() < 64 * 1024);
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["spec"]["hubAcceptsClient"] = json!(false);
    })
    .await;
    hub.stop().await;
}
