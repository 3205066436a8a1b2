//! status, scale, log, binding, eviction, approval; and the end of a server.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};

use crate::support::{Client, Hub};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn pod(client: &Client, name: &str, containers: &[&str]) -> Value {
    let containers: Vec<Value> =
        containers.iter().map(|name| json!({"name": name, "image": "i"})).collect();
    let pod = json!({"metadata": {"name": name}, "spec": {"containers": containers}});
    let answer = client.post(PODS, &pod).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

async fn bind(client: &Client, name: &str, node: &str) -> u16 {
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
    client.post(&format!("{PODS}/{name}/binding"), &binding).await.code
}

#[tokio::test]
async fn a_deployment_is_scaled_through_its_subresource() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    let answer = admin.post(DEPLOYMENTS, &deployment).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let path = format!("{DEPLOYMENTS}/d/scale");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = admin.send("GET", &path, &accept, "").await.json();
    let columns = table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]);
    assert_eq!(columns.collect::<Vec<_>>(), ["Name", "Desired", "Available", "Age"]);
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..3],
        [json!("d"), json!(1), json!(0)]
    );
    let mut scale = admin.get(&path).await.json();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = json!(3);
    assert_eq!(admin.put(&path, &scale).await.json()["spec"]["replicas"], 3);
    assert_eq!(admin.put(&path, &scale).await.code, 409, "its revision is old now");
    let patch = json!({"spec": {"replicas": 0}});
    let answer = admin.patch(&path, "merge-patch+json", &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_eq!(admin.get(&format!("{DEPLOYMENTS}/d")).await.json()["spec"]["replicas"], 0);
}

#[tokio::test]
async fn a_pod_is_bound_once_and_its_log_comes_from_there() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", &["a", "b"]).await;
    let log = format!("{PODS}/p/log");
    assert_eq!(admin.get(&log).await.code, 400);
    assert_eq!(bind(&admin, "p", "pi-7").await, 201);
    assert_eq!(bind(&admin, "p", "pi-8").await, 409);
    let bound = admin.get(&format!("{PODS}/p")).await.json();
    assert_eq!(bound["spec"]["nodeName"], "pi-7");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");

    assert_eq!(
        admin.get(&log).await.json()["message"],
        "a container name must be specified for pod p, choose one of: [a b]"
    );
    let log = format!("{log}?container=b");
    assert_eq!(
        admin.get(&log).await.json()["message"],
        r#"container "b" in pod "p" is waiting to start: ContainerCreating"#
    );
    let mut running = bound.clone();
    running["status"]["containerStatuses"] = json!([{
        "name": "b", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-20T12:00:00Z"}},
    }]);
    let answer = admin.put(&format!("{PODS}/p/status"), &running).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let answer = admin.get(&log).await;
    assert_eq!(answer.text(), "pi-7 b\n");
    assert_eq!(answer.headers["content-type"], "text/plain");
    // A client may send on although nobody asked it to: the log ends once.
    let sends = futures::stream::iter(0..20).then(|_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b" ")))
    });
    let answer = admin.send_body_over_h2("GET", &log, StreamBody::new(Box::pin(sends))).await;
    assert_eq!(answer.text(), "pi-7 b\n");
}

#[tokio::test]
async fn a_binding_names_its_pod_in_the_path_or_in_the_body() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", &["a"]).await;
    let all = "/api/v1/namespaces/default/bindings";
    let node = json!({"kind": "Node", "name": "pi-7"});
    assert_eq!(admin.post(all, &json!({"target": node})).await.code, 422);
    let other = json!({"metadata": {"name": "q"}, "target": node});
    assert_eq!(admin.post(all, &other).await.code, 404);
    assert_eq!(admin.post(&format!("{PODS}/p/binding"), &other).await.code, 400);
    let binding = json!({"metadata": {"name": "p"}, "target": node});
    assert_eq!(admin.get(all).await.code, 405);
    assert_eq!(admin.post("/api/v1/bindings", &binding).await.code, 405);
    let answer = admin.post(all, &binding).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let bound = admin.get(&format!("{PODS}/p")).await.json();
    assert_eq!(bound["spec"]["nodeName"], "pi-7");
    assert_eq!(bound["status"]["conditions"][0]["observedGeneration"], 1);
    let someone = hub.client(Some(&hub.authority.client("x", "people")));
    let answer = someone.post(all, &binding).await;
    assert!(answer.text().contains("cannot create resource \\\"bindings\\\""), "{}", answer.text());
}

#[tokio::test]
async fn metadata_goes_through_the_status_door() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", &["a"]).await;
    let path = format!("{PODS}/p/status");
    let patch = json!({"metadata": {"annotations": {"seen": "yes"}, "labels": {"l": "1"}},
        "spec": {"hostname": "other"}, "status": {"message": "hi"}});
    let answer = admin.patch(&path, "merge-patch+json", &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let mut after = answer.json();
    assert_eq!(after["metadata"]["annotations"]["seen"], "yes");
    assert_eq!(
        (&after["metadata"]["labels"]["l"], &after["status"]["message"]),
        (&json!("1"), &json!("hi"))
    );
    assert!(after["spec"].get("hostname").is_none());
    after["metadata"]["annotations"]["seen"] = json!("twice");
    let answer = admin.put(&path, &after).await;
    assert_eq!(answer.json()["metadata"]["annotations"]["seen"], "twice", "{}", answer.text());
    let wrong = json!({"metadata": {"labels": {"a b": "c"}}});
    assert_eq!(admin.patch(&path, "merge-patch+json", &wrong).await.code, 422);
}

#[tokio::test]
async fn a_pod_is_evicted() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", &["a"]).await;
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 0},
    });
    pod(&admin, "q", &["a"]).await;
    for about in [json!({"name": "q"}), json!({}), json!({"name": "p", "namespace": "attic"})] {
        let mut other = eviction.clone();
        other["metadata"] = about;
        let answer = admin.post(&format!("{PODS}/p/eviction"), &other).await;
        assert_eq!((answer.code, &answer.json()["reason"]), (400, &json!("BadRequest")), "{other}");
    }
    assert_eq!(admin.get(&format!("{PODS}/p")).await.code, 200);
    let answer = admin.post(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(admin.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test]
async fn a_bound_pod_goes_when_its_spoke_says_so() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", &["a"]).await;
    bind(&admin, "p", "pi-7").await;
    let answer = admin.delete(&format!("{PODS}/p")).await;
    assert_eq!(answer.code, 200);
    assert!(answer.json()["metadata"]["deletionTimestamp"].is_string(), "{}", answer.text());
    let force = admin.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await;
    assert_eq!((force.code, &force.json()["kind"]), (200, &json!("Pod")));
    assert_eq!(admin.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test]
async fn a_server_that_stops_ends_its_watches_and_returns() {
    let hub = Hub::start().await;
    let mut watch = hub.admin().watch("/api/v1/namespaces?watch=true").await;
    assert_eq!(watch.brief().await.0, "ADDED");
    assert_eq!(watch.brief().await.0, "ADDED");
    drop(hub.stop);
    assert_eq!(watch.next().await, None);
    let served = tokio::time::timeout(Duration::from_secs(10), hub.served).await;
    assert!(served.expect("it returns in time").unwrap().is_ok());
}
