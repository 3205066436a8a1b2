//! Node: what a spoke offers to pods, and how it is.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait, keep_other_half};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::accessors::{
    AGE, NAME, age, child, column, condition, flag, list, map, name, round_amounts, set_default,
    text, text_or, wide,
};

/// Taint of a Node that is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a Node that is not heard of.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// What may be asked of whoever is behind a proxy, as kube-apiserver tells it; what a device serves is only got.
pub(super) const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Ready or not, and whether pods may be scheduled to it."),
    column("Roles", "string", "From its node-role labels."),
    AGE,
    column("Version", "string", "Version of its agent."),
    wide("Internal-IP", "string", "Address inside of its site."),
    wide("External-IP", "string", "Address from outside."),
    wide("OS-Image", "string", "Operating system."),
    wide("Kernel-Version", "string", "Kernel."),
    wide("Container-Runtime", "string", "What runs its containers."),
];

/// Node of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "Node"), "nodes", Rules)
        .cluster_scoped()
        .short(["no"])
        .with_status()
        .subresource_of("proxy", "NodeProxyOptions", PROXY)
        .columns(COLUMNS)
        .fields(["spec.unschedulable"])
        .with(&[Trait::CountsNoGeneration, Trait::RunsPods])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else { return };
        if let Some(capacity) = status.get("capacity").cloned() {
            set_default(status, "allocatable", capacity);
        }
        for list in ["allocatable", "capacity"] {
            round_amounts(status, list);
        }
    }

    /// A node registers itself together with its status.
    fn prepare_create(&self, _: &mut Value) {}

    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(subresource, new, old);
        if subresource == Some("status") {
            follow_capacity(new, old);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let taints = list(object, "/spec/taints");
        let mut errors = Vec::new();
        let mut taken = BTreeSet::new();
        for (i, taint) in taints.iter().enumerate() {
            let path = format!("metadata.taints[{i}]");
            errors.extend(check_taint(&path, taint));
            if !taken.insert((text(taint, "/key"), text(taint, "/effect"))) {
                errors.push(FieldError::duplicate(path, taint));
            }
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if !text(old, "/spec/podCIDR").is_empty()
            && text(old, "/spec/podCIDR") != text(new, "/spec/podCIDR")
        {
            let text = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.podCIDRs", text));
        }
        if !text(old, "/spec/providerID").is_empty()
            && text(old, "/spec/providerID") != text(new, "/spec/providerID")
        {
            let text = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.providerID", text));
        }
        errors
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        let cordoned = flag(object, "/spec/unschedulable").to_string();
        BTreeMap::from([("spec.unschedulable".to_owned(), cordoned)])
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let info =
            |key: &str| text_or(object, &format!("/status/nodeInfo/{key}"), "<unknown>").into();
        vec![
            name(object),
            status(object).into(),
            roles(object).into(),
            age(object, now),
            text(object, "/status/nodeInfo/kubeletVersion").into(),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            info("osImage"),
            info("kernelVersion"),
            info("containerRuntimeVersion"),
        ]
    }
}

/// What a device has beside what its agent measures is allocatable as soon as somebody says that it is there:
/// elsewhere, that is the kubelet's work.
fn follow_capacity(new: &mut Value, old: &Value) {
    let pick = |object: &Value, list: &str| -> BTreeMap<String, Value> {
        let at = format!("/status/{list}");
        let rare = map(object, &at)
            .filter(|(name, _)| name.contains('/') || name.starts_with("hugepages-"));
        rare.map(|(name, amount)| (name.to_owned(), amount.clone())).collect()
    };
    let (before, now) = (pick(old, "capacity"), pick(new, "capacity"));
    let Some(allocatable) =
        child(new, "status").and_then(|s| s.get_mut("allocatable")?.as_object_mut())
    else {
        return;
    };
    for (name, amount) in &now {
        if before.get(name) != Some(amount) {
            allocatable.insert(name.clone(), amount.clone());
        }
    }
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        allocatable.remove(name);
    }
}

fn check_taint(path: &str, taint: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (key, value, effect) = (text(taint, "/key"), text(taint, "/value"), text(taint, "/effect"));
    for complaint in names::qualified_name(key) {
        errors.push(FieldError::invalid(format!("{path}.key"), &json!(key), &complaint));
    }
    for complaint in names::label_value(value) {
        errors.push(FieldError::invalid(format!("{path}.value"), &json!(value), &complaint));
    }
    if effect.is_empty() {
        errors.push(FieldError::required(format!("{path}.effect"), ""));
    } else if !EFFECTS.contains(&effect) {
        let at = format!("{path}.effect");
        errors.push(FieldError::not_supported(at, &json!(effect), EFFECTS));
    }
    errors
}

fn status(object: &Value) -> String {
    let ready = match condition(object, "Ready").map(|c| text(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if flag(object, "/spec/unschedulable") {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.to_owned()
    }
}

fn roles(object: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in map(object, "/metadata/labels") {
        let named = value.as_str().filter(|v| key == ROLE_LABEL && !v.is_empty());
        let prefixed = key.strip_prefix(ROLE_PREFIX).filter(|role| !role.is_empty());
        roles.extend(prefixed.or(named));
    }
    if roles.is_empty() {
        return "<none>".to_owned();
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address<'a>(object: &'a Value, kind: &str) -> &'a str {
    let all = list(object, "/status/addresses");
    let found = all.iter().find(|a| text(a, "/type") == kind);
    found.map_or("<none>", |a| text(a, "/address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_how_the_node_is() {
        let mut node = json!({
            "metadata": {"name": "pi-7", "labels": {"node-role.kubernetes.io/spoke": ""}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "127.0.0.11"}],
                "nodeInfo": {"kubeletVersion": "v0.1.0"},
            },
        });
        let row = Rules.row(&node, 0);
        assert_eq!(row[1], "NotReady,SchedulingDisabled");
        assert_eq!(row[2], "spoke");
        assert_eq!(row[5], "127.0.0.11");
        assert_eq!(row[6], "<none>");
        assert_eq!(row[7], "<unknown>");
        node["status"] = json!({});
        assert_eq!(status(&node), "Unknown,SchedulingDisabled");
    }

    #[test]
    fn all_of_a_node_is_allocatable_unless_it_says_less() {
        let mut node = json!({"status": {"capacity": {"cpu": "0.5"}}});
        Rules.default(&mut node);
        assert_eq!(node["status"]["allocatable"], json!({"cpu": "500m"}));
    }

    #[test]
    fn what_somebody_says_is_there_is_allocatable() {
        let old = json!({"status": {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "3"}}});
        let mut new = old.clone();
        new["status"]["capacity"]["a.b/gpu"] = json!("2");
        Rules.prepare_update(Some("status"), &mut new, &old);
        assert_eq!(new["status"]["allocatable"], json!({"cpu": "3", "a.b/gpu": "2"}));
        let mut gone = new.clone();
        gone["status"]["capacity"] = json!({"cpu": "4"});
        Rules.prepare_update(Some("status"), &mut gone, &new);
        assert_eq!(gone["status"]["allocatable"], json!({"cpu": "3"}));
    }

    #[test]
    fn taints_are_checked() {
        let node = json!({"spec": {"taints": [{"key": "a", "effect": "No"}]}});
        let errors = Rules.validate(&node);
        assert_eq!(errors[0].field, "metadata.taints[0].effect");
        assert_eq!(
            errors[0].message,
            "Unsupported value: \"No\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
        );
        let twice = json!({"key": "a", "effect": "NoExecute"});
        let node = json!({"spec": {"taints": [twice, twice]}});
        assert_eq!(Rules.validate(&node)[0].reason, "FieldValueDuplicate");
    }
}
