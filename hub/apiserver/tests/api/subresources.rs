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

#[tokio::test]
async fn somebody_who_looks_into_a_pod_comes_to_it_and_stays() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let made = pod(&admin, "a", &["c"]).await;
    let path = format!("{PODS}/a/ephemeralcontainers");
    // As `kubectl debug` asks for it.
    let patch = json!({"spec": {"ephemeralContainers": [
        {"name": "debugger", "image": "i", "targetContainerName": "c", "stdin": true}]}});
    let answer = admin.patch(&path, "strategic-merge-patch+json", &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let warned = answer.headers.get_all("warning").iter().filter_map(|text| text.to_str().ok());
    let text = "spokes start no further containers in a pod that runs";
    assert_eq!(warned.filter(|warning| warning.contains(text)).count(), 1);
    let mut seen = answer.json();
    assert_eq!(seen["metadata"]["generation"], 2);
    assert_eq!(seen["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    assert_eq!(seen["spec"]["containers"], made["spec"]["containers"]);
    assert_eq!(admin.get(&path).await.json()["spec"], seen["spec"]);
    // It is told of, and keeps nobody from the logs of the others.
    let status = &seen["status"]["ephemeralContainerStatuses"][0];
    assert_eq!((&status["name"], &status["image"]), (&json!("debugger"), &json!("i")));
    // `kubectl debug -it` waits for it to run, or to have ended.
    let end = &status["state"]["terminated"];
    assert_eq!((&end["reason"], &end["message"]), (&json!("ContainerCannotRun"), &json!(text)));
    let log = admin.get(&format!("{PODS}/a/log?container=debugger")).await;
    assert_eq!((log.code, log.text()), (200, String::new()));
    let why = log.headers["warning"].to_str().unwrap();
    assert!(why.contains("cannot start: spokes start no further containers"), "{why}");
    let before = admin.get(&format!("{PODS}/a/log?container=debugger&previous=true")).await;
    assert_eq!(before.code, 400, "{}", before.text());
    // By this door nothing else changes.
    seen["spec"]["containers"][0]["image"] = json!("j");
    seen["metadata"]["labels"] = json!({"a": "b"});
    let kept = admin.put(&path, &seen).await.json();
    assert_eq!(
        (&kept["spec"]["containers"][0]["image"], kept["metadata"].get("labels")),
        (&json!("i"), None)
    );
    for (change, why) in [
        (json!([]), "existing ephemeral containers \"debugger\" may not be removed\n"),
        (
            json!([{"name": "debugger", "image": "other"}]),
            "existing ephemeral containers \"debugger\" may not be changed\n",
        ),
    ] {
        let mut sent = kept.clone();
        sent["spec"]["ephemeralContainers"] = change;
        let refused = admin.put(&path, &sent).await;
        let expected = format!("Pod \"a\" is invalid: spec.ephemeralContainers: Forbidden: {why}");
        assert_eq!((refused.code, &refused.json()["message"]), (422, &json!(expected)));
    }
    let mut sent =
        json!({"metadata": {"name": "b"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    sent["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
    let refused = admin.post(PODS, &sent).await.json();
    let expected =
        "Pod \"b\" is invalid: spec.ephemeralContainers: Forbidden: cannot be set on create";
    assert_eq!(refused["message"], expected);
}

#[tokio::test]
async fn a_pod_is_asked_to_run_within_other_limits() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let made = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i",
        "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"memory": "2Mi"}}}]}});
    assert_eq!(admin.post(PODS, &made).await.code, 201);
    let path = format!("{PODS}/a/resize");
    let asked =
        |resources: Value| json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
    let patch = asked(json!({"requests": {"cpu": "200m"}, "limits": {"memory": "3Mi"}}));
    let answer = admin.patch(&path, "strategic-merge-patch+json", &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let mut warned = answer.headers.get_all("warning").iter().filter_map(|text| text.to_str().ok());
    assert!(warned.next_back().unwrap().contains("a container that runs keeps its limits"));
    let resized = answer.json();
    assert_eq!(resized["metadata"]["generation"], 2);
    let container = &resized["spec"]["containers"][0];
    let now = json!({"requests": {"cpu": "200m", "memory": "1Mi"}, "limits": {"memory": "3Mi"}});
    assert_eq!((&container["resources"], &container["image"]), (&now, &json!("i")));
    let same = admin.patch(&format!("{PODS}/a"), "strategic-merge-patch+json", &patch).await;
    assert_eq!(same.code, 200, "nothing changes by the main door");
    let more = asked(json!({"limits": {"memory": "4Mi"}}));
    let refused = admin.patch(&format!("{PODS}/a"), "strategic-merge-patch+json", &more).await;
    assert_eq!(refused.code, 422, "that is not its door");
    let fewer = asked(json!({"limits": {"memory": null}}));
    let refused = admin.patch(&path, "strategic-merge-patch+json", &fewer).await;
    let expected = "Pod \"a\" is invalid: spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed";
    assert_eq!((refused.code, &refused.json()["message"]), (422, &json!(expected)));
}
