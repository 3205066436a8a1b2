//! Of whose share of a device's link a stream is.

use std::time::Duration;

use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::{PodClient, Principal};
use serde_json::{Value, json};

use crate::endings::{cluster, pod};
use crate::port_forwards::{WEBSOCKET, upgrade};
use crate::support::{Client, Hub};

const POD: &str = "/clusters/pi-7/api/v1/namespaces/default/pods/p";

/// Somebody whom that cluster alone lets in, and who may do everything there.
async fn confined(hub: &Hub, site: &Client) -> Client {
    let path = "/apis/cluster.open-cluster-management.io/v1/managedclusters/pi-7";
    let uid = hub.admin().get(path).await.json()["metadata"]["uid"].as_str().unwrap().to_owned();
    let rbac = "/clusters/pi-7/apis/rbac.authorization.k8s.io/v1";
    let post = async |path: &str, object: Value| {
        let answer = site.post(&format!("{rbac}/{path}"), &object).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    };
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    post("clusterroles", json!({"metadata": {"name": "all"}, "rules": all})).await;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({"metadata": {"name": "all"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "all"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "own"}]});
    post("clusterrolebindings", binding).await;
    let own = hub.authority.client("own", &format!("freewheel:cluster:pi-7:{uid}"));
    let own = hub.client(Some(&own));
    for _ in 0..100 {
        if own.get(&format!("{POD}/log")).await.code == 200 {
            return own;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("its role does not count");
}

#[tokio::test]
async fn streams_are_of_the_share_of_who_answers_for_them() {
    let hub = Hub::start().await;
    let site = cluster(&hub).await;
    pod(&site, "quiet").await;
    let address = json!({"status": {"podIP": "10.64.0.2"}}).to_string();
    let patch = [("content-type", "application/merge-patch+json")];
    let placed = site.send("PATCH", &format!("{POD}/status"), &patch, address).await;
    assert_eq!(placed.code, 200, "{}", placed.text());
    let own = confined(&hub, &site).await;
    hub.clients.lock().unwrap().clear();
    let ask = async |client: &Client, named: &[(&str, &str)]| {
        let log = client.send("GET", &format!("{POD}/log"), named, "").await;
        assert_eq!(log.code, 200, "{}", log.text());
        let through = client.send("GET", &format!("{POD}:8080/proxy/x"), named, "").await;
        assert_eq!(through.code, 200, "{}", through.text());
        let asked = ("sec-websocket-protocol", "v5.channel.k8s.io");
        let headers = [&WEBSOCKET[..], &[asked], named].concat();
        let path = format!("{POD}/exec?command=cat&stdout=true");
        drop(upgrade(client, "GET", &path, &headers).await.unwrap());
        let path = format!("{POD}/attach?stdout=true");
        drop(upgrade(client, "GET", &path, &headers).await.unwrap());
        std::mem::take(&mut *hub.clients.lock().unwrap())
    };
    let pi = ClusterName::try_from("pi-7").unwrap();
    let theirs = PodClient::new(&pi, Principal::Cluster(pi.clone(), "own".into()));
    assert_eq!(ask(&own, &[]).await, vec![theirs.clone(); 4]);
    for name in ["system:apiserver", "kubernetes-admin", "u1"] {
        let named = [("impersonate-user", name), ("impersonate-group", "system:masters")];
        assert_eq!(ask(&own, &named).await, vec![theirs.clone(); 4], "{name}");
    }
    let admin = PodClient::new(&pi, Principal::Root("admin".into()));
    assert_eq!(ask(&hub.admin(), &[]).await, vec![admin; 4]);
}
