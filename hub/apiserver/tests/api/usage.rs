//! What nodes and pods take, as metrics-server tells it.

use std::time::Duration;

use freewheel_hub_schema::object::Resource;
use freewheel_hub_schema::protobuf;
use freewheel_hub_store::Scope;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::bootstrap::create_in;
use crate::support::{Answer, Client, Hub, create};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "web", "image": "web:1"}]},
    })
}

/// With two devices that answer, one that is away, and something that is none.
async fn hub() -> Hub {
    let hub = Hub::start().await;
    for name in ["pi-7", "pi-8", "away", "no.device"] {
        let node = json!({"metadata": {"name": name, "labels": {"site": name}}});
        create(&hub.objects, "v1", "Node", node).await;
    }
    for (name, node) in [("web", "pi-7"), ("lost", "away"), ("other", "pi-8")] {
        create(&hub.objects, "v1", "Pod", pod(name, node)).await;
    }
    hub
}

async fn list(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await;
    assert_eq!(answer.code, 200, "{path}: {}", answer.text());
    answer.json()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn metrics_are_told_as_by_metrics_server() {
    let hub = hub().await;
    let admin = hub.admin();
    let nodes = list(&admin, &format!("{METRICS}/nodes")).await;
    assert_eq!((&nodes["kind"], names(&nodes)), (&json!("NodeMetricsList"), vec!["pi-7", "pi-8"]));
    assert_eq!(nodes["items"][0]["metadata"]["labels"], json!({"site": "pi-7"}));
    assert_eq!(nodes["items"][0]["usage"], json!({"cpu": "0", "memory": "0"}));
    assert_eq!(nodes["items"][0].get("kind"), None);
    let some = list(&admin, &format!("{METRICS}/nodes?labelSelector=site%3Dpi-8")).await;
    assert_eq!(names(&some), ["pi-8"]);
    let one = list(&admin, &format!("{METRICS}/nodes?fieldSelector=metadata.name%3Dpi-7")).await;
    assert_eq!(names(&one), ["pi-7"]);

    // Of `other` the device says nothing, of `lost` there is none.
    for path in ["pods", "namespaces/default/pods"] {
        let pods = list(&admin, &format!("{METRICS}/{path}")).await;
        assert_eq!((&pods["kind"], names(&pods)), (&json!("PodMetricsList"), vec!["web"]));
    }
    assert!(names(&list(&admin, &format!("{METRICS}/namespaces/none/pods")).await).is_empty());
    let pod = list(&admin, &format!("{METRICS}/namespaces/default/pods/web")).await;
    let meta = &pod["metadata"];
    assert_eq!((&pod["kind"], &meta["labels"]), (&json!("PodMetrics"), &json!({"app": "web"})));
    assert_eq!((&meta["namespace"], &meta["uid"]), (&json!("default"), &Value::Null));
    let usage = json!({"cpu": "0", "memory": "0"});
    assert_eq!(pod["containers"], json!([{"name": "web", "usage": usage}]));
    // A second, and what passes until it is asked again.
    let window = pod["window"].as_str().and_then(|it| it.strip_suffix('s')).unwrap();
    assert!((1.0..60.0).contains(&window.parse().unwrap()), "{window}");
    assert_eq!(pod["timestamp"].as_str().unwrap().len(), "2027-01-15T08:00:00Z".len());

    let wanted = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let path = format!("{METRICS}/nodes");
    let table = admin.send("GET", &path, &[("accept", wanted)], "").await.json();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let columns: Vec<&str> = columns.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "cpu", "memory", "Window"]);
    assert_eq!(table["rows"][1]["cells"][0], "pi-8");
    assert_eq!(table["rows"][1]["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn metrics_are_told_in_protobuf() {
    let hub = hub().await;
    let admin = hub.admin();
    for path in ["nodes", "nodes/pi-7", "pods", "namespaces/default/pods/web"] {
        let path = format!("{METRICS}/{path}");
        let mut told = list(&admin, &path).await;
        // kubectl top asks so.
        let wanted = "application/vnd.kubernetes.protobuf, */*";
        let answer = admin.send("GET", &path, &[("accept", wanted)], "").await;
        assert_eq!(answer.headers["content-type"], "application/vnd.kubernetes.protobuf");
        let mut read = protobuf::decode(&answer.bytes).unwrap();
        for value in [&mut told, &mut read] {
            forget_times(value);
        }
        assert_eq!(read, told, "{path}");
    }
    let document = list(&admin, "/openapi/v3/apis/metrics.k8s.io/v1beta1").await;
    let schemas = &document["components"]["schemas"];
    let pod = &schemas["io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"];
    assert_eq!(pod["required"], json!(["containers", "timestamp", "window"]));
    assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "PodMetrics");
    let list_kind = &schemas["io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetricsList"];
    assert_eq!(list_kind["required"], json!(["items"]), "{schemas}");
    let answers = &document["paths"]["/apis/metrics.k8s.io/v1beta1/nodes"]["get"]["responses"];
    assert!(answers["200"]["content"]["application/vnd.kubernetes.protobuf"].is_object());
}

/// The two were asked for at different times, and what is left out of a list has its type from there.
fn forget_times(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        Value::Object(map) => {
            for key in ["creationTimestamp", "timestamp", "window"] {
                map.remove(key);
            }
            map.values_mut().for_each(forget_times);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn said(answer: &Answer) -> (u16, String) {
    (answer.code, answer.json()["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn what_nobody_measured_is_not_found() {
    let hub = hub().await;
    let admin = hub.admin();
    for (path, expected) in [
        ("nodes/nobody", "nodes \"nobody\" not found"),
        ("nodes/away", "nodemetrics.metrics.k8s.io \"away\" not found"),
        ("nodes/no.device", "nodemetrics.metrics.k8s.io \"no.device\" not found"),
        ("namespaces/default/pods/nobody", "pods \"nobody\" not found"),
        ("namespaces/default/pods/other", "podmetrics.metrics.k8s.io \"default/other\" not found"),
        ("namespaces/default/pods/lost", "podmetrics.metrics.k8s.io \"default/lost\" not found"),
    ] {
        let answer = admin.get(&format!("{METRICS}/{path}")).await;
        assert_eq!(said(&answer), (404, expected.to_owned()), "{path}");
    }
    let answer = admin.get(&format!("{METRICS}/nodes?fieldSelector=spec.x%3Dy")).await;
    assert_eq!(answer.code, 400, "{}", answer.text());
    for (method, path) in [
        ("GET", "nodes?watch=true"),
        ("DELETE", "nodes/pi-7"),
        ("POST", "nodes"),
        ("PATCH", "nodes/pi-7"),
    ] {
        let answer = admin.send(method, &format!("{METRICS}/{path}"), &[], "").await;
        assert_eq!(answer.code, 405, "{method} {path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_cluster_sees_what_its_own_device_says_of_it() {
    let hub = hub().await;
    let (admin, group) = (hub.admin(), "cluster.open-cluster-management.io/v1");
    create(&hub.objects, group, "ManagedCluster", json!({"metadata": {"name": "pi-7"}})).await;
    let own = ClusterName::try_from("pi-7").unwrap();
    create_in(&hub.objects, &own, ("v1", "Namespace"), json!({"metadata": {"name": "default"}}))
        .await;
    for name in ["pi-7", "pi-8"] {
        let node = json!({"metadata": {"name": name}});
        create_in(&hub.objects, &own, ("v1", "Node"), node).await;
    }
    for (name, node) in [("web", "pi-7"), ("other", "pi-8")] {
        create_in(&hub.objects, &own, ("v1", "Pod"), pod(name, node)).await;
    }
    let here = format!("/clusters/pi-7{METRICS}");
    assert_eq!(names(&list(&admin, &format!("{here}/nodes")).await), ["pi-7"]);
    assert_eq!(names(&list(&admin, &format!("{here}/pods")).await), ["web"]);
    let answer = admin.get(&format!("{here}/nodes/pi-8")).await;
    assert_eq!(answer.code, 404, "a node that somebody wrote leads to no device of others");
    let resources = list(&admin, &here).await;
    assert_eq!(resources["resources"][0]["kind"], "NodeMetrics");
}

#[tokio::test]
async fn metrics_are_read_by_those_who_may_view() {
    let hub = hub().await;
    let jane = hub.client(Some(&hub.authority.client("jane", "people")));
    let pods = format!("{METRICS}/namespaces/default/pods");
    let answer = jane.get(&pods).await;
    let text = "pods.metrics.k8s.io is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"metrics.k8s.io\" in the namespace \"default\"";
    assert_eq!(said(&answer), (403, text.to_owned()));
    let binding = json!({
        "metadata": {"name": "jane"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregated-metrics-reader"},
    });
    let group = "rbac.authorization.k8s.io/v1";
    create(&hub.objects, group, "ClusterRoleBinding", binding).await;
    assert_eq!(names(&list(&jane, &pods).await), ["web"]);
}

#[tokio::test]
async fn a_pod_s_own_device_alone_is_asked() {
    let hub = hub().await;
    let admin = hub.admin();
    let asked = || hub.figures_asked.lock().unwrap().clone();
    let path = format!("{METRICS}/namespaces/default/pods/web");
    list(&admin, &path).await;
    assert_eq!(asked(), ["pi-7", "pi-7"]);
    list(&admin, &path).await;
    assert_eq!(asked().len(), 2, "it was asked a moment ago");
}

#[tokio::test]
async fn who_looks_from_inside_the_hub_sees_what_the_api_shows() {
    let hub = hub().await;
    let store = hub.objects.store();
    let all = |cluster: &ClusterName| {
        let resource = Resource::new("", "pods");
        let scope = Scope { resource, cluster: Some(cluster.clone()), namespace: None };
        store.snapshot().range(&scope, None).collect::<Vec<_>>()
    };
    let root = ClusterName::root();
    let told = hub.usage.of_pods(&**store, &root, all(&root)).await;
    let names: Vec<&str> = told.iter().map(|pod| &*pod.key.name).collect();
    assert_eq!(names, ["web"], "of `other` its device says nothing, and of `lost` there is none");
    assert_eq!(told[0].containers.len(), 1);
    let container = &told[0].containers[0];
    let figures = (&*container.name, container.cpu_nanos, container.memory);
    assert_eq!(figures, ("web", 0, 0));
    assert!(Duration::from_secs(1) <= told[0].window, "{:?}", told[0].window);
    let path = format!("{METRICS}/namespaces/default/pods/web");
    let shown = list(&hub.admin(), &path).await;
    assert_eq!(shown["timestamp"], freewheel_hub_schema::time::from_unix(told[0].at));
    let asked = hub.figures_asked.lock().unwrap().iter().filter(|name| *name == "pi-7").count();
    assert_eq!(asked, 2, "who looks at the API has the same answer");
    let gone = ClusterName::try_from("gone").unwrap();
    assert!(hub.usage.of_pods(&**store, &gone, all(&root)).await.is_empty());
}
