//! What an object counts for in a ResourceQuota.
//!
//! Guarantees:
//! - each name of a quota is about one resource, and an object counts for those of its own alone
//!   (`a_name_is_about_one_resource`).

use std::collections::BTreeMap;

use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::quantity::{Format, Quantity};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

/// In a name that is about the claims of one storage class, between that and what is counted.
pub(crate) const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// The resource that a name of a quota is about.
#[must_use]
pub fn counted(name: &str) -> Option<Resource> {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Some(Resource::new(group, plural));
    }
    let claims = Resource::new("", "persistentvolumeclaims");
    if name == "requests.storage" || name.contains(OF_CLASS) {
        return Some(claims);
    }
    let plural = match name {
        "configmaps"
        | "persistentvolumeclaims"
        | "pods"
        | "replicationcontrollers"
        | "resourcequotas"
        | "secrets"
        | "services" => name,
        "services.nodeports" | "services.loadbalancers" => "services",
        "cpu" | "memory" | "ephemeral-storage" => "pods",
        other => {
            let compute = ["requests.", "limits.", "hugepages-"];
            compute.iter().any(|start| other.starts_with(start)).then_some("pods")?
        }
    };
    Some(Resource::new("", plural))
}

/// Whether the quota is about objects like this one.
#[must_use]
pub fn matches(quota: &Value, kind: Option<&Kind>, object: &Value) -> bool {
    let spec = &quota["spec"];
    let scopes = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let plain = scopes.map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    let selected = spec.pointer("/scopeSelector/matchExpressions").and_then(Value::as_array);
    let mut all = plain.chain(selected.into_iter().flatten().cloned());
    all.all(|scope| kind.is_some_and(|kind| kind.strategy.is_in_quota_scope(&scope, object)))
}

/// What an object counts for, by the names of quotas; for itself alone when its kind is gone.
#[must_use]
pub fn usage(
    resource: &Resource,
    kind: Option<&Kind>,
    object: &Value,
) -> BTreeMap<String, Quantity> {
    let one = Quantity::of_milli(1000, Format::Decimal);
    let dot = if resource.group().is_empty() { "" } else { "." };
    let count = format!("count/{}{dot}{}", resource.plural(), resource.group());
    let mut used = BTreeMap::from([(count, one)]);
    let Some(kind) = kind else { return used };
    if kind.has(Trait::CountedByPlural) {
        used.insert(resource.plural().to_owned(), one);
    }
    used.extend(kind.strategy.quota_usage(object));
    used
}

/// What is used of a name of a quota is counted here, in thousandths.
#[must_use]
pub fn counter(cluster: &ClusterName, namespace: &str, uid: &str, name: &str) -> Key {
    let name = format!("{uid} {name}");
    Key::new(&counters(), cluster, namespace, &name)
}

/// How often the quotas of a namespace have changed is counted here.
#[must_use]
pub fn epoch(cluster: &ClusterName, namespace: &str) -> Key {
    Key::new(&counters(), cluster, namespace, "epoch")
}

/// `quotas.internal`
fn counters() -> Resource {
    Resource::new("internal", "quotas")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::find;

    fn kind(plural: &str) -> Option<&'static Kind> {
        find("", "v1", plural).map(|kind| &**kind)
    }

    fn pod(resources: &Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn a_name_is_about_one_resource() {
        let pods = Resource::new("", "pods");
        for (name, resource) in [
            ("pods", pods.clone()),
            ("limits.memory", pods.clone()),
            ("requests.example.com/gpu", pods.clone()),
            ("count/pods", pods.clone()),
            ("requests.storage", Resource::new("", "persistentvolumeclaims")),
            (
                "gold.storageclass.storage.k8s.io/requests.storage",
                Resource::new("", "persistentvolumeclaims"),
            ),
            ("services.nodeports", Resource::new("", "services")),
            ("count/deployments.apps", Resource::new("apps", "deployments")),
        ] {
            assert_eq!(counted(name), Some(resource), "{name}");
        }
        assert_eq!(counted("storage"), None);
        let asks = pod(
            &json!({"requests": {"cpu": "500m", "example.com/gpu": "1"}, "limits": {"cpu": "1"}}),
        );
        let of_pods = kind("pods");
        let used = usage(&pods, of_pods, &asks);
        assert!(used.keys().all(|name| counted(name).as_ref() == Some(&pods)));
        assert_eq!(used["requests.cpu"].to_string(), "500m");
        assert_eq!(used["limits.cpu"].to_string(), "1");
        assert_eq!(used["requests.example.com/gpu"].to_string(), "1");
        let mut done = asks;
        done["status"] = json!({"phase": "Succeeded"});
        assert_eq!(usage(&pods, of_pods, &done).into_keys().collect::<Vec<_>>(), ["count/pods"]);
        let services = Resource::new("", "services");
        let service = json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}});
        let used = usage(&services, kind("services"), &service);
        assert_eq!(used["services.nodeports"].to_string(), "2");
        assert_eq!(used["services.loadbalancers"].to_string(), "1");
    }

    #[test]
    fn scopes_choose_pods() {
        let pods = kind("pods");
        let quota = |spec: Value| json!({"spec": spec});
        let asks = pod(&json!({"requests": {"cpu": "1"}}));
        assert!(matches(&quota(json!({})), pods, &asks));
        assert!(matches(
            &quota(json!({"scopes": ["NotBestEffort", "NotTerminating"]})),
            pods,
            &asks
        ));
        assert!(!matches(&quota(json!({"scopes": ["BestEffort"]})), pods, &asks));
        let of = |operator: &str, values: Value| {
            let wanted =
                json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
            quota(json!({"scopeSelector": {"matchExpressions": [wanted]}}))
        };
        let mut gold = asks;
        assert!(!matches(&of("Exists", json!([])), pods, &gold));
        gold["spec"]["priorityClassName"] = json!("gold");
        assert!(matches(&of("Exists", json!([])), pods, &gold));
        assert!(matches(&of("In", json!(["gold"])), pods, &gold));
        assert!(!matches(&of("NotIn", json!(["gold"])), pods, &gold));
        assert!(!matches(&of("Exists", json!([])), kind("services"), &gold));
    }
}
