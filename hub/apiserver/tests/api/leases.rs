//! The Leases of Nodes are renewed as they are read, and never written for it.

use crate::support::{Client, Hub, create};
use freewheel_hub_objects::internal::{SessionRecord, session_key};
use freewheel_hub_store::{Operation, Txn};
use serde_json::{Value, json};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const LONG_AGO: &str = "2020-01-01T00:00:00.000000Z";

/// Writes that a spoke's session began or ended.
async fn session(hub: &Hub, spoke: &str, connected: bool) {
    let session = SessionRecord { epoch: 1, connected, ..SessionRecord::default() };
    let operations = vec![Operation::Put(session_key(spoke), session.to_object())];
    let written = hub.objects.store().commit(Txn { expect: Vec::new(), operations }).await;
    assert!(written.is_ok(), "{written:?}");
}

async fn lease(hub: &Hub, namespace: &str, name: &str) {
    let lease = json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"holderIdentity": name, "renewTime": LONG_AGO},
    });
    create(&hub.objects, "coordination.k8s.io/v1", "Lease", lease).await;
}

async fn read(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn the_lease_of_a_connected_node_is_renewed_now() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": "kube-node-lease"}})).await;
    for name in ["pi-1", "pi-2", "pi-3"] {
        lease(&hub, "kube-node-lease", name).await;
    }
    lease(&hub, "default", "pi-1").await;
    session(&hub, "pi-1", true).await;
    session(&hub, "pi-2", false).await;
    let written = hub.objects.store().snapshot().revision();

    let connected = read(&admin, &format!("{LEASES}/pi-1")).await;
    let renewed = connected["spec"]["renewTime"].as_str().unwrap();
    assert!("2026" <= renewed && renewed.len() == LONG_AGO.len(), "{renewed}");
    assert_eq!(connected["spec"]["holderIdentity"], "pi-1");
    let list = read(&admin, LEASES).await;
    let is_new: Vec<bool> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lease| lease["spec"]["renewTime"] != LONG_AGO)
        .collect();
    assert_eq!(is_new, [true, false, false], "{list}");

    for (path, why) in [
        (format!("{LEASES}/pi-2"), "its session has ended"),
        (format!("{LEASES}/pi-3"), "it never had a session"),
        ("/apis/coordination.k8s.io/v1/namespaces/default/leases/pi-1".to_owned(), "no Node's"),
    ] {
        assert_eq!(read(&admin, &path).await["spec"]["renewTime"], LONG_AGO, "{why}");
    }
    assert_eq!(hub.objects.store().snapshot().revision(), written, "reading writes nothing");
}
