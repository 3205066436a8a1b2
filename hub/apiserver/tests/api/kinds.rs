//! Kinds of all groups through the API: warned of, listed as tables, watched.

use serde_json::{Value, json};

use crate::support::Hub;

/// Path of the collection, what is made, what its maker is warned of, and the cells of its row but the age.
fn cases() -> Vec<(&'static str, Value, &'static str, Value)> {
    let pods = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "hello"}]}});
    let once = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "hello"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    vec![
        (
            "/apis/apps/v1/namespaces/default/daemonsets",
            json!({"spec": {"selector": selector, "template": pods}}),
            "",
            json!(["x", 0, 0, 0, 0, 0, "<none>"]),
        ),
        (
            "/apis/batch/v1/namespaces/default/jobs",
            json!({"spec": {"template": once}}),
            "",
            json!(["x", "Running", "0/1", ""]),
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": target}}),
            "",
            json!(["x", "Deployment/web", "cpu: <unknown>/80%", "1", 3, 0]),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            json!({"spec": {"podSelector": selector}}),
            "NetworkPolicy: kept without effect: it is NOT enforced yet",
            json!(["x", "a=b"]),
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"provisioner": "example.com/disk"}),
            "StorageClass: kept without effect: ",
            json!(["x", "example.com/disk", "Delete", "Immediate", false]),
        ),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            json!({"value": 5}),
            "",
            json!(["x", 5, false]),
        ),
    ]
}

#[tokio::test]
async fn kinds_are_warned_of_listed_and_watched() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for (path, mut body, warned, row) in cases() {
        let mut watch = admin.watch(&format!("{path}?watch=1")).await;
        body["metadata"] = json!({"name": "x"});
        let made = admin.post(path, &body).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let warning = made.headers.get("warning").map(|text| text.to_str().unwrap());
        assert!(warning.unwrap_or_default().contains(warned), "{path}: {warning:?}");
        assert_eq!(warning.is_none(), warned.is_empty(), "{path}: {warning:?}");
        assert_eq!(watch.brief().await, ("ADDED".to_owned(), "x".to_owned()));
        let as_table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        let table = admin.send("GET", path, &as_table, String::new()).await.json();
        let mut cells = table["rows"][0]["cells"].as_array().unwrap().clone();
        cells.truncate(row.as_array().unwrap().len());
        assert_eq!(json!(cells), row, "{path}");
    }
}

#[tokio::test]
async fn an_autoscaler_is_warned_of_metrics_that_nobody_measures() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let requests = json!({"type": "Pods", "pods": {"metric": {"name": "requests"},
        "target": {"type": "AverageValue", "averageValue": "10"}}});
    let body = json!({"metadata": {"name": "x"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": target, "metrics": [requests]}});
    let made = admin.post(path, &body).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let expected =
        "spec.metrics[0].pods: kept without effect: nobody serves custom.metrics.k8s.io here";
    let warnings: Vec<_> = made.headers.get_all("warning").iter().collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].to_str().unwrap().contains(expected), "{warnings:?}");
}

#[tokio::test]
async fn who_deletes_a_cluster_is_told_that_its_device_goes_on() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let clusters = "/apis/cluster.open-cluster-management.io/v1/managedclusters";
    let joined = json!({"status": {"conditions": [{
        "type": "ManagedClusterJoined", "status": "True", "reason": "ManagedClusterJoined", "message": "",
        "lastTransitionTime": "2026-12-01T00:00:00Z",
    }]}});
    for name in ["pi-7", "pi-8"] {
        let made =
            json!({"metadata": {"name": name, "annotations": {"freewheel.dev/agent-key": "k1"}}});
        assert_eq!(admin.post(clusters, &made).await.code, 201);
    }
    let status = format!("{clusters}/pi-7/status");
    assert_eq!(admin.patch(&status, "merge-patch+json", &joined).await.code, 200);
    let warned = async |name: &str| {
        let answer = admin.delete(&format!("{clusters}/{name}")).await;
        assert_eq!(answer.code, 200, "{}", answer.text());
        let all = answer.headers.get_all("warning").iter();
        all.map(|text| text.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = warned("pi-7").await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0].contains("the device pi-7 goes on running its pods"), "{first:?}");
    assert!(first[0].contains("`hub decommission pi-7 --key k1`"), "{first:?}");
    assert_eq!(warned("pi-7").await, [""; 0], "it is going already");
    assert_eq!(warned("pi-8").await, [""; 0], "no device has ever been let in");
}
