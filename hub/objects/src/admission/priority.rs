//! Priority: a pod's priority follows from its class alone, and there is one class for those without.

use std::cmp::Reverse;

use async_trait::async_trait;
use freewheel_hub_api::kinds::priority_class::SYSTEM;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::{Key, Resource};
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use crate::Claims;

const PREEMPTS: &str = "PreemptLowerPriority";

pub(super) struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let kind = &review.target.kind;
        review.asks_for_it() && (kind.has(Trait::RunsOnNodes) || *kind.storage() == classes())
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, pod: &mut Value) -> Result<(), Refusal> {
        if !review.target.kind.has(Trait::RunsOnNodes) {
            return Ok(());
        }
        match review.old {
            Some(old) => keep(pod, old),
            None => prioritise(pod, class_of(review, pod)).map_err(Refusal::forbidden)?,
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let is_class = !review.target.kind.has(Trait::RunsOnNodes);
        if is_class
            && object["globalDefault"] == true
            && let Some(other) = default_class(review)
            && (review.creates() || other.name != review.target.name)
        {
            let text = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name
            );
            return Err(Refusal::forbidden(text));
        }
        Ok(Claims::default())
    }
}

/// What a class says of its pods.
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn read(object: &Value) -> Self {
        let text = |value: &Value, unsaid: &str| value.as_str().unwrap_or(unsaid).to_owned();
        Self {
            name: text(&object["metadata"]["name"], ""),
            value: object["value"].as_i64().unwrap_or_default(),
            preemption: text(&object["preemptionPolicy"], PREEMPTS),
        }
    }
}

fn classes() -> Resource {
    Resource::new("scheduling.k8s.io", "priorityclasses")
}

/// The class that a pod names, or that of pods without one; `Err` with the name when there is no such class.
fn class_of(review: &Review<'_>, pod: &Value) -> Result<Option<Class>, String> {
    let named = pod.pointer("/spec/priorityClassName").and_then(Value::as_str).unwrap_or_default();
    if named.is_empty() {
        return Ok(default_class(review));
    }
    let key = Key::new(&classes(), &review.target.cluster, "", named);
    let found = review.state().get(&key).and_then(|stored| stored.object.value().ok());
    // The two of Kubernetes' own are there from the start, and a pod may be faster than they are.
    let own = || {
        let (name, value, _) = SYSTEM.iter().find(|(name, ..)| *name == named)?;
        Some(Class { name: (*name).to_owned(), value: *value, preemption: PREEMPTS.to_owned() })
    };
    let class = found.map(|object| Class::read(&object)).or_else(own);
    class.map(Some).ok_or_else(|| format!("no PriorityClass with name {named} was found"))
}

fn default_class(review: &Review<'_>) -> Option<Class> {
    let state = review.state();
    let all = state.range(&review.everywhere_in_its_cluster(&classes()), None);
    let users = all.filter(|stored| SYSTEM.iter().all(|(name, ..)| **name != *stored.key.name));
    let objects = users.filter_map(|stored| stored.object.value().ok());
    let defaults = objects.filter(|object| object["globalDefault"] == true);
    defaults.map(|object| Class::read(&object)).max_by_key(|class| Reverse(class.value))
}

/// A change that leaves it out leaves it alone.
fn keep(pod: &mut Value, old: &Value) {
    for key in ["priority", "preemptionPolicy"] {
        if let (None, Some(was)) = (pod["spec"].get(key), old["spec"].get(key)) {
            pod["spec"][key] = was.clone();
        }
    }
}

fn prioritise(pod: &mut Value, class: Result<Option<Class>, String>) -> Result<(), String> {
    let spec = &mut pod["spec"];
    let (priority, preempts) = match class? {
        None => (0, PREEMPTS.to_owned()),
        Some(class) => {
            spec["priorityClassName"] = json!(class.name);
            (class.value, class.preemption)
        }
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|g| *g != priority) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
             controller computed {priority} from the given PriorityClass name"
        ));
    }
    let given = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|g| *g != preempts);
    if let Some(given) = given {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority \
             admission controller computed {preempts} from the given PriorityClass name"
        ));
    }
    spec["priority"] = json!(priority);
    spec["preemptionPolicy"] = json!(preempts);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(spec: &Value, why: &str) {
        let error = prioritise(&mut json!({"spec": spec}), Ok(None)).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }

    #[test]
    fn a_pod_gets_its_priority_from_its_class_alone() {
        let class = json!({"metadata": {"name": "gold"}, "value": 7, "preemptionPolicy": "Never"});
        let mut pod = json!({"spec": {}});
        prioritise(&mut pod, Ok(Some(Class::read(&class)))).unwrap();
        assert_eq!(
            pod["spec"],
            json!({"priority": 7, "priorityClassName": "gold", "preemptionPolicy": "Never"})
        );
        let mut plain = json!({"spec": {}});
        prioritise(&mut plain, Ok(None)).unwrap();
        assert_eq!(plain["spec"], json!({"priority": 0, "preemptionPolicy": PREEMPTS}));
        refused(&json!({"priority": 5}), "the integer value of priority (5) must not be provided");
        refused(
            &json!({"preemptionPolicy": "Never"}),
            "the string value of PreemptionPolicy (Never)",
        );
    }

    #[test]
    fn a_change_that_leaves_the_priority_out_keeps_it() {
        let mut old = json!({"spec": {}});
        prioritise(&mut old, Ok(None)).unwrap();
        let mut new = json!({"spec": {}});
        keep(&mut new, &old);
        assert_eq!(new, old);
    }
}
