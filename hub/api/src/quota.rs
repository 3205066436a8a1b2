//! What an object counts for in a ResourceQuota.
//!
//! Guarantees:
//! - each name of a quota is about one resource, and an object counts for those of its own alone
//!   (`a_name_is_about_one_resource`).

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::quantity::{Format, Quantity};
use freewheel_hub_schema::selector::LabelSelector;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::kinds::pod_spec::qos_class;
use crate::kinds::pod_spec::requirements::{self, Amounts};

const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
/// What pods have to say of themselves where there is a quota about it.
const TO_BE_SAID: &[&str] =
    &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

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
pub fn matches(quota: &Value, resource: &Resource, object: &Value) -> bool {
    let spec = &quota["spec"];
    let scopes = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let plain = scopes.map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    let selected = spec.pointer("/scopeSelector/matchExpressions").and_then(Value::as_array);
    let all = plain.chain(selected.into_iter().flatten().cloned());
    let of_pods = *resource == Resource::new("", "pods");
    let mut all = all.peekable();
    all.peek().is_none() || (of_pods && all.all(|wanted| is_in_scope(&wanted, object)))
}

fn is_in_scope(wanted: &Value, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let ends = spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| 0 <= seconds);
    let best_effort = || qos_class(spec) == "BestEffort";
    match wanted["scopeName"].as_str().unwrap_or_default() {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => is_of_class(wanted, spec["priorityClassName"].as_str()),
        "CrossNamespacePodAffinity" => looks_elsewhere(spec),
        _ => false,
    }
}

fn is_of_class(wanted: &Value, class: Option<&str>) -> bool {
    let expression =
        json!({"key": "PriorityClass", "operator": wanted["operator"], "values": wanted["values"]});
    let selector = json!({"matchExpressions": [expression]});
    let class = class.filter(|class| !class.is_empty());
    let labels: BTreeMap<String, String> =
        class.map(|class| ("PriorityClass".to_owned(), class.to_owned())).into_iter().collect();
    LabelSelector::from_json(Some(&selector), "").is_ok_and(|selector| selector.matches(&labels))
}

fn looks_elsewhere(spec: &Value) -> bool {
    let elsewhere = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|names| !names.is_empty())
            || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &spec["affinity"][kind];
        let list = |name: &str| affinity[name].as_array().cloned().unwrap_or_default();
        list("requiredDuringSchedulingIgnoredDuringExecution").iter().any(elsewhere)
            || list("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| elsewhere(&weighted["podAffinityTerm"]))
    })
}

/// What an object counts for, by the names of quotas.
#[must_use]
pub fn usage(resource: &Resource, object: &Value) -> Amounts {
    let one = Quantity::of_milli(1000, Format::Decimal);
    let dot = if resource.group().is_empty() { "" } else { "." };
    let count = format!("count/{}{dot}{}", resource.plural(), resource.group());
    let mut used = Amounts::from([(count, one)]);
    if !resource.group().is_empty() {
        return used;
    }
    match resource.plural() {
        "pods" => used.extend(of_pod(object, one)),
        "services" => used.extend(of_service(&object["spec"], one)),
        "persistentvolumeclaims" => used.extend(of_claim(&object["spec"], one)),
        plural @ ("configmaps" | "replicationcontrollers" | "resourcequotas" | "secrets") => {
            used.insert(plural.to_owned(), one);
        }
        _ => {}
    }
    used
}

/// One that has come to its end takes nothing any more.
fn of_pod(pod: &Value, one: Quantity) -> Amounts {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Amounts::new();
    }
    let mut used = Amounts::from([("pods".to_owned(), one)]);
    for (name, amount) in requirements::requests(&pod["spec"]) {
        if !name.contains('/') {
            used.insert(name.clone(), amount);
        }
        used.insert(format!("requests.{name}"), amount);
    }
    let limits = requirements::limits(&pod["spec"]).into_iter();
    used.extend(limits.map(|(name, amount)| (format!("limits.{name}"), amount)));
    used
}

fn of_service(spec: &Value, one: Quantity) -> Amounts {
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let balanced = spec["type"] == "LoadBalancer";
    let open = match spec["type"].as_str() {
        Some("NodePort") => ports.len(),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            ports.iter().filter(|port| port["nodePort"].as_i64().is_some_and(|p| p != 0)).count()
        }
        Some("LoadBalancer") => ports.len(),
        Some(_) | None => 0,
    };
    let count = |number: usize| {
        Quantity::of_milli(1000 * i64::try_from(number).unwrap_or_default(), Format::Decimal)
    };
    Amounts::from([
        ("services".to_owned(), one),
        ("services.nodeports".to_owned(), count(open)),
        ("services.loadbalancers".to_owned(), count(usize::from(balanced))),
    ])
}

fn of_claim(spec: &Value, one: Quantity) -> Amounts {
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), one)]);
    let size = requirements::of_container(spec, "requests").remove("storage").unwrap_or_default();
    used.insert("requests.storage".to_owned(), size);
    if let Some(class) = spec["storageClassName"].as_str().filter(|class| !class.is_empty()) {
        used.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), one);
        used.insert(format!("{class}{OF_CLASS}requests.storage"), size);
    }
    used
}

/// What a pod has to say of its containers where these names are limited, and does not: `cpu for: a,b`.
#[must_use]
pub fn unsaid(names: &BTreeSet<&str>, pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    if spec.get("resources").is_some_and(|resources| *resources != json!({})) {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let lists = ["containers", "initContainers"].map(|list| spec[list].as_array());
    for container in lists.into_iter().flatten().flatten() {
        for name in names.iter().filter(|name| TO_BE_SAID.contains(name)) {
            let (sort, bare) = match name.split_once('.') {
                Some(("limits", bare)) => ("limits", bare),
                Some((_, bare)) => ("requests", bare),
                None => ("requests", *name),
            };
            if container["resources"][sort].get(bare).is_none() {
                let called = container["name"].as_str().unwrap_or_default();
                missing.entry(*name).or_default().insert(called);
            }
        }
    }
    let told = missing.iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| format!("must specify {}", told.join("; ")))
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
        let used = usage(&pods, &asks);
        assert!(used.keys().all(|name| counted(name).as_ref() == Some(&pods)));
        assert_eq!(used["requests.cpu"].to_string(), "500m");
        assert_eq!(used["limits.cpu"].to_string(), "1");
        assert_eq!(used["requests.example.com/gpu"].to_string(), "1");
        let mut done = asks;
        done["status"] = json!({"phase": "Succeeded"});
        assert_eq!(usage(&pods, &done).into_keys().collect::<Vec<_>>(), ["count/pods"]);
        let service = json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}});
        let used = usage(&Resource::new("", "services"), &service);
        assert_eq!(used["services.nodeports"].to_string(), "2");
        assert_eq!(used["services.loadbalancers"].to_string(), "1");
    }

    #[test]
    fn scopes_choose_pods() {
        let pods = Resource::new("", "pods");
        let quota = |spec: Value| json!({"spec": spec});
        let asks = pod(&json!({"requests": {"cpu": "1"}}));
        assert!(matches(&quota(json!({})), &pods, &asks));
        assert!(matches(
            &quota(json!({"scopes": ["NotBestEffort", "NotTerminating"]})),
            &pods,
            &asks
        ));
        assert!(!matches(&quota(json!({"scopes": ["BestEffort"]})), &pods, &asks));
        let of = |operator: &str, values: Value| {
            let wanted =
                json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
            quota(json!({"scopeSelector": {"matchExpressions": [wanted]}}))
        };
        let mut gold = asks;
        assert!(!matches(&of("Exists", json!([])), &pods, &gold));
        gold["spec"]["priorityClassName"] = json!("gold");
        assert!(matches(&of("Exists", json!([])), &pods, &gold));
        assert!(matches(&of("In", json!(["gold"])), &pods, &gold));
        assert!(!matches(&of("NotIn", json!(["gold"])), &pods, &gold));
        assert!(!matches(&of("Exists", json!([])), &Resource::new("", "services"), &gold));
    }

    #[test]
    fn what_is_limited_has_to_be_said() {
        let names = BTreeSet::from(["cpu", "limits.memory", "pods"]);
        let silent = pod(&json!({}));
        assert_eq!(
            unsaid(&names, &silent).unwrap(),
            "must specify cpu for: c; limits.memory for: c"
        );
        let said = pod(&json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}));
        assert_eq!(unsaid(&names, &said), None);
    }
}
