//! ManifestWorkReplicaSets over placements.

use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::hub::{Hub, condition, get, kind, reason};

/// The clusters whose works of a set have this value, and which value each has.
pub(super) fn given(s: &dyn Snapshot, set: &str) -> Vec<(String, String)> {
    let resource = kind("manifestworks").storage().clone();
    let scope = freewheel_hub_store::Scope { resource, cluster: None, namespace: None };
    let mut all: Vec<(String, String)> = s
        .range(&scope, None)
        .filter_map(|work| {
            let object = work.object.value().ok()?;
            let own = &object["metadata"]["labels"]["work.open-cluster-management.io/manifestworkreplicaset"];
            let value = object["spec"]["workload"]["manifests"][0]["data"]["key"].as_str()?.to_owned();
            (*own == format!("default.{set}")).then(|| (work.key.namespace.to_string(), value))
        })
        .collect();
    all.sort();
    all
}

pub(super) fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

pub(super) fn template(value: &str) -> Value {
    json!({"workload": {"manifests": [{"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "site", "namespace": "default"}, "data": {"key": value}}]},
        "manifestConfigs": [{"resourceIdentifier": {"resource": "configmaps", "name": "site", "namespace": "default"},
            // What others add stays.
            "updateStrategy": {"type": "ServerSideApply"},
            "conditionRules": [{"type": "CEL", "condition": "Progressing",
                "celExpressions": ["!(has(object.data.well) && object.data.well == object.data.key)"]}]}]})
}

/// A hub whose clusters' namespaces are there, with a placement of all of them.
pub(super) async fn hub(spokes: &[&str]) -> Hub {
    let hub = Hub::with_spokes(spokes).await;
    hub.eventually("namespaces stand", |s| {
        spokes.iter().all(|spoke| {
            get(s, "root", "serviceaccounts", spoke, "default").is_some()
                && get(s, spoke, "serviceaccounts", "default", "default").is_some()
        })
    })
    .await;
    let bound = json!({"metadata": {"name": "global"}, "spec": {"clusterSet": "global"}});
    hub.create("root", "managedclustersetbindings", "default", bound).await;
    hub.create("root", "placements", "default", json!({"metadata": {"name": "all"}, "spec": {}}))
        .await;
    hub
}

pub(super) fn set(value: &str, strategy: Value, policy: &str) -> Value {
    let mut reference = json!({"name": "all"});
    reference["rolloutStrategy"] = strategy;
    json!({"metadata": {"name": "site"}, "spec": {"manifestWorkTemplate": template(value),
        "cascadeDeletionPolicy": policy, "placementRefs": [reference]}})
}

/// What is applied in a cluster says that it is well.
pub(super) async fn is_well(hub: &Hub, cluster: &str, value: &str) {
    hub.change(cluster, "configmaps", "default", "site", |map| map["data"]["well"] = json!(value))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_set_follows_its_placements() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    hub.create(
        "root",
        "manifestworkreplicasets",
        "default",
        set("1", json!({"type": "All"}), "Background"),
    )
    .await;
    hub.eventually("all have it", |s| given(s, "site") == pairs(&[("pi-1", "1"), ("pi-2", "1")]))
        .await;
    hub.eventually("that is said", |s| {
        let set = get(s, "root", "manifestworkreplicasets", "default", "site").unwrap();
        set["status"]["summary"]["total"] == 2
            && set["status"]["summary"]["applied"] == 2
            && condition(&set, "PlacementVerified") == "True"
            && condition(&set, "PlacementRolledOut") == "False"
            && reason(&set, "ManifestworkApplied") == "Processing"
            && set["status"]["placementSummary"][0]["availableDecisionGroups"]
                == "1 (2 / 2 clusters applied)"
    })
    .await;
    hub.change("root", "placements", "default", "all", |it| {
        it["spec"]["numberOfClusters"] = json!(1);
    })
    .await;
    hub.eventually("who is chosen no more loses it", |s| {
        given(s, "site") == pairs(&[("pi-1", "1")])
            && get(s, "pi-2", "configmaps", "default", "site").is_none()
    })
    .await;
    hub.change("root", "manifestworkreplicasets", "default", "site", |it| {
        it["spec"]["placementRefs"][0]["name"] = json!("nowhere");
    })
    .await;
    hub.eventually("there is no such placement", |s| {
        let set = get(s, "root", "manifestworkreplicasets", "default", "site").unwrap();
        reason(&set, "PlacementVerified") == "PlacementDecisionNotFound"
            && given(s, "site").is_empty()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_waits_for_those_that_have_it() {
    let hub = hub(&["pi-1", "pi-2", "pi-3"]).await;
    let one = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1, "minSuccessTime": "60s"}});
    hub.create("root", "manifestworkreplicasets", "default", set("1", one, "Background")).await;
    hub.eventually("one has it", |s| {
        given(s, "site") == pairs(&[("pi-1", "1")])
            && get(s, "pi-1", "configmaps", "default", "site").is_some()
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(given(&*hub.snapshot(), "site"), pairs(&[("pi-1", "1")]), "it is not well");
    let began = tokio::time::Instant::now();
    is_well(&hub, "pi-1", "1").await;
    hub.eventually("the next has it", |s| {
        given(s, "site") == pairs(&[("pi-1", "1"), ("pi-2", "1")])
    })
    .await;
    assert!(50 < began.elapsed().as_secs(), "it soaks: {:?}", began.elapsed());
    hub.eventually("it is there", |s| get(s, "pi-2", "configmaps", "default", "site").is_some())
        .await;
    is_well(&hub, "pi-2", "1").await;
    hub.eventually("the last has it", |s| {
        given(s, "site").len() == 3 && get(s, "pi-3", "configmaps", "default", "site").is_some()
    })
    .await;
    is_well(&hub, "pi-3", "1").await;
    hub.eventually("all is done", |s| {
        let set = get(s, "root", "manifestworkreplicasets", "default", "site").unwrap();
        condition(&set, "PlacementRolledOut") == "True"
            && reason(&set, "PlacementRolledOut") == "Complete"
    })
    .await;
    hub.change("root", "manifestworkreplicasets", "default", "site", |it| {
        it["spec"]["manifestWorkTemplate"] = template("2");
    })
    .await;
    hub.eventually("the new one begins with one", |s| {
        given(s, "site") == pairs(&[("pi-1", "2"), ("pi-2", "1"), ("pi-3", "1")])
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_set_goes_after_its_works_if_it_is_asked_to() {
    let hub = hub(&["pi-1"]).await;
    hub.create(
        "root",
        "manifestworkreplicasets",
        "default",
        set("1", json!({"type": "All"}), "Foreground"),
    )
    .await;
    hub.eventually("it is applied", |s| get(s, "pi-1", "configmaps", "default", "site").is_some())
        .await;
    hub.change("pi-1", "configmaps", "default", "site", |it| {
        it["metadata"]["finalizers"] = json!(["example.com/hold"]);
    })
    .await;
    hub.delete("manifestworkreplicasets", "default", "site", Propagation::Background).await;
    hub.eventually("its work is on its way out", |s| {
        get(s, "pi-1", "configmaps", "default", "site")
            .is_some_and(|it| it["metadata"]["deletionTimestamp"].is_string())
    })
    .await;
    assert!(get(&*hub.snapshot(), "root", "manifestworkreplicasets", "default", "site").is_some());
    hub.change("pi-1", "configmaps", "default", "site", |it| {
        it["metadata"]["finalizers"] = json!([]);
    })
    .await;
    hub.eventually("it goes", |s| {
        get(s, "root", "manifestworkreplicasets", "default", "site").is_none()
    })
    .await;
    assert_eq!(given(&*hub.snapshot(), "site"), Vec::new());
    hub.stop().await;
}

/// Clusters with a work, and its UID.
fn uids(s: &dyn Snapshot) -> Vec<(String, Value)> {
    let resource = kind("manifestworks").storage().clone();
    let scope = freewheel_hub_store::Scope { resource, cluster: None, namespace: None };
    let all = s.range(&scope, None);
    all.map(|it| (it.key.namespace.to_string(), json!(it.object.header.uid.as_str()))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_placement_that_is_replaced_takes_no_work_away() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    let all = set("1", json!({"type": "All"}), "Background");
    hub.create("root", "manifestworkreplicasets", "default", all).await;
    hub.eventually("all have it", |s| given(s, "site").len() == 2).await;
    let before = uids(&*hub.snapshot());
    let owner = |s: &dyn Snapshot| {
        let decision = get(s, "root", "placementdecisions", "default", "all-decision-1")?;
        Some(decision["metadata"]["ownerReferences"][0]["uid"].clone())
    };
    let settled = async |round: usize| {
        hub.eventually("the new one has decided", |s| {
            let placement = get(s, "root", "placements", "default", "all").unwrap_or_default();
            let count = &placement["status"]["numberOfSelectedClusters"];
            *count == 2 && owner(s).as_ref() == Some(&placement["metadata"]["uid"])
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(uids(&*hub.snapshot()), before, "round {round}");
    };
    let new = || json!({"metadata": {"name": "all"}, "spec": {}});
    for round in 0..3 {
        hub.delete("placements", "default", "all", Propagation::Background).await;
        if round == 1 {
            hub.eventually("its decisions are gone", |s| owner(s).is_none()).await;
        }
        hub.create("root", "placements", "default", new()).await;
        settled(round).await;
    }
    hub.delete("placementdecisions", "default", "all-decision-1", Propagation::Background).await;
    settled(3).await;
    hub.change("root", "placements", "default", "all", |it| {
        it["spec"]["numberOfClusters"] = json!(1);
    })
    .await;
    hub.eventually("who is chosen no more still loses it", |s| given(s, "site").len() == 1).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_placement_that_is_replaced_keeps_who_is_silent() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    let all = set("1", json!({"type": "All"}), "Background");
    hub.create("root", "manifestworkreplicasets", "default", all).await;
    hub.eventually("all have it", |s| given(s, "site").len() == 2).await;
    hub.connect("pi-2", false).await;
    hub.eventually("one is silent", |s| {
        let cluster = get(s, "root", "managedclusters", "", "pi-2").unwrap_or_default();
        cluster["spec"]["taints"][0]["effect"] == "NoSelectIfNew"
    })
    .await;
    // Its decisions stay when it goes: somebody else owns them, too.
    let keeper = json!({"metadata": {"name": "keeper"}});
    hub.create("root", "configmaps", "default", keeper).await;
    let keeper = get(&*hub.snapshot(), "root", "configmaps", "default", "keeper");
    let uid = keeper.unwrap_or_default()["metadata"]["uid"].clone();
    hub.change("root", "placementdecisions", "default", "all-decision-1", |it| {
        let owners = it["metadata"]["ownerReferences"].as_array_mut();
        let keeper =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "keeper", "uid": uid.clone()});
        owners.into_iter().for_each(|all| all.push(keeper.clone()));
    })
    .await;
    let before = uids(&*hub.snapshot());
    hub.delete("placements", "default", "all", Propagation::Background).await;
    hub.create("root", "placements", "default", json!({"metadata": {"name": "all"}, "spec": {}}))
        .await;
    hub.eventually("the new one has decided", |s| {
        let placement = get(s, "root", "placements", "default", "all").unwrap_or_default();
        placement["status"]["numberOfSelectedClusters"].is_number()
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(uids(&*hub.snapshot()), before);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_template_soaks_each_time_it_changes() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    let strategy = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1, "minSuccessTime": "60s"}});
    // No rule says how it goes on: it is done when it is there.
    let plain = |value: &str| {
        let mut template = template(value);
        template.as_object_mut().unwrap().remove("manifestConfigs");
        template
    };
    let mut set = set("1", strategy, "Background");
    set["spec"]["manifestWorkTemplate"] = plain("1");
    hub.create("root", "manifestworkreplicasets", "default", set).await;
    hub.eventually("all have it", |s| given(s, "site") == pairs(&[("pi-1", "1"), ("pi-2", "1")]))
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    for value in ["2", "3"] {
        hub.change("root", "manifestworkreplicasets", "default", "site", |it| {
            it["spec"]["manifestWorkTemplate"] = plain(value);
        })
        .await;
        hub.eventually("one has the new one", |s| given(s, "site")[0].1 == value).await;
        let began = tokio::time::Instant::now();
        hub.eventually("the other one has", |s| given(s, "site")[1].1 == value).await;
        assert!(50 < began.elapsed().as_secs(), "it soaks: {:?}", began.elapsed());
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_cannot_be_followed_is_told_of() {
    let hub = hub(&["pi-1"]).await;
    hub.create("root", "placements", "default", json!({"metadata": {"name": "more"}, "spec": {}}))
        .await;
    let endless =
        json!({"type": "Progressive", "progressive": {"minSuccessTime": "99999999999999999h"}});
    let mut set = set("1", endless, "Background");
    set["spec"]["placementRefs"].as_array_mut().unwrap().push(json!({"name": "more"}));
    hub.create("root", "manifestworkreplicasets", "default", set).await;
    hub.eventually("it is told of, and the other placement goes on", |s| {
        let set = get(s, "root", "manifestworkreplicasets", "default", "site").unwrap();
        reason(&set, "PlacementVerified") == "NotAsExpected"
            && set["status"]["conditions"].to_string().contains("is no duration")
            && given(s, "site") == pairs(&[("pi-1", "1")])
    })
    .await;
    hub.stop().await;
}
