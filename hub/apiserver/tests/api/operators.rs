//! What the hub and the agents of clusters are, as tools for Open Cluster Management ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_controllers::definitions::{Definitions, serve_established};
use freewheel_hub_controllers::engine::{self, Client as ControllerClient, Controller};
use freewheel_hub_controllers::events::Recorder;
use freewheel_hub_controllers::namespace::BootstrapObjects;
use freewheel_hub_objects::{Objects, Propagation};
use freewheel_hub_schema::object::Key;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Hub, bootstrap, create};

const GROUP: &str = "/apis/operator.open-cluster-management.io/v1";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CLUSTERS: &str = "/apis/cluster.open-cluster-management.io/v1/managedclusters";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn what_hub_and_agents_are_is_told_as_elsewhere() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let of_hub = format!("{GROUP}/clustermanagers");
    let list = admin.get(&of_hub).await.json();
    assert_eq!(list["kind"], "ClusterManagerList");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    let one = admin.get(&format!("{of_hub}/cluster-manager")).await.json();
    assert_eq!(
        (&one["kind"], &one["apiVersion"]),
        (&json!("ClusterManager"), &json!("operator.open-cluster-management.io/v1"),)
    );
    let condition = |object: &Value, kind: &str| {
        let all = object["status"]["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|it| it["type"] == kind).unwrap()["status"].clone()
    };
    assert_eq!(condition(&one, "Applied"), "True");
    assert_eq!(condition(&one, "HubRegistrationDegraded"), "False");
    hub.store_fails.store(true, Ordering::SeqCst);
    let table = admin.send("GET", &of_hub, &[("accept", TABLE)], "").await.json();
    let failing = &table["rows"][0]["cells"][2];
    assert_eq!(*failing, "HubRegistrationDegraded,HubPlacementDegraded");
    let since = async || {
        let one = admin.get(&format!("{of_hub}/cluster-manager")).await.json();
        let all = one["status"]["conditions"].as_array().unwrap().clone();
        let degraded = all.into_iter().find(|it| it["type"] == "HubPlacementDegraded").unwrap();
        degraded["lastTransitionTime"].as_str().unwrap().to_owned()
    };
    let before = since().await;
    hub.ahead.fetch_add(60, Ordering::SeqCst);
    assert_eq!(since().await, before, "it has failed since then");
    hub.store_fails.store(false, Ordering::SeqCst);
    // Nobody writes it, whoever would install a hub.
    assert_eq!(admin.post(&of_hub, &one).await.code, 405);
    assert_eq!(admin.delete(&format!("{of_hub}/cluster-manager")).await.code, 405);
    assert_eq!(admin.get(&format!("{of_hub}/other")).await.code, 404);

    let conditions = json!([
        {"type": "ManagedClusterJoined", "status": "True", "reason": "ManagedClusterJoined", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "ManagedClusterConditionAvailable", "status": "Unknown",
            "reason": "ManagedClusterLeaseUpdateStopped", "message": "The spoke is silent.",
            "lastTransitionTime": "2026-01-02T00:00:00Z"},
    ]);
    let group = "cluster.open-cluster-management.io/v1";
    for name in ["pi-7", "pi-8"] {
        create(&hub.objects, group, "ManagedCluster", json!({"metadata": {"name": name}})).await;
        bootstrap(&hub.objects, &ClusterName::try_from(name).unwrap()).await;
    }
    let told = json!({"status": {"conditions": conditions}});
    let status = format!("{CLUSTERS}/pi-7/status");
    assert_eq!(admin.patch(&status, "merge-patch+json", &told).await.code, 200);
    let of_agent = |name: &str| format!("/clusters/{name}{GROUP}/klusterlets");
    let agent = admin.get(&format!("{}/klusterlet", of_agent("pi-7"))).await.json();
    assert_eq!(agent["spec"]["clusterName"], "pi-7");
    assert_eq!(condition(&agent, "HubConnectionDegraded"), "True");
    assert_eq!(condition(&agent, "Available"), "Unknown");
    // One that has not joined has no agent, and the hub is none.
    for path in [of_agent("pi-8"), format!("{GROUP}/klusterlets")] {
        assert_eq!(admin.get(&path).await.json()["items"], json!([]), "{path}");
    }
    let elsewhere = admin.get(&format!("/clusters/pi-7{of_hub}")).await;
    assert_eq!(elsewhere.code, 404, "a spoke's cluster is no hub");
}

/// Runs what keeps definitions.
fn controllers(hub: &Hub) -> JoinSet<()> {
    let objects = &hub.objects;
    let client = |name| ControllerClient::new(objects.clone(), name, Recorder::channel(objects).0);
    let controllers: [Arc<dyn Controller>; 2] = [
        Arc::new(Definitions::new(client("customresourcedefinition-controller")).unwrap()),
        Arc::new(BootstrapObjects::new(client("bootstrap-objects")).unwrap()),
    ];
    let mut tasks = JoinSet::new();
    for controller in controllers {
        tasks.spawn(engine::run(objects.store().clone(), controller, CancellationToken::new()));
    }
    tasks
}

#[tokio::test]
async fn what_is_built_in_has_definitions_that_stay() {
    let hub = Hub::start().await;
    let _running = controllers(&hub);
    let admin = hub.admin();
    let path = format!("{DEFINITIONS}/managedclusters.cluster.open-cluster-management.io");
    let established = |value: &Value| {
        let all = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().any(|it| it["type"] == "Established" && it["status"] == "True")
    };
    let mut definition = Value::Null;
    for _ in 0..600 {
        definition = admin.get(&path).await.json();
        if established(&definition) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(established(&definition), "{definition}");
    let cluster = json!({"metadata": {"name": "pi-7"}});
    let group = "cluster.open-cluster-management.io/v1";
    create(&hub.objects, group, "ManagedCluster", cluster).await;

    let says = "this hub serves managedclusters.cluster.open-cluster-management.io itself";
    let gone = admin.delete(&path).await;
    assert_eq!(gone.code, 403, "{}", gone.text());
    assert!(gone.text().contains(says), "{}", gone.text());
    let other = json!({"spec": {"versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let changed = admin.patch(&path, "merge-patch+json", &other).await;
    assert_eq!(changed.code, 403, "{}", changed.text());
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(
        admin.patch(&path, "merge-patch+json", &label).await.code,
        200,
        "labels are anybody's"
    );
    // Where it is served without one, nobody makes another one of its name.
    let mut claims = definition.clone();
    claims["metadata"] = json!({"name": "clusterclaims.cluster.open-cluster-management.io"});
    claims["spec"]["names"] = json!({"plural": "clusterclaims", "kind": "ClusterClaim"});
    let made = admin.post(&format!("/clusters/pi-7{DEFINITIONS}"), &claims).await;
    assert_eq!(made.code, 403, "{}", made.text());

    // However it went, what it is about stays, and it comes back.
    let uid = definition["metadata"]["uid"].clone();
    remove(&hub.objects, path.rsplit('/').next().unwrap()).await;
    for _ in 0..600 {
        definition = admin.get(&path).await.json();
        if definition["metadata"]["uid"] != uid && established(&definition) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(established(&definition) && definition["metadata"]["uid"] != uid, "{definition}");
    assert_eq!(admin.get(&format!("{CLUSTERS}/pi-7")).await.code, 200);

    let again = Objects::new(hub.objects.store().clone());
    serve_established(&again);
    let found = again.kinds().of(&ClusterName::root());
    assert!(found.own().is_empty(), "what is built in is nobody's own");
}

/// As a controller removes it.
async fn remove(objects: &Objects, name: &str) {
    let recorder = Recorder::channel(objects).0;
    let client = ControllerClient::new(objects.clone(), "namespace-controller", recorder);
    let kind = kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
    let key = Key::new(kind.storage(), &ClusterName::root(), "", name);
    let stored = objects.store().snapshot().get(&key).unwrap();
    let uid = &stored.object.header.uid;
    client.delete(kind, &stored.key, uid, Propagation::Background).await.unwrap();
}
