//! ManifestWorks of kinds that are written by another name, or by none.

use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::ObjectRef;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::executors::{applied, executor};
use super::hub::{Hub, cluster, condition, get, list};
use super::works::{hub, map, value, work, work_of};

fn metrics(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
        "timestamp": "2026-01-01T00:00:00Z", "window": "1s", "containers": []})
}

fn available<'a>(work: &'a Value, at: usize, field: &str) -> &'a str {
    let all = work["status"]["resourceStatus"]["manifests"][at]["conditions"].as_array();
    let found = all.into_iter().flatten().find(|it| it["type"] == "Available");
    found.and_then(|it| it[field].as_str()).unwrap_or_default()
}

/// A pod of the spoke's own cluster.
async fn pod(hub: &Hub) -> Value {
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "a:1",
        "env": [{"name": "WORD", "value": "secret"}]}]}});
    hub.create("pi-1", "pods", "default", pod).await;
    hub.eventually("it runs", |s| {
        let pod = get(s, "pi-1", "pods", "default", "web").unwrap_or_default();
        pod["spec"]["nodeName"] == "pi-1" && condition(&pod, "Ready") == "True"
    })
    .await;
    get(&*hub.snapshot(), "pi-1", "pods", "default", "web").unwrap_or_default()
}

const NOT_ALLOWED: &str = "the server does not allow this method on the requested resource";

#[tokio::test(start_paused = true)]
async fn a_kind_that_nobody_writes_is_written_by_no_work() {
    let hub = hub().await;
    let uid = pod(&hub).await["metadata"]["uid"].clone();
    let seen = json!({"resourceIdentifier": {"group": "metrics.k8s.io", "resource": "pods", "name": "web",
            "namespace": "default"},
        "feedbackRules": [{"type": "JSONPaths", "jsonPaths": [
            {"name": "word", "path": ".spec.containers[0].env[0].value"}]}]});
    let read_only = |config: &Value| {
        let mut config = config.clone();
        config["updateStrategy"] = json!({"type": "ReadOnly"});
        config
    };
    let plain = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}});
    let all = [
        metrics("PodMetrics", "web"),
        metrics("PodMetrics", "new"),
        metrics("NodeMetrics", "pi-1"),
        plain("ComponentStatus", "store"),
        map("a", "1"),
    ];
    for (name, configs) in [("writes", json!([seen])), ("reads", json!([read_only(&seen)]))] {
        let rest = json!({"executor": executor("pi", "pods"), "manifestConfigs": configs});
        hub.create("root", "manifestworks", "pi-1", work(name, &all[..2], rest)).await;
    }
    hub.create("root", "manifestworks", "pi-1", work("all", &all, json!({}))).await;
    hub.eventually("what can be written is, and of the rest is said why not", |s| {
        let (writes, reads, all) =
            (work_of(s, "pi-1", "writes"), work_of(s, "pi-1", "reads"), work_of(s, "pi-1", "all"));
        let is_refused = |work: &Value, at: usize| {
            applied(work, at, "status") == "False"
                && applied(work, at, "message")
                    == format!("Failed to apply manifest: {NOT_ALLOWED}")
                && available(work, at, "reason") == "FetchingResourceFailed"
        };
        [&writes, &reads].into_iter().all(|work| (0..2).all(|at| is_refused(work, at)))
            && (0..4).all(|at| is_refused(&all, at))
            && applied(&all, 4, "status") == "True"
            && [writes, reads].iter().all(|work| !work["status"].to_string().contains("secret"))
    })
    .await;
    let stands = |s: &dyn Snapshot| {
        let pod = get(s, "pi-1", "pods", "default", "web").unwrap_or_default();
        let node = get(s, "pi-1", "nodes", "", "pi-1").unwrap_or_default();
        assert_eq!((&pod["kind"], &pod["metadata"]["uid"]), (&json!("Pod"), &uid), "{pod}");
        assert!(pod["metadata"]["ownerReferences"].is_null(), "{pod}");
        assert_eq!(node["kind"], "Node", "{node}");
        assert!(get(s, "pi-1", "pods", "default", "new").is_none());
        assert!(list(s, "pi-1", "componentstatuses", "").is_empty());
    };
    stands(&*hub.snapshot());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_away_by_a_name_that_nobody_writes() {
    let hub = hub().await;
    let uid = pod(&hub).await["metadata"]["uid"].clone();
    hub.create("root", "manifestworks", "pi-1", work("all", &[map("a", "1")], json!({}))).await;
    hub.eventually("it is applied", |s| {
        condition(&work_of(s, "pi-1", "all"), "Applied") == "True" && value(s, "a") == "1"
    })
    .await;
    let records = list(&*hub.snapshot(), "pi-1", "appliedmanifestworks", "");
    let record = records.first().cloned().unwrap_or_default();
    let owner = json!({"apiVersion": "work.open-cluster-management.io/v1", "kind": "AppliedManifestWork",
        "name": record["metadata"]["name"], "uid": record["metadata"]["uid"]});
    hub.change("pi-1", "pods", "default", "web", |it| {
        it["metadata"]["ownerReferences"] = json!([owner]);
    })
    .await;
    let name = record["metadata"]["name"].as_str().unwrap_or_default();
    hub.change_status("pi-1", "appliedmanifestworks", "", name, |it| {
        it["status"]["appliedResources"] = json!([{"group": "metrics.k8s.io", "version": "v1beta1",
            "resource": "pods", "namespace": "default", "name": "web", "uid": uid}]);
    })
    .await;
    hub.change("root", "manifestworks", "pi-1", "all", |it| {
        it["spec"]["workload"]["manifests"] = json!([map("a", "2")]);
    })
    .await;
    hub.eventually("the rest goes on", |s| value(s, "a") == "2").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let pod = get(&*hub.snapshot(), "pi-1", "pods", "default", "web").unwrap_or_default();
    let (own, going) = (&pod["metadata"]["uid"], &pod["metadata"]["deletionTimestamp"]);
    assert_eq!((own, going), (&uid, &Value::Null), "{pod}");
    hub.stop().await;
}

/// An autoscaler as the first version says it.
fn autoscaler(percent: u64) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 3, "targetCPUUtilizationPercentage": percent}})
}

/// An event as its own group says it.
fn event(note: &str) -> Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "web", "namespace": "default"},
        "regarding": {"kind": "Pod", "name": "web", "namespace": "default"}, "reason": "Seen", "note": note,
        "action": "Look", "type": "Normal", "reportingController": "example.com/eye",
        "reportingInstance": "eye-1", "eventTime": "2026-01-01T00:00:00.000000Z"})
}

fn shows_percent() -> Value {
    json!({"resourceIdentifier": {"group": "autoscaling", "resource": "horizontalpodautoscalers",
            "name": "web", "namespace": "default"},
        "feedbackRules": [{"type": "JSONPaths", "jsonPaths": [
            {"name": "percent", "path": ".spec.targetCPUUtilizationPercentage"}]}]})
}

fn stored(s: &dyn Snapshot, api_version: &str, kind: &str) -> Value {
    let place = ObjectRef {
        kind: kinds::by_kind(api_version, kind)
            .cloned()
            .unwrap_or_else(|| super::hub::kind("pods")),
        cluster: cluster("pi-1"),
        namespace: "default".into(),
        name: "web".to_owned(),
    };
    s.get(&place.key()).and_then(|it| it.object.value().ok()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_written_as_its_kind_is_stored() {
    let hub = hub().await;
    let asks = shows_percent();
    let mut by_apply = asks.clone();
    by_apply["updateStrategy"] =
        json!({"type": "ServerSideApply", "serverSideApply": {"force": true}});
    let mut wrong = event("wrong");
    wrong["metadata"]["name"] = json!("wrong");
    wrong["action"] = json!("");
    let rest = json!({"manifestConfigs": [asks]});
    let all = [autoscaler(80), event("one"), wrong];
    hub.create("root", "manifestworks", "pi-1", work("a", &all, rest)).await;
    let percent = |s: &dyn Snapshot| {
        let stored = stored(s, "autoscaling/v2", "HorizontalPodAutoscaler");
        let is_newer = stored["apiVersion"] == "autoscaling/v2"
            && stored["spec"]["targetCPUUtilizationPercentage"].is_null();
        let metric = &stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"];
        metric.as_u64().filter(|_| is_newer)
    };
    let told = |s: &dyn Snapshot| {
        let work = work_of(s, "pi-1", "a");
        let manifest = &work["status"]["resourceStatus"]["manifests"][0];
        let value = manifest["statusFeedback"]["values"][0]["fieldValue"]["integer"].as_u64();
        (applied(&work, 0, "status").to_owned(), value)
    };
    let said = |s: &dyn Snapshot, note: &str| {
        let stored = stored(s, "v1", "Event");
        stored["apiVersion"] == "v1" && stored["message"] == note && stored["note"].is_null()
    };
    hub.eventually("both are as they are stored, and told of as they were said", |s| {
        percent(s) == Some(80) && told(s) == ("True".to_owned(), Some(80)) && said(s, "one")
    })
    .await;
    hub.eventually("rules of the version that is said count", |s| {
        applied(&work_of(s, "pi-1", "a"), 2, "message").contains("action")
    })
    .await;
    hub.change("root", "manifestworks", "pi-1", "a", |it| {
        it["spec"]["workload"]["manifests"] = json!([autoscaler(60), event("one")]);
    })
    .await;
    hub.eventually("a change as well", |s| percent(s) == Some(60) && told(s).1 == Some(60)).await;
    hub.change("root", "manifestworks", "pi-1", "a", |it| {
        it["spec"]["workload"]["manifests"][0] = autoscaler(40);
        it["spec"]["manifestConfigs"] = json!([by_apply]);
    })
    .await;
    hub.eventually("and what is applied", |s| percent(s) == Some(40) && told(s).1 == Some(40))
        .await;
    hub.change("root", "manifestworks", "pi-1", "a", |it| {
        it["spec"]["workload"]["manifests"] = json!([map("a", "1")]);
    })
    .await;
    hub.eventually("both go", |s| {
        stored(s, "v1", "Event").is_null()
            && stored(s, "autoscaling/v2", "HorizontalPodAutoscaler").is_null()
    })
    .await;
    hub.stop().await;
}
