//! Add-ons that go, after what is to be done before.

use std::time::Duration;

use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::add_ons::{
    GROUP, add_on, by_placements, by_template, hub, installed, message, on_cluster, renew, template,
};
use super::hub::{condition, get, list, reason};

fn with_hook() -> Value {
    let mut with_hook = template("1");
    let hook = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "tidy", "namespace": "default", "annotations": {format!("{GROUP}/addon-pre-delete"): ""}},
        "spec": {"template": {"metadata": {"annotations": {super::hub::EXITS: "0"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]}}}});
    if let Some(all) = with_hook["spec"]["agentSpec"]["workload"]["manifests"].as_array_mut() {
        all.push(hook);
    }
    with_hook
}

#[tokio::test(start_paused = true)]
async fn an_add_on_goes_after_its_hooks() {
    let hub = hub(&["pi-1"]).await;
    hub.create("root", "addontemplates", "", with_hook()).await;
    hub.create(
        "root",
        "clustermanagementaddons",
        "",
        add_on(&json!({"type": "Manual"}), &by_template()),
    )
    .await;
    hub.create(
        "root",
        "managedclusteraddons",
        "pi-1",
        json!({"metadata": {"name": "web"}, "spec": {}}),
    )
    .await;
    hub.eventually("it is on the cluster, without its hook", |s| {
        installed(s, "pi-1").is_some_and(|it| {
            it["metadata"]["finalizers"][0] == format!("{GROUP}/addon-pre-delete")
        }) && on_cluster(s, "pi-1", "value").is_some()
            && list(s, "pi-1", "jobs", "default").is_empty()
    })
    .await;
    hub.delete("managedclusteraddons", "pi-1", "web", Propagation::Background).await;
    hub.eventually("the hook runs while the add-on is there", |s| {
        get(s, "pi-1", "jobs", "default", "tidy").is_some()
            && reason(&installed(s, "pi-1").unwrap(), "HookManifestCompleted")
                == "HookManifestIsNotCompleted"
            && on_cluster(s, "pi-1", "value").is_some()
    })
    .await;
    hub.eventually("it goes after that", |s| {
        installed(s, "pi-1").is_none() && on_cluster(s, "pi-1", "value").is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_add_on_of_a_cluster_that_goes_waits_for_nobody() {
    let hub = hub(&["pi-1"]).await;
    hub.create("root", "addontemplates", "", with_hook()).await;
    hub.create(
        "root",
        "clustermanagementaddons",
        "",
        add_on(&by_placements(Value::Null), &by_template()),
    )
    .await;
    hub.eventually("it is held", |s| {
        installed(s, "pi-1").is_some_and(|it| it["metadata"]["finalizers"].is_array())
    })
    .await;
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("both are gone", |s| {
        installed(s, "pi-1").is_none() && get(s, "root", "managedclusters", "", "pi-1").is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_add_on_goes_after_its_hooks_while_its_template_changes() {
    let hub = hub(&["pi-1", "pi-2"]).await;
    let one = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1, "minSuccessTime": "600s"}});
    hub.create("root", "addontemplates", "", with_hook()).await;
    hub.create("root", "clustermanagementaddons", "", add_on(&by_placements(one), &by_template()))
        .await;
    hub.eventually("both have it", |s| {
        ["pi-1", "pi-2"].iter().all(|it| on_cluster(s, it, "value").as_deref() == Some("1"))
    })
    .await;
    hub.change("root", "addontemplates", "", "web", |it| {
        it["spec"]["agentSpec"]["workload"]["manifests"][0]["data"]["value"] = json!("2");
    })
    .await;
    hub.eventually("the first has the new one", |s| {
        on_cluster(s, "pi-1", "value").as_deref() == Some("2")
    })
    .await;
    assert_eq!(on_cluster(&*hub.snapshot(), "pi-2", "value").as_deref(), Some("1"));
    hub.delete("managedclusteraddons", "pi-2", "web", Propagation::Background).await;
    hub.eventually("the hook of the other runs", |s| {
        get(s, "pi-2", "jobs", "default", "tidy").is_some()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn hooks_that_cannot_be_made_are_told_of_and_waited_for() {
    let hub = hub(&["pi-1"]).await;
    let config = json!({"metadata": {"name": "own"}, "spec": {"agentInstallNamespace": ""}});
    hub.create("root", "addontemplates", "", with_hook()).await;
    hub.create("root", "addondeploymentconfigs", "default", config.clone()).await;
    let manual = add_on(&json!({"type": "Manual"}), &by_template());
    hub.create("root", "clustermanagementaddons", "", manual).await;
    let configs = json!([{"group": GROUP, "resource": "addondeploymentconfigs",
        "namespace": "default", "name": "own"}]);
    let instance = json!({"metadata": {"name": "web"}, "spec": {"configs": configs}});
    hub.create("root", "managedclusteraddons", "pi-1", instance).await;
    hub.eventually("it is held", |s| {
        installed(s, "pi-1").is_some_and(|it| it["metadata"]["finalizers"].is_array())
    })
    .await;
    hub.delete("addondeploymentconfigs", "default", "own", Propagation::Background).await;
    hub.delete("managedclusteraddons", "pi-1", "web", Propagation::Background).await;
    hub.eventually("that it cannot be made is told", |s| {
        let instance = installed(s, "pi-1").unwrap();
        condition(&instance, "HookManifestCompleted") == "False"
            && message(&instance, "HookManifestCompleted").contains("\"own\" not found")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(installed(&*hub.snapshot(), "pi-1").is_some(), "it waits");
    hub.create("root", "addondeploymentconfigs", "default", config).await;
    hub.eventually("the hook runs", |s| get(s, "pi-1", "jobs", "default", "tidy").is_some()).await;
    hub.eventually("and then it goes", |s| installed(s, "pi-1").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_add_on_without_its_template_waits_for_nobody() {
    let hub = hub(&["pi-1"]).await;
    hub.create("root", "addontemplates", "", with_hook()).await;
    let manual = add_on(&json!({"type": "Manual"}), &by_template());
    hub.create("root", "clustermanagementaddons", "", manual).await;
    let instance = json!({"metadata": {"name": "web"}, "spec": {}});
    hub.create("root", "managedclusteraddons", "pi-1", instance).await;
    hub.eventually("it is held", |s| {
        installed(s, "pi-1").is_some_and(|it| it["metadata"]["finalizers"].is_array())
    })
    .await;
    hub.delete("addontemplates", "", "web", Propagation::Background).await;
    hub.delete("managedclusteraddons", "pi-1", "web", Propagation::Background).await;
    hub.eventually("it goes", |s| installed(s, "pi-1").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_makes_no_label_stands_in_nobodys_way() {
    let hub = hub(&["pi-1"]).await;
    let instance =
        |name: &str| json!({"metadata": {"name": name}, "spec": {"installNamespace": "default"}});
    let long = "a".repeat(60);
    hub.create("root", "managedclusteraddons", "pi-1", instance(&long)).await;
    hub.create("root", "managedclusteraddons", "pi-1", instance("web")).await;
    renew(&hub, "pi-1", true).await;
    let label = |s: &dyn Snapshot, name: &str| {
        let cluster = get(s, "root", "managedclusters", "", "pi-1").unwrap();
        let label = format!("feature.open-cluster-management.io/addon-{name}");
        cluster["metadata"]["labels"][label].clone()
    };
    hub.eventually("the other one is labelled", |s| label(s, "web") == "available").await;
    assert!(label(&*hub.snapshot(), &long).is_null());
    hub.eventually("and that this one is not is told", |s| {
        list(s, "root", "events", "default").iter().any(|it| {
            it["reason"] == "AddOnNotLabelled" && it["message"].as_str().unwrap().contains(&long)
        })
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_add_on_whose_name_is_too_long_for_its_work_says_so_and_can_go() {
    let hub = hub(&["pi-1"]).await;
    let long = "a".repeat(64);
    hub.create("root", "addontemplates", "", with_hook()).await;
    let mut manual = add_on(&json!({"type": "Manual"}), &by_template());
    manual["metadata"]["name"] = json!(long);
    hub.create("root", "clustermanagementaddons", "", manual).await;
    let instance = json!({"metadata": {"name": long}, "spec": {}});
    hub.create("root", "managedclusteraddons", "pi-1", instance).await;
    let of = |s: &dyn Snapshot| get(s, "root", "managedclusteraddons", "pi-1", &long);
    hub.eventually("it says why not", |s| {
        let instance = of(s).unwrap();
        reason(&instance, "ManifestApplied") == "ManifestWorkApplyFailed"
            && message(&instance, "ManifestApplied").contains("63")
    })
    .await;
    hub.delete("managedclusteraddons", "pi-1", &long, Propagation::Background).await;
    hub.eventually("it goes", |s| of(s).is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_add_on_runs_its_own_hooks() {
    let hub = hub(&["pi-1"]).await;
    hub.create("root", "addontemplates", "", with_hook()).await;
    let manual = add_on(&json!({"type": "Manual"}), &by_template());
    hub.create("root", "clustermanagementaddons", "", manual).await;
    let instance = json!({"metadata": {"name": "web"}, "spec": {}});
    hub.create("root", "managedclusteraddons", "pi-1", instance.clone()).await;
    hub.eventually("it is held", |s| {
        installed(s, "pi-1").is_some_and(|it| it["metadata"]["finalizers"].is_array())
    })
    .await;
    // What is left of one of its name: it is through, and somebody holds it.
    let template = with_hook();
    let manifests = &template["spec"]["agentSpec"]["workload"]["manifests"];
    let config = json!({"resourceIdentifier": {"group": "batch", "resource": "jobs", "name": "tidy",
        "namespace": "default"}, "feedbackRules": [{"type": "WellKnownStatus"}]});
    let left = json!({"metadata": {"name": "addon-web-pre-delete", "finalizers": ["example.com/hold"]},
        "spec": {"workload": {"manifests": [manifests[1]]}, "manifestConfigs": [config]}});
    hub.create("root", "manifestworks", "pi-1", left).await;
    let job = |s: &dyn Snapshot| get(s, "pi-1", "jobs", "default", "tidy");
    hub.eventually("its job is done", |s| {
        let work = get(s, "root", "manifestworks", "pi-1", "addon-web-pre-delete").unwrap();
        work["status"]["resourceStatus"].to_string().contains("JobComplete")
            && job(s).is_some_and(|it| it["status"]["succeeded"] == 1)
    })
    .await;
    let first = job(&*hub.snapshot()).unwrap()["metadata"]["uid"].clone();
    hub.delete("managedclusteraddons", "pi-1", "web", Propagation::Background).await;
    hub.eventually("that it waits is told", |s| {
        let instance = installed(s, "pi-1").unwrap_or_default();
        message(&instance, "HookManifestCompleted")
            .contains("another one of its name has yet to go")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(installed(&*hub.snapshot(), "pi-1").is_some(), "it waits");
    hub.change("root", "manifestworks", "pi-1", "addon-web-pre-delete", |it| {
        it["metadata"]["finalizers"] = json!([]);
    })
    .await;
    hub.eventually("its own hook runs", |s| {
        job(s).is_some_and(|it| it["metadata"]["uid"] != first && it["status"]["succeeded"] == 1)
    })
    .await;
    hub.eventually("and then it goes", |s| installed(s, "pi-1").is_none()).await;
    hub.stop().await;
}
