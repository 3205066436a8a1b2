//! What pods count for in a ResourceQuota, which of its scopes they are in, and what they have to say where it limits them.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_schema::quantity::{Format, Quantity};
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Value, json};

use super::super::pod_spec::qos_class;
use super::super::pod_spec::requirements::{self, Amounts};
use crate::quota::is_of_storage;

/// What pods have to say of themselves where there is a quota about it.
const TO_BE_SAID: &[&str] =
    &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What nodes have and pods take of it, without saying whether they ask for it or are held to it.
const OF_NODES: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// Whether a name of a quota is about pods: how many, and what they take of nodes.
pub(super) fn is_name(name: &str) -> bool {
    let takes = ["requests.", "limits.", "hugepages-"].iter().any(|it| name.starts_with(it));
    (name == "pods" || OF_NODES.contains(&name) || takes) && !is_of_storage(name)
}

/// What a pod counts for. One that has come to its end takes nothing any more.
pub(super) fn usage(pod: &Value) -> Amounts {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Amounts::new();
    }
    let one = Quantity::of_milli(1000, Format::Decimal);
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

/// Whether a scope of a quota is about a pod.
pub(super) fn is_in_scope(wanted: &Value, pod: &Value) -> bool {
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

/// What a pod has to say of its containers where these names are limited, and does not: `cpu for: a,b`.
pub(super) fn unsaid(names: &BTreeSet<&str>, pod: &Value) -> Option<String> {
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
    let missing = missing.iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    });
    let missing: Vec<String> = missing.collect();
    (!missing.is_empty()).then(|| format!("must specify {}", missing.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: &Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
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
