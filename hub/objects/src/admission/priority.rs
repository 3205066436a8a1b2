//! Priority: a pod's priority follows from its class alone.
//!
//! There are no PriorityClasses here but the two that every cluster is born with: whoever names another is told so at
//! once.

use async_trait::async_trait;
use freewheel_hub_schema::kind::Trait;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;

/// PriorityClasses of every cluster.
const CRITICAL: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPTS: &str = "PreemptLowerPriority";

pub(super) struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.asks_for_it() && review.target.kind.has(Trait::RunsOnNodes)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, pod: &mut Value) -> Result<(), Refusal> {
        match review.old {
            Some(old) => keep(pod, old),
            None => prioritise(pod).map_err(Refusal::forbidden)?,
        }
        Ok(())
    }
}

/// A change that leaves it out leaves it alone.
fn keep(pod: &mut Value, old: &Value) {
    for key in ["priority", "preemptionPolicy"] {
        if let (None, Some(was)) = (pod["spec"].get(key), old["spec"].get(key)) {
            pod["spec"][key] = was.clone();
        }
    }
}

fn prioritise(pod: &mut Value) -> Result<(), String> {
    let spec = &mut pod["spec"];
    let class = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default();
    let priority = match class {
        "" => 0,
        class => match CRITICAL.iter().find(|(name, _)| *name == class) {
            Some((_, priority)) => *priority,
            None => return Err(format!("no PriorityClass with name {class} was found")),
        },
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|g| *g != priority) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
             controller computed {priority} from the given PriorityClass name"
        ));
    }
    let given = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|g| *g != PREEMPTS);
    if let Some(given) = given {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority \
             admission controller computed {PREEMPTS} from the given PriorityClass name"
        ));
    }
    spec["priority"] = json!(priority);
    spec["preemptionPolicy"] = json!(PREEMPTS);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(spec: &Value, why: &str) {
        let error = prioritise(&mut json!({"spec": spec})).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }

    #[test]
    fn a_pod_gets_its_priority_from_its_class_alone() {
        let mut pod = json!({"spec": {"priorityClassName": "system-node-critical"}});
        prioritise(&mut pod).unwrap();
        assert_eq!(pod["spec"]["priority"], 2_000_001_000);
        let mut plain = json!({"spec": {}});
        prioritise(&mut plain).unwrap();
        assert_eq!(plain["spec"], json!({"priority": 0, "preemptionPolicy": PREEMPTS}));
        refused(&json!({"priorityClassName": "gold"}), "no PriorityClass with name gold was found");
        refused(&json!({"priority": 5}), "the integer value of priority (5) must not be provided");
        refused(
            &json!({"preemptionPolicy": "Never"}),
            "the string value of PreemptionPolicy (Never)",
        );
    }

    #[test]
    fn a_change_that_leaves_the_priority_out_keeps_it() {
        let mut old = json!({"spec": {"priorityClassName": "system-node-critical"}});
        prioritise(&mut old).unwrap();
        let mut new = json!({"spec": {"priorityClassName": "system-node-critical"}});
        keep(&mut new, &old);
        assert_eq!(new, old);
    }
}
