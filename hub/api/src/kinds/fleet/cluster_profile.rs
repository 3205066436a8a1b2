//! ClusterProfile of SIG Multicluster: a cluster of the fleet, as tools find it that know nothing of Open Cluster Management.
//!
//! Guarantees:
//! - whose it is stays as it is (`a_profile_is_its_managers_for_good`);
//! - of a cluster it says what its ManagedCluster says (`a_profile_says_what_its_cluster_says`).

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::types::Schema;
use serde_json::{Value, json};

use super::Rules;
use crate::kinds::accessors::{condition, list, text};
use crate::kinds::field_value::FieldValue;
use crate::kinds::managed_cluster::CLUSTER_NAME_LABEL;

/// The API group.
pub const GROUP: &str = "multicluster.x-k8s.io";
/// Who makes them for the hub's own clusters, as Open Cluster Management calls itself.
pub const MANAGER: &str = "open-cluster-management";
/// Label of a profile: who made it.
pub const MANAGER_LABEL: &str = "x-k8s.io/cluster-manager";
const SET_LABEL: &str = "multicluster.x-k8s.io/clusterset";
/// Label of a cluster: the one set that it is in by that.
const EXCLUSIVE_SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";
/// Where its words are found.
pub(crate) const COMPONENTS: &str = "io.x-k8s.multicluster.v1alpha1.";
/// What is said of it.
pub(crate) const DESCRIPTIONS: &[(&str, &str, &str)] = &[
    ("ClusterProfile", "", "A cluster of a fleet, as whoever manages it describes it."),
    ("ClusterProfile", "spec", "Who manages it, and how it is called for people."),
    ("ClusterProfile", "status", "How it is, what it tells of itself, and how it is reached."),
];

/// ClusterProfile of multicluster.x-k8s.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes,
        changes: |new, old| {
            let manager = FieldValue::of(new, "spec").child("clusterManager");
            let before = FieldValue::of(old, "spec").child("clusterManager");
            let differs = before.value != manager.value;
            differs.then(|| manager.invalid("ClusterManager is immutable")).into_iter().collect()
        },
        ..Rules::new(GROUP, "v1alpha1", "ClusterProfile")
    };
    let kind = rules.kind("clusterprofiles");
    match Schema::structural(&Gvk::new(GROUP, "v1alpha1", "ClusterProfile"), &schema()) {
        Ok(schema) => kind.with_schema(schema),
        // Nothing would be said of its fields; a test reads them.
        Err(_) => kind,
    }
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    let name = FieldValue::of(object, "spec").child("clusterManager").child("name");
    let mut found: Vec<FieldError> = name.must_be().into_iter().collect();
    for property in FieldValue::of(object, "status").child("properties").items() {
        for (field, most) in [("name", 253), ("value", 1024)] {
            let place = property.child(field);
            found.extend(place.must_be().or_else(|| place.no_longer(most)));
        }
    }
    found
}

fn schema() -> Value {
    let string = || json!({"type": "string"});
    let by = |key: &str, item: Value| json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key], "items": item});
    let condition = json!({"type": "object", "properties": {
        "type": string(), "status": string(), "reason": string(), "message": string(),
        "observedGeneration": {"type": "integer", "format": "int64"},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
    }});
    let property = json!({"type": "object", "properties": {
        "name": string(), "value": string(),
        "lastObservedTime": {"type": "string", "format": "date-time"},
    }});
    let extension = json!({"type": "object", "properties": {
        "name": string(), "extension": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let cluster = json!({"type": "object", "properties": {
        "server": string(), "tls-server-name": string(), "certificate-authority": string(),
        "certificate-authority-data": {"type": "string", "format": "byte"}, "proxy-url": string(),
        "insecure-skip-tls-verify": {"type": "boolean"}, "disable-compression": {"type": "boolean"},
        "extensions": {"type": "array", "items": extension},
    }});
    let provider = json!({"type": "object", "properties": {"name": string(), "cluster": cluster}});
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "displayName": string(),
            "clusterManager": {"type": "object", "properties": {"name": string()}},
        }},
        "status": {"type": "object", "properties": {
            "conditions": by("type", condition),
            "version": {"type": "object", "properties": {"kubernetes": string()}},
            "properties": by("name", property),
            "credentialProviders": by("name", provider.clone()),
            "accessProviders": by("name", provider),
        }},
    }})
}

/// The profile of a ManagedCluster: labels, spec and status, without the rest.
#[must_use]
pub fn profile(cluster: &Value) -> Value {
    let name = text(cluster, "/metadata/name");
    let set =
        cluster.pointer("/metadata/labels").and_then(|labels| labels.get(EXCLUSIVE_SET_LABEL));
    let set = set.and_then(Value::as_str).unwrap_or_default();
    let conditions = [
        ("ManagedClusterConditionAvailable", "ControlPlaneHealthy"),
        ("ManagedClusterJoined", "Joined"),
    ];
    let shown = |(from, kind): (&str, &str)| {
        let found = condition(cluster, from)?;
        let of = |key: &str| text(found, key);
        Some(json!({
            "type": kind, "status": of("/status"), "reason": of("/reason"), "message": of("/message"),
            "lastTransitionTime": of("/lastTransitionTime"),
        }))
    };
    let claims = list(cluster, "/status/clusterClaims").iter();
    let claims =
        claims.filter(|it| !text(it, "/name").is_empty() && !text(it, "/value").is_empty());
    let properties: Vec<Value> =
        claims.map(|it| json!({"name": text(it, "/name"), "value": text(it, "/value")})).collect();
    let mut status = json!({
        "conditions": conditions.into_iter().filter_map(shown).collect::<Vec<_>>(),
        "properties": properties,
    });
    let version = text(cluster, "/status/version/kubernetes");
    if !version.is_empty() {
        status["version"] = json!({"kubernetes": version});
    }
    if let Some(config) = list(cluster, "/spec/managedClusterClientConfigs").first() {
        let mut reached = json!({"server": text(config, "/url")});
        if !text(config, "/caBundle").is_empty() {
            reached["certificate-authority-data"] = json!(text(config, "/caBundle"));
        }
        status["accessProviders"] = json!([{"name": MANAGER, "cluster": reached}]);
    }
    json!({
        "metadata": {"name": name, "labels": {MANAGER_LABEL: MANAGER, SET_LABEL: set, CLUSTER_NAME_LABEL: name}},
        "spec": {"displayName": name, "clusterManager": {"name": MANAGER}},
        "status": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_its_managers_for_good() {
        let strategy = kind().strategy;
        let of = |manager: &str| json!({"spec": {"clusterManager": {"name": manager}}});
        assert!(strategy.validate(&of("a")).is_empty());
        assert_eq!(strategy.validate(&json!({"spec": {}}))[0].field, "spec.clusterManager.name");
        let changed = strategy.validate_update(None, &of("b"), &of("a"));
        assert_eq!(changed[0].field, "spec.clusterManager");
        assert!(strategy.validate_update(None, &of("a"), &of("a")).is_empty());
        let mut empty = of("a");
        empty["status"]["properties"] = json!([{"name": "a", "value": ""}]);
        assert_eq!(strategy.validate(&empty)[0].field, "status.properties[0].value");
        let kind = kind();
        let facts = kind.facts().unwrap();
        let names: Vec<_> = facts.fields.iter().map(|it| &*it.name).collect();
        assert!(names.contains(&"spec") && names.contains(&"status"), "{names:?}");
    }

    #[test]
    fn a_profile_says_what_its_cluster_says() {
        let time = "2026-01-01T00:00:00Z";
        let cluster = json!({
            "metadata": {"name": "pi-7", "labels": {EXCLUSIVE_SET_LABEL: "attic"}},
            "spec": {"managedClusterClientConfigs": [{"url": "https://hub/clusters/pi-7", "caBundle": "eA=="}]},
            "status": {
                "version": {"kubernetes": "v1.36.0"},
                "clusterClaims": [{"name": "os", "value": "linux"}],
                "conditions": [{"type": "ManagedClusterConditionAvailable", "status": "Unknown",
                    "reason": "Silent", "lastTransitionTime": time}],
            },
        });
        let made = profile(&cluster);
        assert_eq!(made["metadata"]["labels"][SET_LABEL], "attic");
        let status = &made["status"];
        assert_eq!(
            status["conditions"],
            json!([{"type": "ControlPlaneHealthy", "status": "Unknown", "reason": "Silent",
                "message": "", "lastTransitionTime": time}])
        );
        assert_eq!(status["properties"], json!([{"name": "os", "value": "linux"}]));
        assert_eq!(status["version"]["kubernetes"], "v1.36.0");
        let reached =
            json!({"server": "https://hub/clusters/pi-7", "certificate-authority-data": "eA=="});
        assert_eq!(status["accessProviders"], json!([{"name": MANAGER, "cluster": reached}]));
        assert_eq!(kind().strategy.validate(&made), []);
    }
}
