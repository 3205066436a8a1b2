//! HorizontalPodAutoscalers, with every controller running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::time::Duration;

use crate::hub::{EXITS, Hub, UNTOLD, cluster, condition, deployment, get, list, reason, serves};
use freewheel_hub_objects::{ObjectRef, WriteOptions};
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

const PLURAL: &str = "horizontalpodautoscalers";

/// So many percent of the processor time that is requested.
fn cpu(percent: u32) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": percent}}}])
}

/// Of something of this kind and of the autoscaler's name.
async fn autoscaler(hub: &Hub, (version, kind): (&str, &str), name: &str, mut spec: Value) {
    spec["scaleTargetRef"] = json!({"apiVersion": version, "kind": kind, "name": name});
    let body = json!({"metadata": {"name": name}, "spec": spec});
    hub.create("root", PLURAL, "default", body).await;
}

fn of(s: &dyn Snapshot, name: &str) -> Value {
    get(s, "root", PLURAL, "default", name).unwrap_or_default()
}

fn message<'a>(object: &'a Value, kind: &str) -> &'a str {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut all = all.filter(|one| one["type"] == kind);
    all.next().and_then(|one| one["message"].as_str()).unwrap_or_default()
}

fn wanted(s: &dyn Snapshot, plural: &str, name: &str) -> i64 {
    let found = get(s, "root", plural, "default", name);
    found.and_then(|it| it["spec"]["replicas"].as_i64()).unwrap_or(-1)
}

fn is_told(s: &dyn Snapshot, reason: &str, message: &str) -> bool {
    let all = list(s, "root", "events", "default");
    all.iter().any(|event| event["reason"] == reason && event["message"] == message)
}

/// Which pods are asked about next.
async fn next_asked(hub: &Hub) -> Vec<String> {
    let next = async {
        loop {
            let asked = hub.usage.asked();
            if !asked.is_empty() {
                return asked;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), next).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_busy_deployment_grows_and_shrinks_again() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    // Three times what it requests.
    hub.usage.take("web", 300);
    let spec = json!({"minReplicas": 1, "maxReplicas": 6, "metrics": cpu(60)});
    autoscaler(&hub, ("apps/v1", "Deployment"), "web", spec).await;
    hub.eventually("four are the most at a time", |s| wanted(s, "deployments", "web") == 4).await;
    hub.eventually("it says so", |s| {
        let it = of(s, "web");
        let said = |kind| (condition(&it, kind), reason(&it, kind));
        said("AbleToScale") == ("True", "SucceededRescale")
            && said("ScalingActive") == ("True", "ValidMetricFound")
            && said("ScalingLimited") == ("True", "ScaleUpLimit")
            && it["status"]["currentReplicas"] == 1
            && it["status"]["desiredReplicas"] == 4
            && it["status"]["lastScaleTime"].is_string()
            && it["status"]["currentMetrics"][0]["resource"]["current"]
                == json!({"averageUtilization": 300, "averageValue": "300m"})
    })
    .await;
    let text = "New size: 4; reason: cpu resource utilization (percentage of request) above target";
    hub.eventually("it tells of it", |s| is_told(s, "SuccessfulRescale", text)).await;
    hub.eventually("there are no more than six", |s| wanted(s, "deployments", "web") == 6).await;
    hub.usage.take("web", 10);
    hub.eventually("it waits", |s| reason(&of(s, "web"), "AbleToScale") == "ScaleDownStabilized")
        .await;
    let idle = hub.objects.clock().unix_seconds();
    hub.eventually("it shrinks", |s| wanted(s, "deployments", "web") < 6).await;
    let waited = hub.objects.clock().unix_seconds() - idle;
    assert!((270..=330).contains(&waited), "{waited}");
    assert_eq!(wanted(&*hub.snapshot(), "deployments", "web"), 1);
    hub.eventually("it is as wanted", |s| of(s, "web")["status"]["currentReplicas"] == 1).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_behavior_says_how_fast() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 2, "a:1")).await;
    hub.usage.take("web", 100);
    let one = json!([{"type": "Pods", "value": 1, "periodSeconds": 60}]);
    let spec = json!({"maxReplicas": 9, "metrics": cpu(50), "behavior": {
        "scaleUp": {"policies": one}, "scaleDown": {"stabilizationWindowSeconds": 0}}});
    autoscaler(&hub, ("apps/v1", "Deployment"), "web", spec).await;
    hub.eventually("one more", |s| wanted(s, "deployments", "web") == 3).await;
    let began = hub.objects.clock().unix_seconds();
    hub.eventually("and one more", |s| wanted(s, "deployments", "web") == 4).await;
    let waited = hub.objects.clock().unix_seconds() - began;
    assert!((55..=80).contains(&waited), "{waited}");
    hub.usage.take("web", 1);
    let began = hub.objects.clock().unix_seconds();
    hub.eventually("fewer at once", |s| wanted(s, "deployments", "web") == 1).await;
    assert!(hub.objects.clock().unix_seconds() - began < 35);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_hub_scales_nothing_down_at_once() {
    let mut hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 5, "a:1")).await;
    hub.usage.take("web", 60);
    let spec = json!({"maxReplicas": 6, "metrics": cpu(60)});
    autoscaler(&hub, ("apps/v1", "Deployment"), "web", spec).await;
    hub.eventually("it is looked at", |s| {
        reason(&of(s, "web"), "AbleToScale") == "ReadyForNewScale"
    })
    .await;
    hub.usage.take("web", 1);
    hub.restart().await;
    let restarted = hub.objects.clock().unix_seconds();
    hub.eventually("it shrinks", |s| wanted(s, "deployments", "web") < 5).await;
    let waited = hub.objects.clock().unix_seconds() - restarted;
    assert!(300 <= waited, "{waited}");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_scaled_says_why() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    for name in ["zero", "unknown", "custom"] {
        let replicas = u32::from(name != "zero");
        hub.create("root", "deployments", "default", deployment(name, replicas, "a:1")).await;
    }
    let spec = || json!({"maxReplicas": 3, "metrics": cpu(60)});
    let cases = [
        ("apps/v1", "Deployment", "none", "deployments.apps \"none\" not found"),
        ("example.com/v1", "Crew", "crew", "no matches for kind \"Crew\" in group \"example.com\""),
        ("batch/v1", "Job", "job", "the server could not find the requested resource"),
    ];
    for (version, kind, name, why) in cases {
        autoscaler(&hub, (version, kind), name, spec()).await;
        let text =
            format!("the HPA controller was unable to get the target's current scale: {why}");
        hub.eventually("it has no scale", |s| {
            let it = of(s, name);
            condition(&it, "AbleToScale") == "False"
                && reason(&it, "AbleToScale") == "FailedGetScale"
                && message(&it, "AbleToScale") == text
                && is_told(s, "FailedGetScale", why)
        })
        .await;
    }
    for name in ["zero", "unknown"] {
        autoscaler(&hub, ("apps/v1", "Deployment"), name, spec()).await;
    }
    let requests = json!([{"type": "Pods", "pods": {"metric": {"name": "requests"},
        "target": {"type": "AverageValue", "averageValue": "10"}}}]);
    let custom = json!({"maxReplicas": 3, "metrics": requests});
    autoscaler(&hub, ("apps/v1", "Deployment"), "custom", custom).await;
    let off = |s: &dyn Snapshot, name: &str, why: &str| {
        let it = of(s, name);
        condition(&it, "ScalingActive") == "False" && reason(&it, "ScalingActive") == why
    };
    hub.eventually("who is at zero stays there", |s| off(s, "zero", "ScalingDisabled")).await;
    hub.eventually("nothing is known", |s| off(s, "unknown", "FailedGetResourceMetric")).await;
    let why = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API";
    let all = format!(
        "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
    );
    hub.eventually("both events", |s| {
        is_told(s, "FailedGetResourceMetric", why)
            && is_told(s, "FailedComputeMetricsReplicas", &all)
    })
    .await;
    let unknown = of(&*hub.snapshot(), "unknown");
    assert_eq!(unknown["status"]["currentMetrics"], json!([{"type": ""}]));
    assert_eq!(unknown["status"]["currentReplicas"], 1);
    hub.eventually("nobody serves it", |s| off(s, "custom", "FailedGetPodsMetric")).await;
    assert_eq!(wanted(&*hub.snapshot(), "deployments", "zero"), 0);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_autoscalers_of_the_same_pods_say_so() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.usage.take("web", 100);
    autoscaler(&hub, ("apps/v1", "Deployment"), "web", json!({"maxReplicas": 1})).await;
    hub.eventually("alone it works", |s| condition(&of(s, "web"), "ScalingActive") == "True").await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let second = json!({"metadata": {"name": "again"},
        "spec": {"maxReplicas": 1, "scaleTargetRef": target}});
    hub.create("root", PLURAL, "default", second).await;
    let text =
        "pods by selector app=web are controlled by multiple HPAs: [{again default} {web default}]";
    let is_ambiguous = |s: &dyn Snapshot, name: &str| {
        let it = of(s, name);
        reason(&it, "ScalingActive") == "AmbiguousSelector" && message(&it, "ScalingActive") == text
    };
    hub.eventually("both say so", |s| is_ambiguous(s, "web") && is_ambiguous(s, "again")).await;
    hub.eventually("it is told", |s| is_told(s, "AmbiguousSelector", text)).await;
    hub.delete_in("root", PLURAL, "default", "again").await;
    hub.eventually("alone again", |s| condition(&of(s, "web"), "ScalingActive") == "True").await;
    hub.stop().await;
}

/// A custom resource that says itself how many it has, and where.
async fn crews(hub: &Hub) -> ObjectRef {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let scale = json!({"specReplicasPath": ".spec.hands", "statusReplicasPath": ".status.hands",
        "labelSelectorPath": ".status.who"});
    let version = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}, "scale": scale}});
    let definition = json!({"metadata": {"name": "crews.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "versions": [version],
        "names": {"plural": "crews", "singular": "crew", "kind": "Crew", "listKind": "CrewList"}}});
    hub.create("root", "customresourcedefinitions", "", definition).await;
    hub.eventually("its kind is there", |s| {
        let name = "crews.example.com";
        let definition = get(s, "root", "customresourcedefinitions", "", name);
        definition.is_some_and(|it| condition(&it, "Established") == "True")
    })
    .await;
    let root = cluster("root");
    let kind = hub.objects.kinds().of(&root).by_kind("example.com/v1", "Crew").unwrap().clone();
    ObjectRef { kind, cluster: root, namespace: "default".into(), name: "crew".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn whatever_has_a_scale_is_scaled() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let template = |name: &str| {
        json!({"metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "a:1"}]}})
    };
    let chosen = |name: &str| json!({"matchLabels": {"app": name}});
    let sets = [("statefulsets", "StatefulSet", "set"), ("replicasets", "ReplicaSet", "plain")];
    for (plural, _, name) in sets {
        let spec = json!({"replicas": 1, "selector": chosen(name), "template": template(name)});
        hub.create("root", plural, "default", json!({"metadata": {"name": name}, "spec": spec}))
            .await;
    }
    let spec = json!({"replicas": 1, "template": template("old")});
    let old = json!({"metadata": {"name": "old"}, "spec": spec});
    hub.create("root", "replicationcontrollers", "default", old).await;
    let place = crews(&hub).await;
    let crew = json!({"apiVersion": "example.com/v1", "kind": "Crew",
        "metadata": {"name": "crew"}, "spec": {"hands": 1}});
    hub.objects.create(&WriteOptions::default(), &place, crew).await.unwrap();

    let bounds = || json!({"minReplicas": 2, "maxReplicas": 3});
    for (_, kind, name) in sets {
        autoscaler(&hub, ("apps/v1", kind), name, bounds()).await;
    }
    autoscaler(&hub, ("v1", "ReplicationController"), "old", bounds()).await;
    autoscaler(&hub, ("example.com/v1", "Crew"), "crew", bounds()).await;
    for (plural, name) in
        [("statefulsets", "set"), ("replicasets", "plain"), ("replicationcontrollers", "old")]
    {
        hub.eventually("it has two", |s| wanted(s, plural, name) == 2).await;
    }
    hub.eventually("hands as well", |s| {
        let crew = s.get(&place.key()).unwrap().object.value().unwrap();
        crew["spec"]["hands"] == 2
    })
    .await;
    let text = "New size: 2; reason: Current number of replicas below Spec.MinReplicas";
    hub.eventually("it is told", |s| is_told(s, "SuccessfulRescale", text)).await;
    // Metrics of what plain labels choose are those of its pods; who chooses nobody has none.
    hub.usage.take("old", 5);
    hub.eventually("both look at metrics", |s| {
        reason(&of(s, "old"), "ScalingActive") == "FailedGetResourceMetric"
            && message(&of(s, "old"), "ScalingActive")
                .contains("missing request for cpu in container c")
            && reason(&of(s, "crew"), "ScalingActive") == "InvalidSelector"
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_silent_spoke_are_not_asked_about() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("root", "deployments", "default", deployment("web", 4, "a:1")).await;
    hub.usage.take("web", 60);
    let spec = json!({"minReplicas": 4, "maxReplicas": 6, "metrics": cpu(60)});
    autoscaler(&hub, ("apps/v1", "Deployment"), "web", spec).await;
    hub.eventually("it works", |s| condition(&of(s, "web"), "ScalingActive") == "True").await;
    let on = |node: &str| -> Vec<String> {
        let pods = list(&*hub.snapshot(), "root", "pods", "default");
        let pods = pods.iter().filter(|pod| pod["spec"]["nodeName"] == node);
        pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let (heard, silent) = (on("pi-1"), on("pi-2"));
    assert!(!heard.is_empty() && !silent.is_empty(), "{heard:?} {silent:?}");
    hub.connect("pi-2", false).await;
    hub.eventually("it is silent", |s| {
        let node = get(s, "root", "nodes", "", "pi-2").unwrap();
        condition(&node, "Ready") == "Unknown"
    })
    .await;
    hub.usage.asked();
    tokio::time::sleep(Duration::from_secs(40)).await;
    let asked = hub.usage.asked();
    assert!(!asked.is_empty() && asked.iter().all(|pod| heard.contains(pod)), "{asked:?}");
    assert_eq!(wanted(&*hub.snapshot(), "deployments", "web"), 4);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_s_autoscaler_scales_what_is_its_own() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    for realm in ["root", "pi-1"] {
        hub.create(realm, "deployments", "default", deployment("web", 1, "a:1")).await;
    }
    hub.usage.take("web", 120);
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = json!({"maxReplicas": 2, "metrics": cpu(60), "scaleTargetRef": target});
    let body = json!({"metadata": {"name": "web"}, "spec": spec});
    hub.create("pi-1", PLURAL, "default", body).await;
    hub.eventually("it has two", |s| {
        let own = get(s, "pi-1", "deployments", "default", "web").unwrap();
        own["spec"]["replicas"] == 2
    })
    .await;
    assert_eq!(wanted(&*hub.snapshot(), "deployments", "web"), 1, "the root's is not its own");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_scales_meanwhile_is_not_overruled() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.eventually("it runs", |s| list(s, "root", "pods", "default").iter().any(serves)).await;
    hub.usage.take("web", 300);
    hub.usage.tell_after(Duration::from_secs(5));
    let spec = json!({"maxReplicas": 6, "metrics": cpu(60)});
    autoscaler(&hub, ("apps/v1", "Deployment"), "web", spec).await;
    next_asked(&hub).await;
    hub.change("root", "deployments", "default", "web", |it| it["spec"]["replicas"] = json!(0))
        .await;
    let why = "the HPA controller was unable to update the target scale: Operation cannot be \
        fulfilled on deployments.apps \"web\": it has been scaled since it was looked at";
    hub.eventually("it says so", |s| {
        let it = of(s, "web");
        reason(&it, "AbleToScale") == "FailedUpdateScale" && message(&it, "AbleToScale") == why
    })
    .await;
    assert_eq!(wanted(&*hub.snapshot(), "deployments", "web"), 0);
    hub.eventually("it is off", |s| reason(&of(s, "web"), "ScalingActive") == "ScalingDisabled")
        .await;
    assert_eq!(wanted(&*hub.snapshot(), "deployments", "web"), 0);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_fails_waits_for_its_turn() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.eventually("it runs", |s| list(s, "root", "pods", "default").iter().any(serves)).await;
    hub.usage.take("web", 60);
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = json!({"maxReplicas": 1, "metrics": cpu(60), "scaleTargetRef": target});
    let body = json!({"metadata": {"name": "web", "annotations": {UNTOLD: "yes"}}, "spec": spec});
    hub.create("root", PLURAL, "default", body).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let turns = hub.usage.asked().len();
    assert!((3..=5).contains(&turns), "{turns}");
    assert_eq!(reason(&of(&*hub.snapshot(), "web"), "AbleToScale"), "", "it could not be told");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_selector_that_is_too_long_is_none() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let place = crews(&hub).await;
    let crew = json!({"apiVersion": "example.com/v1", "kind": "Crew",
        "metadata": {"name": "crew"}, "spec": {"hands": 1}});
    hub.objects.create(&WriteOptions::default(), &place, crew).await.unwrap();
    let who = format!("app in ({}web)", "web,".repeat(4999));
    let say = |mut crew: Value| {
        crew["status"]["who"] = json!(who);
        Ok(crew)
    };
    let written = hub.objects.modify(&WriteOptions::default(), &place, Some("status"), say).await;
    written.unwrap();
    autoscaler(&hub, ("example.com/v1", "Crew"), "crew", json!({"maxReplicas": 3})).await;
    let why = "couldn't convert selector into a corresponding internal selector object: it has \
        20008 bytes, and may have 16384";
    hub.eventually("it says so", |s| {
        let it = of(s, "crew");
        reason(&it, "ScalingActive") == "InvalidSelector" && message(&it, "ScalingActive") == why
    })
    .await;
    hub.eventually("it is told", |s| is_told(s, "InvalidSelector", why)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_would_not_count_is_not_asked_about() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.usage.take("web", 60);
    let pod = |name: &str, node: &str, notes: Value| {
        let requests = json!({"requests": {"cpu": "100m"}});
        json!({"metadata": {"name": name, "labels": {"app": "web"}, "annotations": notes},
            "spec": {"nodeName": node,
                "containers": [{"name": "c", "image": "a:1", "resources": requests}]}})
    };
    let is_in = |s: &dyn Snapshot, name: &str, phase: &str| {
        get(s, "root", "pods", "default", name).is_some_and(|pod| pod["status"]["phase"] == phase)
    };
    hub.create("root", "pods", "default", pod("ended", "pi-1", json!({EXITS: "0"}))).await;
    hub.eventually("it has ended", |s| is_in(s, "ended", "Succeeded")).await;
    let spec = json!({"maxReplicas": 1, "metrics": cpu(60)});
    autoscaler(&hub, ("apps/v1", "Deployment"), "web", spec).await;
    hub.eventually("it works", |s| condition(&of(s, "web"), "ScalingActive") == "True").await;
    hub.create("root", "pods", "default", pod("lost", "nowhere", json!({}))).await;
    hub.eventually("it runs, as was told", |s| is_in(s, "lost", "Running")).await;
    hub.usage.asked();
    let asked = next_asked(&hub).await;
    assert!(
        is_in(&*hub.snapshot(), "lost", "Running") && is_in(&*hub.snapshot(), "ended", "Succeeded")
    );
    assert!(asked.len() == 1 && asked[0].starts_with("web-"), "{asked:?}");
    hub.stop().await;
}
