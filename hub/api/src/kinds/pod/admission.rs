//! What kube-apiserver's admission plugins do to pods: Priority, RuntimeClass and DefaultTolerationSeconds.
//!
//! There are no PriorityClasses and RuntimeClasses here but the two that every cluster is born with: whoever
//! names another is told so at once.

use serde_json::{Map, Value, json};

use super::super::look::child;
use super::super::node::{NOT_READY, UNREACHABLE};

/// How long every pod tolerates that its Node is not heard of, unless it says something else. That it is said
/// at all is for other people's tools: the hub evicts nobody by it.
pub const TOLERATED_SECONDS: i64 = 300;

/// PriorityClasses of every cluster.
const CRITICAL: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPTS: &str = "PreemptLowerPriority";

/// Lets a new pod in, or a change through the main door (`old`).
pub(super) fn admit(new: &mut Value, old: Option<&Value>) -> Result<(), String> {
    let Some(spec) = child(new, "spec") else { return Ok(()) };
    tolerate(spec);
    if let Some(old) = old {
        for key in ["priority", "preemptionPolicy"] {
            if let (None, Some(was)) = (spec.get(key), old.get("spec").and_then(|s| s.get(key))) {
                spec.insert(key.to_owned(), was.clone());
            }
        }
        return Ok(());
    }
    prioritise(spec)?;
    match spec.get("runtimeClassName").and_then(Value::as_str) {
        Some(name) => Err(format!("pod rejected: RuntimeClass {name:?} not found")),
        None => Ok(()),
    }
}

fn tolerate(spec: &mut Map<String, Value>) {
    let mut tolerations =
        spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    for key in [NOT_READY, UNREACHABLE] {
        let says = |toleration: &Value, field: &str, text: &str| {
            let said = toleration.get(field).and_then(Value::as_str).unwrap_or_default();
            said.is_empty() || said == text
        };
        let told =
            tolerations.iter().any(|t| says(t, "key", key) && says(t, "effect", "NoExecute"));
        if !told {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATED_SECONDS,
            }));
        }
    }
    spec.insert("tolerations".to_owned(), tolerations.into());
}

/// The priority follows from the class alone.
fn prioritise(spec: &mut Map<String, Value>) -> Result<(), String> {
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
    spec.insert("priority".to_owned(), json!(priority));
    spec.insert("preemptionPolicy".to_owned(), json!(PREEMPTS));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(spec: &Value, why: &str) {
        let error = admit(&mut json!({"spec": spec}), None).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }

    #[test]
    fn a_pod_gets_its_priority_from_its_class_alone() {
        let mut pod = json!({"spec": {"priorityClassName": "system-node-critical"}});
        admit(&mut pod, None).unwrap();
        assert_eq!(pod["spec"]["priority"], 2_000_001_000);
        let mut plain = json!({"spec": {}});
        admit(&mut plain, None).unwrap();
        let added = plain["spec"].as_object_mut().unwrap().remove("tolerations").unwrap();
        assert_eq!(plain["spec"], json!({"priority": 0, "preemptionPolicy": PREEMPTS}));
        let keys: Vec<_> = added.as_array().unwrap().iter().map(|t| t["key"].clone()).collect();
        assert_eq!(keys, [NOT_READY, UNREACHABLE]);
        refused(&json!({"priorityClassName": "gold"}), "no PriorityClass with name gold was found");
        refused(&json!({"priority": 5}), "the integer value of priority (5) must not be provided");
        refused(
            &json!({"preemptionPolicy": "Never"}),
            "the string value of PreemptionPolicy (Never)",
        );
        refused(
            &json!({"runtimeClassName": "gvisor"}),
            "pod rejected: RuntimeClass \"gvisor\" not found",
        );
    }

    #[test]
    fn who_says_something_about_silence_is_left_at_it() {
        for told in [
            json!([{"operator": "Exists"}]),
            json!([{"key": NOT_READY, "operator": "Exists"},
                {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
        ] {
            let mut pod = json!({"spec": {"tolerations": told}});
            admit(&mut pod, None).unwrap();
            assert_eq!(pod["spec"]["tolerations"], told);
        }
        let other = json!({"key": UNREACHABLE, "operator": "Exists", "effect": "NoSchedule"});
        let mut pod = json!({"spec": {"tolerations": [other]}});
        admit(&mut pod, None).unwrap();
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_change_that_leaves_the_priority_out_keeps_it() {
        let mut old = json!({"spec": {"priorityClassName": "system-node-critical"}});
        admit(&mut old, None).unwrap();
        let mut new = json!({"spec": {"priorityClassName": "system-node-critical"}});
        admit(&mut new, Some(&old)).unwrap();
        assert_eq!(new, old);
    }
}
