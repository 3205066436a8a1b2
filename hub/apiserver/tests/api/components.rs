//! How the parts of the hub are, as `kubectl get componentstatuses` asks.

use std::sync::atomic::Ordering;

use freewheel_link::names::ClusterName;
use serde_json::json;

use crate::bootstrap::bootstrap;
use crate::support::{Hub, create};

const ALL: &str = "/api/v1/componentstatuses";

#[tokio::test]
async fn components_are_the_checks_of_the_hub() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let list = admin.get(ALL).await;
    let warning = r#"299 - "v1 ComponentStatus is deprecated in v1.19+""#;
    assert_eq!(list.headers["warning"], warning);
    let list = list.json();
    assert_eq!(list["kind"], "ComponentStatusList");
    let healthy = json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
    let store = json!({"metadata": {"name": "store"}, "conditions": healthy});
    assert_eq!(list["items"], json!([store]));
    let one = admin.get(&format!("{ALL}/store")).await.json();
    assert_eq!((&one["kind"], &one["conditions"]), (&json!("ComponentStatus"), &healthy));
    let none = admin.get(&format!("{ALL}?fieldSelector=metadata.name%3Dother")).await.json();
    assert_eq!(none["items"], json!([]));
    let missing = admin.get(&format!("{ALL}/etcd-0")).await;
    assert_eq!((missing.code, &missing.json()["reason"]), (404, &json!("NotFound")));
    assert_eq!(admin.post(ALL, &store).await.code, 405);

    let spoke = json!({"metadata": {"name": "pi-7"}});
    create(&hub.objects, "cluster.open-cluster-management.io/v1", "ManagedCluster", spoke).await;
    bootstrap(&hub.objects, &ClusterName::try_from("pi-7").unwrap()).await;
    hub.store_fails.store(true, Ordering::SeqCst);
    let wanted = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    for (path, why) in
        [(ALL, "no space left"), ("/clusters/pi-7/api/v1/componentstatuses", "reason withheld")]
    {
        let table = admin.send("GET", path, &[("accept", wanted)], "").await.json();
        assert_eq!(table["rows"][0]["cells"], json!(["store", "Unhealthy", "", why]), "{path}");
    }
    let sick = admin.get(&format!("{ALL}/store")).await.json();
    let told = json!([{"type": "Healthy", "status": "False", "error": "no space left"}]);
    assert_eq!(sick["conditions"], told);
}
