//! RuntimeClass: what a pod's class says of its overhead and of where it runs is put into the pod.
//!
//! There is one runtime, whatever a class's handler is called.
//!
//! Guarantees:
//! - a pod costs what its class says, and cannot say something else
//!   (`a_pod_has_the_overhead_of_its_class_and_no_other`);
//! - it runs where both allow it (`a_pod_runs_where_it_and_its_class_allow_it`).

use async_trait::async_trait;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::quantity::Quantity;
use freewheel_link::names::ClusterName;
use serde_json::{Map, Value};

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use crate::Claims;

pub(super) struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.creates() && review.target.kind.has(Trait::RunsOnNodes)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, pod: &mut Value) -> Result<(), Refusal> {
        let Some(class) = class_of(review, pod)? else { return Ok(()) };
        let set = set_overhead(pod, &class).and_then(|()| set_scheduling(pod, &class));
        set.map_err(Refusal::forbidden)
    }

    async fn validate(&self, review: &Review<'_>, pod: &Value) -> Result<Claims, Refusal> {
        let class = class_of(review, pod)?.unwrap_or_default();
        let asked = pod.pointer("/spec/overhead").and_then(Value::as_object);
        let asked = asked.filter(|asked| !asked.is_empty());
        let wrong = match overhead(&class) {
            Some(own) if !same(asked, own) => {
                Some("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            }
            None if asked.is_some() => Some(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            Some(_) | None => None,
        };
        wrong.map_or_else(|| Ok(Claims::default()), |why| Err(Refusal::forbidden(why)))
    }
}

/// The class that a pod names.
fn class_of(review: &Review<'_>, pod: &Value) -> Result<Option<Value>, Refusal> {
    let Some(name) = pod.pointer("/spec/runtimeClassName").and_then(Value::as_str) else {
        return Ok(None);
    };
    let classes = Resource::new("node.k8s.io", "runtimeclasses");
    let cluster: &ClusterName = &review.target.cluster;
    let found = review.state().get(&Key::new(&classes, cluster, "", name));
    let class = found.and_then(|stored| stored.object.value().ok());
    let unknown = || format!("pod rejected: RuntimeClass {name:?} not found");
    class.map(Some).ok_or_else(|| Refusal::forbidden(unknown()))
}

/// What a class says of it; `None` where it says nothing.
fn overhead(class: &Value) -> Option<Option<&Map<String, Value>>> {
    let overhead = class.get("overhead").filter(|overhead| !overhead.is_null())?;
    Some(overhead.get("podFixed").and_then(Value::as_object))
}

/// Whether both are the same amounts.
fn same(left: Option<&Map<String, Value>>, right: Option<&Map<String, Value>>) -> bool {
    let amounts = |map: Option<&Map<String, Value>>| -> Vec<(String, Option<Quantity>)> {
        let amount = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        map.into_iter().flatten().map(|(name, value)| (name.clone(), amount(value))).collect()
    };
    amounts(left) == amounts(right)
}

fn set_overhead(pod: &mut Value, class: &Value) -> Result<(), String> {
    let Some(own) = overhead(class) else { return Ok(()) };
    let asked = pod.pointer("/spec/overhead").and_then(Value::as_object);
    if asked.is_some_and(|asked| !asked.is_empty() && !same(Some(asked), own)) {
        let text = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        return Err(text.to_owned());
    }
    if let Some(own) = own.filter(|own| !own.is_empty()) {
        pod["spec"]["overhead"] = own.clone().into();
    }
    Ok(())
}

fn set_scheduling(pod: &mut Value, class: &Value) -> Result<(), String> {
    let Some(scheduling) = class.get("scheduling").filter(|one| one.is_object()) else {
        return Ok(());
    };
    let selector = scheduling.get("nodeSelector").and_then(Value::as_object);
    let said = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    let mut merged = said.cloned().unwrap_or_default();
    for (key, own) in selector.into_iter().flatten() {
        match merged.get(key).filter(|said| *said != own) {
            Some(said) => {
                let (own, said) =
                    (own.as_str().unwrap_or_default(), said.as_str().unwrap_or_default());
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {own}; pod.spec.nodeSelector[{key}] = {said}"
                ));
            }
            None => drop(merged.insert(key.clone(), own.clone())),
        }
    }
    if !merged.is_empty() {
        pod["spec"]["nodeSelector"] = merged.into();
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let tolerations = merge(list(&pod["spec"]["tolerations"]), list(&scheduling["tolerations"]));
    if !tolerations.is_empty() {
        pod["spec"]["tolerations"] = tolerations.into();
    }
    Ok(())
}

/// Both, without those that another one includes.
fn merge(mut all: Vec<Value>, more: Vec<Value>) -> Vec<Value> {
    all.extend(more);
    let mut merged: Vec<Value> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let later = all.iter().skip(i + 1).any(|other| one != other && includes(other, one));
        if !later && !merged.iter().any(|other| includes(other, one)) {
            merged.push(one.clone());
        }
    }
    merged
}

/// Whether one toleration tolerates all that the other does.
fn includes(all: &Value, one: &Value) -> bool {
    if all == one {
        return true;
    }
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let seconds = |of: &Value| of.get("tolerationSeconds").and_then(Value::as_i64);
    let exists = text(all, "operator") == "Exists";
    let key = text(all, "key");
    if (key != text(one, "key") && !(key.is_empty() && exists))
        || (!text(all, "effect").is_empty() && text(all, "effect") != text(one, "effect"))
    {
        return false;
    }
    if text(all, "effect") == "NoExecute"
        && let Some(longest) = seconds(all)
        && seconds(one).is_none_or(|asked| longest < asked)
    {
        return false;
    }
    let equals = matches!(&*text(all, "operator"), "" | "Equal");
    let same = text(one, "operator") == "Equal" && text(one, "value") == text(all, "value");
    exists || (equals && same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_has_the_overhead_of_its_class_and_no_other() {
        let class = json!({"overhead": {"podFixed": {"cpu": "250m"}}});
        let mut pod = json!({"spec": {}});
        assert_eq!(set_overhead(&mut pod, &class), Ok(()));
        assert_eq!(pod["spec"]["overhead"], json!({"cpu": "250m"}));
        assert_eq!(set_overhead(&mut pod, &class), Ok(()));
        pod["spec"]["overhead"] = json!({"cpu": "1"});
        assert!(set_overhead(&mut pod, &class).is_err());
        assert_eq!(set_overhead(&mut pod, &json!({})), Ok(()));
    }

    #[test]
    fn a_pod_runs_where_it_and_its_class_allow_it() {
        let class = json!({"scheduling": {
            "nodeSelector": {"a": "1", "b": "2"}, "tolerations": [{"key": "k", "operator": "Exists"}],
        }});
        let equal = json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
        let mut pod =
            json!({"spec": {"nodeSelector": {"b": "2", "c": "3"}, "tolerations": [equal]}});
        assert_eq!(set_scheduling(&mut pod, &class), Ok(()));
        assert_eq!(pod["spec"]["nodeSelector"], json!({"a": "1", "b": "2", "c": "3"}));
        assert_eq!(pod["spec"]["tolerations"], class["scheduling"]["tolerations"]);
        pod["spec"]["nodeSelector"]["a"] = json!("9");
        let why =
            "conflict: runtimeClass.scheduling.nodeSelector[a] = 1; pod.spec.nodeSelector[a] = 9";
        assert_eq!(set_scheduling(&mut pod, &class), Err(why.to_owned()));
    }

    #[test]
    fn tolerations_that_others_include_are_left_out() {
        let all = json!({"operator": "Exists"});
        let some = json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let longer = json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
        assert_eq!(merge(vec![some.clone()], vec![all.clone()]), std::slice::from_ref(&all));
        assert_eq!(merge(vec![some.clone()], vec![longer.clone()]), [longer]);
        assert_eq!(merge(vec![some.clone(), some.clone()], vec![]), [some]);
    }
}
