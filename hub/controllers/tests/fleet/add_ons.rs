//! Add-ons: installed by placements, set up, rolled out, watched, and taken away.

use std::time::Duration;

use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::hub::{Hub, condition, get, reason};

pub const GROUP: &str = "addon.open-cluster-management.io";

/// A hub whose clusters' namespaces are there, with a placement of all of them.
pub async fn hub(spokes: &[&str]) -> Hub {
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

pub fn add_on(strategy: &Value, supported: &Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"installStrategy": strategy, "supportedConfigs": supported}})
}

pub fn by_placements(rollout: Value) -> Value {
    let mut placement = json!({"namespace": "default", "name": "all"});
    if !rollout.is_null() {
        placement["rolloutStrategy"] = rollout;
    }
    json!({"type": "Placements", "placements": [placement]})
}

pub fn by_template() -> Value {
    json!([
        {"group": GROUP, "resource": "addontemplates", "defaultConfig": {"name": "web"}},
        {"group": GROUP, "resource": "addondeploymentconfigs"}])
}

pub fn template(value: &str) -> Value {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "site", "namespace": "default"},
        "data": {"cluster": "{{CLUSTER_NAME}}", "value": value, "site": "{{SITE}}"}});
    json!({"metadata": {"name": "web"}, "spec": {"addonName": "web", "agentSpec": {"workload": {"manifests": [map]}}}})
}

pub fn installed(s: &dyn Snapshot, cluster: &str) -> Option<Value> {
    get(s, "root", "managedclusteraddons", cluster, "web")
}

pub fn on_cluster(s: &dyn Snapshot, cluster: &str, field: &str) -> Option<String> {
    let map = get(s, cluster, "configmaps", "default", "site")?;
    map["data"][field].as_str().map(str::to_owned)
}

pub fn message(object: &Value, kind: &str) -> String {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|it| it["type"] == kind);
    found.and_then(|it| it["message"].as_str()).unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_add_on_follows_its_placements() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["metadata"]["annotations"] = json!({format!("{GROUP}/x"): "1", "y": "2"});
    })
    .await;
    hub.create(
        "root",
        "clustermanagementaddons",
        "",
        add_on(&by_placements(Value::Null), &json!([])),
    )
    .await;
    hub.eventually("it is on both", |s| {
        installed(s, "pi-1").is_some() && installed(s, "pi-2").is_some()
    })
    .await;
    let first = installed(&*hub.snapshot(), "pi-1").unwrap();
    assert_eq!(first["metadata"]["annotations"], json!({format!("{GROUP}/x"): "1"}));
    assert_eq!(first["metadata"]["ownerReferences"][0]["kind"], "ClusterManagementAddOn");
    hub.eventually("that is said", |s| {
        let add_on = get(s, "root", "clustermanagementaddons", "", "web").unwrap();
        let said = &add_on["status"]["installProgressions"][0];
        said["name"] == "all"
            && said["conditions"][0]["message"]
                == "selected clusters 2. configured addons 2/2 completed with no errors, 0 failed 0 timeout."
            && condition(&installed(s, "pi-1").unwrap(), "Configured") == "True"
    })
    .await;
    hub.change("root", "placements", "default", "all", |it| {
        it["spec"]["numberOfClusters"] = json!(1);
    })
    .await;
    hub.eventually("who is chosen no more loses it", |s| {
        installed(s, "pi-1").is_some() && installed(s, "pi-2").is_none()
    })
    .await;
    hub.delete("clustermanagementaddons", "", "web", Propagation::Background).await;
    hub.eventually("it goes with the add-on", |s| installed(s, "pi-1").is_none()).await;
    hub.stop().await;
}

/// Somebody else decides for a Placement, and knows clusters before they are there.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_comes_late_gets_its_add_on() {
    let hub = hub(&["pi-1"]).await;
    let own = json!({"cluster.open-cluster-management.io/experimental-scheduling-disable": "true"});
    let meta = json!({"name": "own", "annotations": own});
    hub.create("root", "placements", "default", json!({"metadata": meta, "spec": {}})).await;
    let placement = get(&*hub.snapshot(), "root", "placements", "default", "own").unwrap();
    let owner = json!([{"apiVersion": placement["apiVersion"], "kind": "Placement", "name": "own",
        "uid": placement["metadata"]["uid"]}]);
    let labels = json!({"cluster.open-cluster-management.io/placement": "own",
        "cluster.open-cluster-management.io/decision-group-index": "0"});
    let meta = json!({"name": "own-decision-1", "labels": labels, "ownerReferences": owner});
    hub.create("root", "placementdecisions", "default", json!({"metadata": meta})).await;
    let chosen =
        json!([{"clusterName": "pi-1", "reason": ""}, {"clusterName": "late", "reason": ""}]);
    hub.change_status("root", "placementdecisions", "default", "own-decision-1", |it| {
        it["status"]["decisions"] = chosen.clone();
    })
    .await;
    let by_own =
        json!({"type": "Placements", "placements": [{"namespace": "default", "name": "own"}]});
    hub.create("root", "clustermanagementaddons", "", add_on(&by_own, &json!([]))).await;
    hub.eventually("it is on who is there", |s| installed(s, "pi-1").is_some()).await;
    // Whatever is tried again by itself is so only every now and then by now.
    tokio::time::sleep(Duration::from_secs(1_300)).await;
    assert!(installed(&*hub.snapshot(), "late").is_none());
    for _ in 0..2 {
        let late = json!({"metadata": {"name": "late"}, "spec": {"hubAcceptsClient": true}});
        hub.create("root", "managedclusters", "", late).await;
        hub.eventually("it has come late", |s| installed(s, "late").is_some()).await;
        hub.delete("managedclusters", "", "late", Propagation::Background).await;
        hub.eventually("it is gone", |s| {
            get(s, "root", "managedclusters", "", "late").is_none()
                && get(s, "root", "namespaces", "", "late").is_none()
        })
        .await;
        assert!(installed(&*hub.snapshot(), "late").is_none());
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_add_on_that_looks_after_itself_is_left_alone() {
    let hub = hub(&["pi-1"]).await;
    let mut own = add_on(&by_placements(Value::Null), &json!([]));
    own["metadata"]["annotations"] = json!({format!("{GROUP}/lifecycle"): "self"});
    hub.create("root", "clustermanagementaddons", "", own).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(installed(&*hub.snapshot(), "pi-1").is_none());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_template_is_applied_as_it_is_set_up() {
    let hub = hub(&["pi-1"]).await;
    hub.create("root", "addontemplates", "", template("1")).await;
    hub.create(
        "root",
        "clustermanagementaddons",
        "",
        add_on(&by_placements(Value::Null), &by_template()),
    )
    .await;
    hub.eventually("it is on the cluster", |s| {
        on_cluster(s, "pi-1", "cluster").as_deref() == Some("pi-1")
    })
    .await;
    hub.eventually("that is said", |s| {
        let instance = installed(s, "pi-1").unwrap();
        condition(&instance, "ManifestApplied") == "True"
            && reason(&instance, "Available") == "ProbeAvailable"
            && reason(&instance, "Progressing") == "Completed"
            && reason(&instance, "RegistrationApplied") == "SetPermissionApplied"
            && instance["status"]["configReferences"][0]["lastAppliedConfig"]
                == instance["status"]["configReferences"][0]["desiredConfig"]
    })
    .await;
    hub.eventually("its cluster shows that it works", |s| {
        let cluster = get(s, "root", "managedclusters", "", "pi-1").unwrap();
        cluster["metadata"]["labels"]["feature.open-cluster-management.io/addon-web"] == "available"
    })
    .await;
    let work =
        get(&*hub.snapshot(), "root", "manifestworks", "pi-1", "addon-web-deploy-0").unwrap();
    assert_eq!(work["metadata"]["labels"]["open-cluster-management.io/addon-name"], "web");
    hub.delete("managedclusteraddons", "pi-1", "web", Propagation::Background).await;
    hub.eventually("it comes back, as long as it is chosen", |s| {
        installed(s, "pi-1").is_some_and(|it| condition(&it, "ManifestApplied") == "True")
    })
    .await;
    hub.delete("clustermanagementaddons", "", "web", Propagation::Background).await;
    hub.eventually("all of it goes", |s| {
        installed(s, "pi-1").is_none() && get(s, "pi-1", "configmaps", "default", "site").is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_set_up_by_what_it_names_itself() {
    let hub = hub(&["pi-1"]).await;
    hub.create("root", "addontemplates", "", template("1")).await;
    hub.create(
        "root",
        "clustermanagementaddons",
        "",
        add_on(&by_placements(Value::Null), &by_template()),
    )
    .await;
    hub.eventually("it is on the cluster", |s| on_cluster(s, "pi-1", "site").is_some()).await;
    let config = json!({"metadata": {"name": "own"}, "spec": {
        "customizedVariables": [{"name": "SITE", "value": "north"}], "agentInstallNamespace": ""}});
    hub.create("root", "addondeploymentconfigs", "default", config).await;
    hub.change("root", "managedclusteraddons", "pi-1", "web", |it| {
        it["spec"]["configs"] = json!([{"group": GROUP, "resource": "addondeploymentconfigs",
            "namespace": "default", "name": "own"}]);
    })
    .await;
    hub.eventually("it is set up by that", |s| {
        on_cluster(s, "pi-1", "site").as_deref() == Some("north")
    })
    .await;
    hub.change("root", "addondeploymentconfigs", "default", "own", |it| {
        it["spec"]["customizedVariables"][0]["value"] = json!("south");
    })
    .await;
    hub.eventually("it follows a change of that", |s| {
        let instance = installed(s, "pi-1").unwrap();
        on_cluster(s, "pi-1", "site").as_deref() == Some("south")
            && reason(&instance, "Progressing") == "Completed"
            && instance["status"]["configReferences"][0]["lastObservedGeneration"] == 2
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_goes_on_as_far_as_those_that_have_it() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    let one = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1, "minSuccessTime": "60s"}});
    hub.create("root", "addontemplates", "", template("1")).await;
    hub.create("root", "clustermanagementaddons", "", add_on(&by_placements(one), &by_template()))
        .await;
    let have = |first: &'static str, second: &'static str| {
        move |s: &dyn Snapshot| {
            on_cluster(s, "pi-1", "value").as_deref() == Some(first)
                && on_cluster(s, "pi-2", "value").as_deref() == Some(second)
        }
    };
    hub.eventually("both have it", have("1", "1")).await;
    let said = |s: &dyn Snapshot| {
        let add_on = get(s, "root", "clustermanagementaddons", "", "web").unwrap();
        add_on["status"]["installProgressions"][0].clone()
    };
    hub.eventually("it is done", |s| said(s)["conditions"][0]["reason"] == "Completed").await;
    let first = said(&*hub.snapshot())["configReferences"][0]["lastAppliedConfig"].clone();
    assert!(first["specHash"].as_str().is_some_and(|hash| hash.len() == 64));
    let began = tokio::time::Instant::now();
    hub.change("root", "addontemplates", "", "web", |it| {
        it["spec"]["agentSpec"]["workload"]["manifests"][0]["data"]["value"] = json!("2");
    })
    .await;
    hub.eventually("the first has the new one", have("2", "1")).await;
    hub.eventually("the other is told that it waits", |s| {
        reason(&installed(s, "pi-2").unwrap(), "Configured") == "ConfigurationsNotConfigured"
    })
    .await;
    hub.eventually("then the other has it", have("2", "2")).await;
    assert!(55 < began.elapsed().as_secs(), "it soaks: {:?}", began.elapsed());
    hub.eventually("it is done", |s| {
        let item = said(s);
        item["conditions"][0]["reason"] == "Completed"
            && item["configReferences"][0]["lastAppliedConfig"] != first
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_template_that_comes_to_nothing_is_told_of() {
    let hub = hub(&["pi-1"]).await;
    hub.create(
        "root",
        "clustermanagementaddons",
        "",
        add_on(&by_placements(Value::Null), &by_template()),
    )
    .await;
    hub.eventually("it is not there", |s| {
        installed(s, "pi-1").is_some_and(|it| {
            message(&it, "ManifestApplied")
                == "failed to get manifest from agent interface: addon web template desired spec hash is empty"
        })
    })
    .await;
    let mut odd = template("1");
    odd["spec"]["agentSpec"]["workload"]["manifests"][0]["kind"] = json!("Nothing");
    odd["spec"]["registration"] = json!([{"type": "KubeClient"}]);
    hub.create("root", "addontemplates", "", odd).await;
    hub.eventually("what is in it cannot be applied", |s| {
        let instance = installed(s, "pi-1").unwrap();
        reason(&instance, "ManifestApplied") == "AddonManifestAppliedFailed"
            && condition(&instance, "Available") == "Unknown"
            && reason(&instance, "Available") == "WorkNotApplied"
            && message(&instance, "Progressing") == "progressing... work is not ready"
            && reason(&instance, "RegistrationApplied") == "SetPermissionApplied"
    })
    .await;
    hub.stop().await;
}

/// An agent that says that it is there.
pub async fn renew(hub: &Hub, cluster: &str, anew: bool) {
    let now = freewheel_hub_schema::time::from_unix(hub.objects.clock().unix_seconds());
    let now = format!("{}.000000Z", now.trim_end_matches('Z'));
    if anew {
        let lease = json!({"metadata": {"name": "web"}, "spec": {"renewTime": now}});
        hub.create(cluster, "leases", "default", lease).await;
    } else {
        hub.change(cluster, "leases", "default", "web", |it| it["spec"]["renewTime"] = json!(now))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_as_well_as_its_lease() {
    let hub = hub(&["pi-1"]).await;
    let instance = json!({"metadata": {"name": "web"}, "spec": {"installNamespace": "default"}});
    hub.create("root", "managedclusteraddons", "pi-1", instance).await;
    let said = |why: &'static str| {
        move |s: &dyn Snapshot| reason(&installed(s, "pi-1").unwrap(), "Available") == why
    };
    hub.eventually("nobody has heard of it", said("ManagedClusterAddOnLeaseNotFound")).await;
    renew(&hub, "pi-1", true).await;
    hub.eventually("it is well", said("ManagedClusterAddOnLeaseUpdated")).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    renew(&hub, "pi-1", false).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(said("ManagedClusterAddOnLeaseUpdated")(&*hub.snapshot()), "it was renewed");
    hub.eventually("it is silent", said("ManagedClusterAddOnLeaseUpdateStopped")).await;
    let instance = installed(&*hub.snapshot(), "pi-1").unwrap();
    assert_eq!(condition(&instance, "Available"), "False");
    assert_eq!(message(&instance, "Available"), "web add-on is not available.");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_cluster_that_is_not_heard_of_nobody_knows() {
    let hub = hub(&["pi-1"]).await;
    let instance = json!({"metadata": {"name": "web"}, "spec": {"installNamespace": "default"}});
    hub.create("root", "managedclusteraddons", "pi-1", instance).await;
    renew(&hub, "pi-1", true).await;
    hub.eventually("it is well", |s| {
        condition(&installed(s, "pi-1").unwrap(), "Available") == "True"
    })
    .await;
    hub.connect("pi-1", false).await;
    hub.eventually("its cluster is silent", |s| {
        let cluster = get(s, "root", "managedclusters", "", "pi-1").unwrap();
        let instance = installed(s, "pi-1").unwrap();
        condition(&instance, "Available") == "Unknown"
            && reason(&instance, "Available")
                == reason(&cluster, "ManagedClusterConditionAvailable")
    })
    .await;
    hub.stop().await;
}
