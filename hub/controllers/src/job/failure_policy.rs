//! What a Job's podFailurePolicy says about a failed pod.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

/// What a failure comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// It counts, as without a policy.
    Counted,
    /// It never happened.
    Ignored,
    /// No further pod is tried for its index.
    FailsIndex,
    /// The Job fails, for this reason.
    FailsJob(String),
}

impl Consequence {
    /// Whether it counts against the limits.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        *self != Self::Ignored
    }
}

/// The first rule that matches decides.
#[must_use]
pub fn consequence(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Consequence {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let codes = rule.on_exit_codes.as_ref();
        let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
        let why = match codes {
            Some(wanted) => container(pod, wanted).map(|(container, code)| {
                format!(
                    "Container {container} for pod {} failed with exit code {code} matching {} rule at index {at}",
                    place(pod), rule.action
                )
            }),
            None => condition(pod, conditions).map(|found| {
                format!("Pod {} has condition {} matching {} rule at index {at}", place(pod), found.type_, rule.action)
            }),
        };
        let Some(why) = why else { continue };
        match rule.action.as_str() {
            "Ignore" => return Consequence::Ignored,
            "FailIndex" => return Consequence::FailsIndex,
            "FailJob" => return Consequence::FailsJob(why),
            "Count" => return Consequence::Counted,
            _ => {}
        }
    }
    Consequence::Counted
}

fn place(pod: &Pod) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name))
}

/// The first container that ended as the rule says, and its exit code; ordinary ones before init containers.
fn container<'a>(
    pod: &'a Pod,
    wanted: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let code = |one: &ContainerStatus| Some(one.state.as_ref()?.terminated.as_ref()?.exit_code);
    let named =
        |one: &ContainerStatus| wanted.container_name.as_ref().is_none_or(|name| *name == one.name);
    let matches = |code: i32| match wanted.operator.as_str() {
        "In" => wanted.values.contains(&code),
        "NotIn" => !wanted.values.contains(&code),
        _ => false,
    };
    let all = lists.into_iter().flatten().flatten().filter(|one| named(one));
    let mut failed = all.filter_map(|one| Some((one.name.as_str(), code(one)?)));
    failed.find(|(_, code)| *code != 0 && matches(*code))
}

fn condition<'a>(
    pod: &'a Pod,
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
) -> Option<&'a PodCondition> {
    let all = pod.status.as_ref()?.conditions.as_ref()?;
    all.iter().find(|one| {
        patterns.iter().any(|pattern| {
            let status = pattern.status.as_deref().unwrap_or("True");
            pattern.type_ == one.type_ && status == one.status
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(rules: &Value, expected: &Consequence) {
        let terminated = json!({"terminated": {"exitCode": 42}});
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}],
                "containerStatuses": [
                    {"name": "c", "state": terminated, "ready": false, "restartCount": 0, "image": "", "imageID": ""}]},
        }));
        let policy = serde_json::from_value(json!({"rules": rules})).unwrap();
        assert_eq!(consequence(Some(&policy), &pod.unwrap()), *expected, "{rules}");
    }

    fn on_codes(action: &str, operator: &str, values: &[i32]) -> Value {
        json!({"action": action, "onExitCodes": {"operator": operator, "values": values}})
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        check(&json!([]), &Consequence::Counted);
        check(&json!([on_codes("Ignore", "In", &[42])]), &Consequence::Ignored);
        check(&json!([on_codes("Ignore", "NotIn", &[42])]), &Consequence::Counted);
        let mut elsewhere = on_codes("Ignore", "In", &[42]);
        elsewhere["onExitCodes"]["containerName"] = json!("other");
        let disrupted = json!({"action": "FailIndex",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
        check(&json!([elsewhere, disrupted]), &Consequence::FailsIndex);
        check(
            &json!([on_codes("Count", "In", &[1]), on_codes("FailJob", "NotIn", &[1])]),
            &Consequence::FailsJob(
                "Container c for pod n/p failed with exit code 42 matching FailJob rule at index 1"
                    .into(),
            ),
        );
        let disrupted =
            json!({"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]});
        check(
            &json!([disrupted]),
            &Consequence::FailsJob(
                "Pod n/p has condition DisruptionTarget matching FailJob rule at index 0".into(),
            ),
        );
    }
}
