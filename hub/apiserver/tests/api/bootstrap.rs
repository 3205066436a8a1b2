//! Objects that are there before somebody asks.

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions};
use freewheel_hub_rbac::policy;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

/// What people may do to begin with, as every cluster gives it.
pub async fn bootstrap(objects: &Objects, cluster: &ClusterName) {
    for role in policy::of(false).filter(|role| role.namespace.is_empty()) {
        let kind = kinds::find("rbac.authorization.k8s.io", "v1", role.kind.plural).unwrap();
        create_in(objects, cluster, (kind.api_version(), kind.kind()), role.value.clone()).await;
    }
}

/// Puts an object into the store without the API.
pub async fn create(objects: &Objects, api_version: &str, kind: &str, value: Value) -> Value {
    create_in(objects, &ClusterName::root(), (api_version, kind), value).await
}

/// The same in some cluster.
pub async fn create_in(
    objects: &Objects,
    cluster: &ClusterName,
    (api_version, kind): (&str, &str),
    mut value: Value,
) -> Value {
    let kind = kinds::by_kind(api_version, kind).unwrap();
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(kind.kind());
    let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default().into();
    let cluster = cluster.clone();
    let place = ObjectRef { kind: kind.clone(), cluster, namespace, name: String::new() };
    let written = objects.create(&WriteOptions::default(), &place, value).await.unwrap();
    freewheel_hub_objects::stored_value(&written.stored).unwrap()
}
