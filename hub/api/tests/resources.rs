//! Kinds are named and served as by a kube-apiserver 1.36: names, verbs, categories, subresources.

use std::sync::Arc;

use freewheel_hub_api::kinds::fleet::cluster_profile;
use freewheel_hub_api::kinds::{self, resource_metrics};
use freewheel_hub_schema::kind::{Kind, Subresource};
use serde_json::{Map, Value, json};

/// What discovery says of a kind.
fn main_entry(kind: &Kind) -> Value {
    let mut entry = Map::new();
    entry.insert("groupVersion".to_owned(), kind.api_version().into());
    entry.insert("name".to_owned(), kind.plural().into());
    entry.insert("singularName".to_owned(), kind.singular().into());
    entry.insert("kind".to_owned(), kind.kind().into());
    entry.insert("namespaced".to_owned(), kind.namespaced.into());
    entry.insert("verbs".to_owned(), json!(kind.verbs));
    for (key, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !list.is_empty() {
            entry.insert(key.to_owned(), json!(list));
        }
    }
    Value::Object(entry)
}

/// What discovery says of a subresource.
fn sub_entry(kind: &Kind, sub: &Subresource) -> Value {
    let mut entry = json!({
        "groupVersion": kind.api_version(), "name": format!("{}/{}", kind.plural(), sub.name),
        "singularName": "", "kind": sub.kind, "namespaced": kind.namespaced, "verbs": sub.verbs,
    });
    if let Some((group, version)) = &sub.group_version {
        entry["group"] = json!(group);
        entry["version"] = json!(version);
    }
    entry
}

#[test]
fn kinds_are_those_of_kube_apiserver() {
    let recorded: Vec<Value> =
        serde_json::from_str(include_str!("fixtures/kube-apiserver-resources.json")).unwrap();
    let foreign = ["open-cluster-management.io", cluster_profile::GROUP, resource_metrics::GROUP];
    let own = |kind: &&Arc<Kind>| !foreign.iter().any(|group| kind.group().ends_with(group));
    for kind in kinds::all().iter().filter(own) {
        assert!(recorded.contains(&main_entry(kind)), "{kind:?}: {}", main_entry(kind));
        for sub in &kind.subresources {
            let entry = sub_entry(kind, sub);
            assert!(recorded.contains(&entry), "{kind:?}/{}: {entry}", sub.name);
        }
    }
}

/// As the APIResourceList of metrics-server 0.8 has them.
#[test]
fn metrics_are_served_as_by_metrics_server() {
    for (plural, kind, namespaced) in
        [("nodes", "NodeMetrics", false), ("pods", "PodMetrics", true)]
    {
        let entry = main_entry(kinds::find(resource_metrics::GROUP, "v1beta1", plural).unwrap());
        let expected = json!({
            "groupVersion": "metrics.k8s.io/v1beta1", "name": plural, "singularName": "",
            "kind": kind, "namespaced": namespaced, "verbs": ["get", "list"],
        });
        assert_eq!(entry, expected);
    }
}

#[test]
fn a_spoke_is_named_as_in_open_cluster_management() {
    let kind = kinds::by_kind("cluster.open-cluster-management.io/v1", "ManagedCluster").unwrap();
    assert_eq!(kind.short_names, ["mcl", "mcls"]);
    assert!(!kind.namespaced);
    let columns: Vec<_> = kind.columns.iter().map(|column| &column.name).collect();
    assert_eq!(
        columns,
        ["Name", "Hub Accepted", "Managed Cluster URLs", "Joined", "Available", "Age"]
    );
}
