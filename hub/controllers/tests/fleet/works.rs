//! ManifestWorks: what is applied in clusters, and what becomes of it.

use std::time::Duration;

use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::executors::applied;
use super::hub::{EXITS, Hub, condition, deployment, get, list, reason};

pub fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"key": value}})
}

pub fn work(name: &str, manifests: &[Value], rest: Value) -> Value {
    let mut spec = rest;
    spec["workload"] = json!({"manifests": manifests});
    json!({"metadata": {"name": name}, "spec": spec})
}

pub fn work_of(s: &dyn Snapshot, cluster: &str, name: &str) -> Value {
    get(s, "root", "manifestworks", cluster, name).unwrap_or_default()
}

pub fn value(s: &dyn Snapshot, name: &str) -> Value {
    get(s, "pi-1", "configmaps", "default", name).unwrap_or_default()["data"]["key"].clone()
}

fn config(name: &str, rest: Value) -> Value {
    let mut config = rest;
    config["resourceIdentifier"] =
        json!({"resource": "configmaps", "name": name, "namespace": "default"});
    config
}

fn message<'a>(object: &'a Value, kind: &str) -> &'a str {
    let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|it| it["type"] == kind).and_then(|it| it["message"].as_str()).unwrap_or_default()
}

/// A hub with a spoke whose namespaces are there.
pub async fn hub() -> Hub {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.eventually("namespaces stand", |s| {
        get(s, "root", "serviceaccounts", "pi-1", "default").is_some()
            && get(s, "pi-1", "serviceaccounts", "default", "default").is_some()
    })
    .await;
    hub
}

#[tokio::test(start_paused = true)]
async fn a_work_is_applied_and_told_of() {
    let hub = hub().await;
    let mut web = deployment("web", 2, "a:1");
    web["apiVersion"] = json!("apps/v1");
    web["kind"] = json!("Deployment");
    web["metadata"]["namespace"] = json!("site");
    let site = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "site"}});
    let configs = json!({"manifestConfigs": [{
        "resourceIdentifier": {"group": "apps", "resource": "deployments", "name": "web", "namespace": "site"},
        "feedbackRules": [{"type": "WellKnownStatus"}, {"type": "JSONPaths", "jsonPaths": [
            {"name": "image", "path": ".spec.template.spec.containers[0].image"}]}],
        "conditionRules": [{"type": "CEL", "condition": "Steady",
            "celExpressions": ["object.status.availableReplicas == object.spec.replicas"]}]}]});
    // What others stand on comes first, wherever it is written.
    hub.create("root", "manifestworks", "pi-1", work("web", &[web, site], configs)).await;
    hub.eventually("its pods run on the device, and it says so", |s| {
        let work = work_of(s, "pi-1", "web");
        let manifests = &work["status"]["resourceStatus"]["manifests"];
        let values =
            manifests[0]["statusFeedback"]["values"].as_array().cloned().unwrap_or_default();
        let told = |name: &str| {
            values.iter().find(|it| it["name"] == name).map(|it| it["fieldValue"].clone())
        };
        condition(&work, "Applied") == "True"
            && reason(&work, "Applied") == "AppliedManifestWorkComplete"
            && condition(&work, "Available") == "True"
            && condition(&work, "Steady") == "True"
            && told("ReadyReplicas") == Some(json!({"type": "Integer", "integer": 2}))
            && told("image") == Some(json!({"type": "String", "string": "a:1"}))
            && manifests[0]["resourceMeta"]["resource"] == "deployments"
            && manifests[1]["resourceMeta"]["ordinal"] == 1
    })
    .await;
    let snapshot = hub.snapshot();
    let records = list(&*snapshot, "pi-1", "appliedmanifestworks", "");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["spec"]["manifestWorkName"], "web");
    let applied = records[0]["status"]["appliedResources"].as_array().unwrap();
    assert_eq!(applied.len(), 2);
    let web = get(&*snapshot, "pi-1", "deployments", "site", "web").unwrap();
    assert_eq!(web["metadata"]["ownerReferences"][0]["uid"], records[0]["metadata"]["uid"]);
    assert!(get(&*snapshot, "root", "deployments", "site", "web").is_none());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_change_is_set_right() {
    let hub = hub().await;
    hub.create("root", "manifestworks", "pi-1", work("a", &[map("a", "1")], json!({}))).await;
    hub.eventually("it is applied", |s| {
        value(s, "a") == "1" && condition(&work_of(s, "pi-1", "a"), "Applied") == "True"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let began = tokio::time::Instant::now();
    let spoil = async || {
        hub.change("pi-1", "configmaps", "default", "a", |it| it["data"]["key"] = json!("2")).await;
    };
    spoil().await;
    hub.eventually("it is set right", |s| value(s, "a") == "1").await;
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    spoil().await;
    hub.eventually("it is set right again", |s| value(s, "a") == "1").await;
    assert!(5 < began.elapsed().as_secs(), "nobody fights: {:?}", began.elapsed());
    hub.delete_in("pi-1", "configmaps", "default", "a").await;
    hub.eventually("it is made again", |s| value(s, "a") == "1").await;
    hub.change("root", "manifestworks", "pi-1", "a", |it| {
        it["spec"]["workload"]["manifests"] = json!([map("a", "3")]);
    })
    .await;
    hub.eventually("what is asked for is done at once", |s| value(s, "a") == "3").await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn strategies_say_how_a_manifest_is_applied() {
    let hub = hub().await;
    for name in ["once", "looked-at", "fields"] {
        let mut own = map(name, "own");
        own["data"]["mine"] = json!("1");
        hub.create("pi-1", "configmaps", "default", own).await;
    }
    let by = |name: &str, strategy: Value| {
        config(
            name,
            json!({"updateStrategy": strategy,
        "feedbackRules": [{"type": "JSONPaths", "jsonPaths": [{"name": "key", "path": ".data.key"}]}]}),
        )
    };
    let configs = json!({"manifestConfigs": [
        by("once", json!({"type": "CreateOnly"})),
        by("new", json!({"type": "CreateOnly"})),
        by("looked-at", json!({"type": "ReadOnly"})),
        by("fields", json!({"type": "ServerSideApply", "serverSideApply": {"force": true}})),
    ]});
    let manifests = ["once", "new", "looked-at", "fields"].map(|name| map(name, "asked"));
    hub.create("root", "manifestworks", "pi-1", work("a", &manifests, configs)).await;
    hub.eventually("each is as its strategy says", |s| {
        value(s, "once") == "own"
            && value(s, "new") == "asked"
            && value(s, "looked-at") == "own"
            && value(s, "fields") == "asked"
            && condition(&work_of(s, "pi-1", "a"), "Available") == "True"
    })
    .await;
    let snapshot = hub.snapshot();
    let of = |name: &str| get(&*snapshot, "pi-1", "configmaps", "default", name).unwrap();
    assert_eq!(of("fields")["data"]["mine"], "1", "that is somebody else's");
    let managers = of("fields")["metadata"]["managedFields"].to_string();
    assert!(managers.contains("work-agent") && managers.contains("\"Apply\""), "{managers}");
    assert!(of("looked-at")["metadata"]["ownerReferences"].is_null());
    let told = |s: &dyn Snapshot, work: &str, at: usize| {
        let manifest = &work_of(s, "pi-1", work)["status"]["resourceStatus"]["manifests"][at];
        manifest["statusFeedback"]["values"][0]["fieldValue"]["string"].clone()
    };
    assert_eq!(told(&*snapshot, "a", 2), "own");
    hub.change("pi-1", "configmaps", "default", "looked-at", |it| it["data"]["key"] = json!("new"))
        .await;
    hub.eventually("what is looked at is looked at again", |s| told(s, "a", 2) == "new").await;
    // Nobody names an owner of what is only looked at, when it comes.
    let later = json!({"manifestConfigs": [by("later", json!({"type": "ReadOnly"}))]});
    hub.create("root", "manifestworks", "pi-1", work("b", &[map("later", "asked")], later)).await;
    hub.eventually("it is not there", |s| {
        condition(&work_of(s, "pi-1", "b"), "Available") == "False"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    hub.create("pi-1", "configmaps", "default", map("later", "own")).await;
    hub.eventually("it is seen", |s| told(s, "b", 0) == "own").await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_applied_is_tried_again() {
    let hub = hub().await;
    let mut late = map("late", "1");
    late["metadata"]["namespace"] = json!("later");
    hub.create("root", "manifestworks", "pi-1", work("a", &[late, map("good", "1")], json!({})))
        .await;
    hub.eventually("its namespace is not there", |s| {
        condition(&work_of(s, "pi-1", "a"), "Applied") == "False" && value(s, "good") == "1"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    // Twice, so that the second time is within the ten seconds.
    for key in ["2", "3"] {
        hub.change("pi-1", "configmaps", "default", "good", |it| it["data"]["key"] = json!(key))
            .await;
        let began = tokio::time::Instant::now();
        hub.eventually("what can be done is done", |s| value(s, "good") == "1").await;
        assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
    }
    hub.create("pi-1", "namespaces", "", json!({"metadata": {"name": "later"}})).await;
    let began = tokio::time::Instant::now();
    hub.eventually("it is applied", |s| {
        get(s, "pi-1", "configmaps", "later", "late").is_some()
            && condition(&work_of(s, "pi-1", "a"), "Applied") == "True"
    })
    .await;
    assert!(began.elapsed().as_secs() <= 300, "{:?}", began.elapsed());
    hub.stop().await;
}

/// A Job that runs once.
fn job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "a:1"}]}}}})
}

/// With the rule that is known of Jobs.
fn completes(name: &str) -> Value {
    json!({"resourceIdentifier": {"group": "batch", "resource": "jobs", "name": name, "namespace": "default"},
        "conditionRules": [{"type": "WellKnownConditions", "condition": "Complete"}]})
}

/// The pod of a Job ends well.
#[expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]
async fn finish(hub: &Hub, job: &str) {
    let all = list(&*hub.snapshot(), "pi-1", "pods", "default");
    let of_it = |it: &&Value| it["metadata"]["labels"]["batch.kubernetes.io/job-name"] == job;
    let name = all.iter().find(of_it).unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    hub.change("pi-1", "pods", "default", &name, |it| {
        it["metadata"]["annotations"][EXITS] = json!("0");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_told_of_though_it_cannot_be_updated() {
    let hub = hub().await;
    let configs = json!({"manifestConfigs": [completes("once")]});
    hub.create("root", "manifestworks", "pi-1", work("a", &[job("once")], configs)).await;
    hub.eventually("it runs", |s| {
        let job = get(s, "pi-1", "jobs", "default", "once").unwrap_or_default();
        job["status"]["active"] == 1 && condition(&work_of(s, "pi-1", "a"), "Complete") == "False"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    hub.change("pi-1", "jobs", "default", "once", |it| {
        it["metadata"]["labels"]["seen"] = json!("true");
    })
    .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let work = work_of(&*hub.snapshot(), "pi-1", "a");
    assert_eq!(condition(&work, "Available"), "True", "{work}");
    finish(&hub, "once").await;
    hub.eventually("it is complete", |s| condition(&work_of(s, "pi-1", "a"), "Complete") == "True")
        .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_complete_and_gone_is_not_made_again() {
    let hub = hub().await;
    let configs = json!({"manifestConfigs": [completes("once")]});
    hub.create("root", "manifestworks", "pi-1", work("a", &[job("once")], configs)).await;
    hub.eventually("it runs", |s| {
        let job = get(s, "pi-1", "jobs", "default", "once").unwrap_or_default();
        job["status"]["active"] == 1 && condition(&work_of(s, "pi-1", "a"), "Complete") == "False"
    })
    .await;
    finish(&hub, "once").await;
    hub.eventually("it is complete", |s| condition(&work_of(s, "pi-1", "a"), "Complete") == "True")
        .await;
    hub.delete_in("pi-1", "jobs", "default", "once").await;
    hub.eventually("it is tidied away", |s| get(s, "pi-1", "jobs", "default", "once").is_none())
        .await;
    hub.change("root", "manifestworks", "pi-1", "a", |it| {
        it["spec"]["workload"]["manifests"] = json!([job("once"), map("new", "1")]);
    })
    .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let snapshot = hub.snapshot();
    assert!(get(&*snapshot, "pi-1", "jobs", "default", "once").is_none(), "it runs once");
    assert!(value(&*snapshot, "new").is_null(), "a complete work is left as it is");
    let work = work_of(&*snapshot, "pi-1", "a");
    assert_eq!(condition(&work, "Complete"), "True");
    let applied = &work["status"]["conditions"].as_array().unwrap()[0];
    assert_eq!((&applied["type"], &applied["observedGeneration"]), (&json!("Applied"), &json!(1)));
    hub.change("root", "manifestworks", "pi-1", "a", |it| {
        it["spec"]["manifestConfigs"] = json!([]);
    })
    .await;
    hub.eventually("who does not ask for it any more has it again", |s| {
        get(s, "pi-1", "jobs", "default", "once").is_some() && value(s, "new") == "1"
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_applied_is_told_and_holds_up_nothing_else() {
    let hub = hub().await;
    let odd = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let wrong = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
        "spec": {"ports": [{"port": 0}]}});
    hub.create("root", "manifestworks", "pi-1", work("a", &[odd, wrong, map("a", "1")], json!({})))
        .await;
    hub.eventually("the one is applied, and the others say why not", |s| {
        let work = work_of(s, "pi-1", "a");
        let manifests = &work["status"]["resourceStatus"]["manifests"];
        let why = |at: usize| {
            manifests[at]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned()
        };
        value(s, "a") == "1"
            && condition(&work, "Applied") == "False"
            && why(0).contains("no matches for kind \"Widget\" in version \"example.com/v1\"")
            && why(1).contains("spec.ports[0].port")
            && why(2) == "Apply manifest complete"
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_work_no_longer_names_goes() {
    let hub = hub().await;
    let all = ["a", "shared"].map(|name| map(name, "1"));
    hub.create("root", "manifestworks", "pi-1", work("one", &all, json!({}))).await;
    hub.create("root", "manifestworks", "pi-1", work("two", &[map("shared", "1")], json!({})))
        .await;
    let owners = |s: &dyn Snapshot| {
        let shared = get(s, "pi-1", "configmaps", "default", "shared").unwrap_or_default();
        shared["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len)
    };
    hub.eventually("both own one", |s| owners(s) == 2 && value(s, "a") == "1").await;
    hub.change("root", "manifestworks", "pi-1", "one", |it| {
        it["spec"]["workload"]["manifests"] = json!([map("b", "1")]);
    })
    .await;
    hub.eventually("what nobody names is gone", |s| {
        get(s, "pi-1", "configmaps", "default", "a").is_none()
            && value(s, "b") == "1"
            && owners(s) == 1
    })
    .await;
    assert_eq!(value(&*hub.snapshot(), "shared"), "1");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_work_goes_after_what_it_owns() {
    let hub = hub().await;
    let mut held = map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let leaves = json!({"deleteOption": {"propagationPolicy": "SelectivelyOrphan", "selectivelyOrphans": {
        "orphaningRules": [{"resource": "configmaps", "name": "left", "namespace": "default"}]}}});
    hub.create("root", "manifestworks", "pi-1", work("a", &[held, map("left", "1")], leaves)).await;
    let orphan = json!({"deleteOption": {"propagationPolicy": "Orphan"}});
    hub.create("root", "manifestworks", "pi-1", work("b", &[map("kept", "1")], orphan)).await;
    hub.eventually("both are applied", |s| {
        ["a", "b"].iter().all(|name| condition(&work_of(s, "pi-1", name), "Applied") == "True")
    })
    .await;
    for name in ["a", "b"] {
        hub.delete("manifestworks", "pi-1", name, Propagation::Background).await;
    }
    hub.eventually("the one waits for what it owns", |s| {
        work_of(s, "pi-1", "b").is_null()
            && get(s, "pi-1", "configmaps", "default", "held")
                .is_some_and(|it| it["metadata"]["deletionTimestamp"].is_string())
    })
    .await;
    hub.eventually("it says so, and what holds it", |s| {
        let work = work_of(s, "pi-1", "a");
        let held = "configmaps default/held waits for its finalizers (example.com/hold)";
        condition(&work, "Deleting") == "True"
            && reason(&work, "Deleting") == "WorkDeleting"
            && message(&work, "Deleting") == format!("ManifestWork is being deleted: {held}")
    })
    .await;
    hub.change("pi-1", "configmaps", "default", "held", |it| {
        it["metadata"]["finalizers"] = json!([]);
    })
    .await;
    hub.eventually("it goes, and its record", |s| {
        work_of(s, "pi-1", "a").is_null() && list(s, "pi-1", "appliedmanifestworks", "").is_empty()
    })
    .await;
    let snapshot = hub.snapshot();
    assert_eq!((value(&*snapshot, "left"), value(&*snapshot, "kept")), (json!("1"), json!("1")));
    assert!(get(&*snapshot, "pi-1", "configmaps", "default", "held").is_none());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_holds_an_object_that_a_work_no_longer_names_is_told() {
    let hub = hub().await;
    let mut held = map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    hub.create("root", "manifestworks", "pi-1", work("a", &[held, map("b", "1")], json!({}))).await;
    hub.eventually("it is applied", |s| condition(&work_of(s, "pi-1", "a"), "Applied") == "True")
        .await;
    hub.change("root", "manifestworks", "pi-1", "a", |it| {
        it["spec"]["workload"]["manifests"] = json!([map("b", "2")]);
    })
    .await;
    hub.eventually("it says what is there still, and why", |s| {
        let work = work_of(s, "pi-1", "a");
        let held = "configmaps default/held waits for its finalizers (example.com/hold)";
        let said = format!("not all that it no longer names is removed: {held}");
        message(&work, "Applied").ends_with(&said) && value(s, "b") == "2"
    })
    .await;
    hub.change("pi-1", "configmaps", "default", "held", |it| {
        it["metadata"]["finalizers"] = json!([]);
    })
    .await;
    hub.eventually("and no more, when it is gone", |s| {
        !message(&work_of(s, "pi-1", "a"), "Applied").contains("held")
    })
    .await;
    hub.stop().await;
}

/// Upstream calls it a race, and means it so: each work is as good as the other.
#[tokio::test(start_paused = true)]
async fn works_that_name_one_object_are_both_applied_and_the_last_one_keeps_it() {
    let hub = hub().await;
    for (name, value) in [("one", "1"), ("two", "2")] {
        hub.create("root", "manifestworks", "pi-1", work(name, &[map("a", value)], json!({})))
            .await;
    }
    let owners = |s: &dyn Snapshot| {
        let shared = get(s, "pi-1", "configmaps", "default", "a").unwrap_or_default();
        shared["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len)
    };
    hub.eventually("both are applied", |s| {
        let is_applied = |name| condition(&work_of(s, "pi-1", name), "Applied") == "True";
        owners(s) == 2 && is_applied("one") && is_applied("two")
    })
    .await;
    hub.delete("manifestworks", "pi-1", "two", Propagation::Background).await;
    hub.eventually("it is the other's alone", |s| owners(s) == 1 && value(s, "a") == "1").await;
    assert!(work_of(&*hub.snapshot(), "pi-1", "two").is_null(), "nothing held it");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_work_that_is_complete_rests_and_goes_in_its_time() {
    let hub = hub().await;
    let rest = json!({"deleteOption": {"propagationPolicy": "Orphan", "ttlSecondsAfterFinished": 120},
        "manifestConfigs": [config("a", json!({"updateStrategy": {"type": "CreateOnly"}, "conditionRules": [
            {"type": "CEL", "condition": "Complete", "celExpressions": ["object.data.key == 'done'"]}]}))]});
    hub.create("root", "manifestworks", "pi-1", work("a", &[map("a", "1")], rest)).await;
    hub.eventually("it is not complete", |s| {
        condition(&work_of(s, "pi-1", "a"), "Complete") == "False"
    })
    .await;
    hub.change("pi-1", "configmaps", "default", "a", |it| it["data"]["key"] = json!("done")).await;
    hub.eventually("it is complete", |s| condition(&work_of(s, "pi-1", "a"), "Complete") == "True")
        .await;
    let began = tokio::time::Instant::now();
    hub.eventually("it goes", |s| work_of(s, "pi-1", "a").is_null()).await;
    assert!(100 < began.elapsed().as_secs(), "{:?}", began.elapsed());
    assert_eq!(value(&*hub.snapshot(), "a"), "done");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn any_ttl_is_one() {
    let hub = hub().await;
    let rest = |ttl: i64| {
        json!({"deleteOption": {"ttlSecondsAfterFinished": ttl},
            "manifestConfigs": [config("a", json!({"conditionRules": [
                {"type": "CEL", "condition": "Complete", "celExpressions": ["true"]}]}))]})
    };
    let mut of_a_set = work("of-a-set", &[map("b", "1")], rest(0));
    of_a_set["metadata"]["labels"] =
        json!({"work.open-cluster-management.io/manifestworkreplicaset": "default.nobody"});
    of_a_set["spec"]["manifestConfigs"][0]["resourceIdentifier"]["name"] = json!("b");
    hub.create("root", "manifestworks", "pi-1", of_a_set).await;
    for ttl in [i64::MIN, -1] {
        hub.create("root", "manifestworks", "pi-1", work("a", &[map("a", "1")], rest(ttl))).await;
        hub.eventually("it goes at once", |s| work_of(s, "pi-1", "a").is_null()).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let left = work_of(&*hub.snapshot(), "pi-1", "of-a-set");
    assert_eq!(condition(&left, "Complete"), "True", "its set decides about it: {left}");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn works_of_a_cluster_go_with_it() {
    let hub = hub().await;
    hub.create("root", "manifestworks", "pi-1", work("a", &[map("a", "1")], json!({}))).await;
    hub.eventually("it is applied", |s| value(s, "a") == "1").await;
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("all is gone", |s| {
        get(s, "root", "managedclusters", "", "pi-1").is_none()
            && get(s, "root", "namespaces", "", "pi-1").is_none()
            && list(s, "pi-1", "appliedmanifestworks", "").is_empty()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_manifest_of_a_wrong_form_is_told_of() {
    let hub = hub().await;
    let mut odd = map("b", "1");
    odd["metadata"]["annotations"] = json!("x");
    hub.create("pi-1", "configmaps", "default", map("c", "own")).await;
    let mut over = map("c", "1");
    over["metadata"]["labels"] = json!(["x"]);
    let strategy = json!({"type": "ServerSideApply", "serverSideApply": {
        "ignoreFields": [{"condition": "OnSpokePresent", "jsonPaths": [".data.a"]}]}});
    let rest = json!({"manifestConfigs": [config("b", json!({"updateStrategy": strategy}))]});
    hub.create("root", "manifestworks", "pi-1", work("a", &[map("a", "1"), odd, over], rest)).await;
    hub.eventually("the other one is applied, and it says why these are not", |s| {
        let work = work_of(s, "pi-1", "a");
        applied(&work, 0, "status") == "True"
            && (1..3).all(|at| {
                applied(&work, at, "status") == "False"
                    && applied(&work, at, "message").starts_with("Failed to apply manifest: ")
            })
    })
    .await;
    assert_eq!(value(&*hub.snapshot(), "c"), "own");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn fields_that_are_left_to_others_stay() {
    let hub = hub().await;
    let two = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"},
        "data": {"key": "1", "theirs": "first"}});
    let with = |ignored: Value| {
        let apply = json!({"force": true, "ignoreFields": ignored});
        let strategy = json!({"type": "ServerSideApply", "serverSideApply": apply});
        json!({"manifestConfigs": [config("a", json!({"updateStrategy": strategy}))]})
    };
    let ignored = json!([{"condition": "OnSpokePresent", "jsonPaths": [".data.theirs"]}]);
    let left = work("left", std::slice::from_ref(&two), with(ignored));
    hub.create("root", "manifestworks", "pi-1", left).await;
    let theirs = |s: &dyn Snapshot| {
        get(s, "pi-1", "configmaps", "default", "a").unwrap_or_default()["data"]["theirs"].clone()
    };
    hub.eventually("all of it is made at first", |s| theirs(s) == "first" && value(s, "a") == "1")
        .await;
    hub.change("pi-1", "configmaps", "default", "a", |it| {
        it["data"]["theirs"] = json!("second");
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(theirs(&*hub.snapshot()), "second", "it is theirs");
    hub.change("pi-1", "configmaps", "default", "a", |it| it["data"]["key"] = json!("0")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(value(&*hub.snapshot(), "a"), "0", "it is set right when the manifest changes");
    hub.change("root", "manifestworks", "pi-1", "left", |it| {
        it["spec"]["workload"]["manifests"][0]["data"]["key"] = json!("2");
    })
    .await;
    hub.eventually("the rest follows", |s| value(s, "a") == "2").await;
    assert_eq!(theirs(&*hub.snapshot()), "second", "it is still theirs");
    let wrong = json!([{"condition": "OnSpokePresent", "jsonPointers": ["data"]}]);
    hub.change("root", "manifestworks", "pi-1", "left", |it| {
        it["spec"]["manifestConfigs"] = with(wrong.clone())["manifestConfigs"].clone();
    })
    .await;
    hub.eventually("what is no pointer is told of", |s| {
        let work = work_of(s, "pi-1", "left");
        applied(&work, 0, "reason") == "AppliedManifestSSAIgnoreFieldError"
            && applied(&work, 0, "message")
                .starts_with("Failed to process ignoreFields: JSON Pointer error in 'data'")
    })
    .await;
    hub.stop().await;
}
