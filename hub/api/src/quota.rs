//! What an object counts for in a ResourceQuota.
//!
//! Guarantees:
//! - each name of a quota is about one resource, and an object counts for those of its own alone
//!   (`a_name_is_about_one_resource`), whatever kinds there are (`no_two_kinds_answer_to_a_name`);
//! - what is gone is known by `count/` alone (`a_kind_that_is_gone_is_counted_by_count_alone`).

use std::collections::BTreeMap;

use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::quantity::{Format, Quantity};
use freewheel_hub_schema::registry::Registry;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

/// In a name that is about the claims of one storage class, between that and what is counted.
pub(crate) const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// Whether a name of a quota is about storage, which claims ask for, whatever else it begins with.
pub(crate) fn is_of_storage(name: &str) -> bool {
    name == "requests.storage" || name.contains(OF_CLASS)
}

/// The resource that a name of a quota is about, in a cluster with these kinds.
#[must_use]
pub fn counted(name: &str, registry: &Registry) -> Option<Resource> {
    by_count(name).or_else(|| {
        let kind = registry.all().find(|kind| is_name_of(kind, name))?;
        Some(kind.storage().clone())
    })
}

/// Whether a name of a quota is about objects of this resource; by `count/` alone when their kind is gone.
#[must_use]
pub fn is_about(name: &str, resource: &Resource, kind: Option<&Kind>) -> bool {
    match by_count(name) {
        Some(counted) => counted == *resource,
        None => kind.is_some_and(|kind| is_name_of(kind, name)),
    }
}

/// `count/deployments.apps`
fn by_count(name: &str) -> Option<Resource> {
    let counted = name.strip_prefix("count/")?;
    let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
    Some(Resource::new(group, plural))
}

fn is_name_of(kind: &Kind, name: &str) -> bool {
    let by_plural = kind.has(Trait::CountedByPlural) && kind.storage().plural() == name;
    by_plural || kind.strategy.is_quota_name(name)
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
    use freewheel_hub_schema::gvk::Gvk;
    use freewheel_hub_schema::kind::Strategy;

    use super::*;
    use crate::kinds::{find, registries, registry};

    fn kind(plural: &str) -> Option<&'static Kind> {
        find("", "v1", plural).map(|kind| &**kind)
    }

    fn pod(resources: &Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn a_name_is_about_one_resource() {
        let root = registry(&ClusterName::root());
        let counted = |name: &str| counted(name, &root);
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
            (
                "requests.storageclass.storage.k8s.io/persistentvolumeclaims",
                Resource::new("", "persistentvolumeclaims"),
            ),
            ("configmaps", Resource::new("", "configmaps")),
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
        assert!(used.keys().all(|name| is_about(name, &pods, of_pods)));
        assert!(!is_about("services", &pods, of_pods));
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

    struct Custom;

    impl Strategy for Custom {}

    #[test]
    fn no_two_kinds_answer_to_a_name() {
        let root = ClusterName::root();
        let kinds = registries();
        for (kind, plural) in
            [("Pod", "pods"), ("Secret", "secrets"), ("Cpu", "cpu"), ("Deployment", "deployments")]
        {
            let custom = Kind::new(Gvk::new("example.com", "v1", kind), plural, Custom);
            kinds.add(&root, custom).unwrap();
        }
        let kinds = kinds.of(&root);
        for (name, resource) in [
            ("configmaps", "configmaps"),
            ("cpu", "pods"),
            ("ephemeral-storage", "pods"),
            ("gold.storageclass.storage.k8s.io/requests.storage", "persistentvolumeclaims"),
            ("hugepages-2Mi", "pods"),
            ("limits.cpu", "pods"),
            ("memory", "pods"),
            ("persistentvolumeclaims", "persistentvolumeclaims"),
            ("pods", "pods"),
            ("replicationcontrollers", "replicationcontrollers"),
            ("requests.cpu", "pods"),
            ("requests.example.com/gpu", "pods"),
            ("requests.storage", "persistentvolumeclaims"),
            ("resourcequotas", "resourcequotas"),
            ("secrets", "secrets"),
            ("services", "services"),
            ("services.loadbalancers", "services"),
            ("services.nodeports", "services"),
        ] {
            let named = kinds.all().filter(|kind| is_name_of(kind, name));
            let named: Vec<_> = named.map(|kind| kind.storage().as_str()).collect();
            assert_eq!(named, [resource], "{name}");
        }
        for name in ["deployments", "events", "storage", "services.clusterips"] {
            assert!(!kinds.all().any(|kind| is_name_of(kind, name)), "{name}");
        }
    }

    #[test]
    fn a_kind_that_is_gone_is_counted_by_count_alone() {
        let widgets = Resource::new("example.com", "widgets");
        assert!(is_about("count/widgets.example.com", &widgets, None));
        assert!(!is_about("widgets", &widgets, None));
        assert!(!is_about("count/widgets", &widgets, None));
        let root = registry(&ClusterName::root());
        assert_eq!(counted("count/widgets.example.com", &root), Some(widgets));
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
