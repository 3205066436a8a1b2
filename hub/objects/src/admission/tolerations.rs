//! DefaultTolerationSeconds: how long a pod tolerates that its Node is not heard of is said at the pod.

use async_trait::async_trait;
use freewheel_hub_api::kinds::node::{NOT_READY, UNREACHABLE};
use freewheel_hub_api::kinds::pod::TOLERATED_SECONDS;
use freewheel_hub_schema::kind::Trait;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;

pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.asks_for_it() && review.target.kind.has(Trait::RunsOnNodes)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, _: &Review<'_>, pod: &mut Value) -> Result<(), Refusal> {
        tolerate(pod);
        Ok(())
    }
}

fn tolerate(pod: &mut Value) {
    let list = pod.pointer("/spec/tolerations").and_then(Value::as_array);
    let mut tolerations = list.cloned().unwrap_or_default();
    for key in [NOT_READY, UNREACHABLE] {
        let condition = |toleration: &Value, field: &str, text: &str| {
            let value = toleration.get(field).and_then(Value::as_str).unwrap_or_default();
            value.is_empty() || value == text
        };
        let tolerated = tolerations
            .iter()
            .any(|t| condition(t, "key", key) && condition(t, "effect", "NoExecute"));
        if !tolerated {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATED_SECONDS,
            }));
        }
    }
    pod["spec"]["tolerations"] = tolerations.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_of_silence_tolerates_it_for_a_while() {
        let mut pod = json!({"spec": {}});
        tolerate(&mut pod);
        let added = pod["spec"]["tolerations"].as_array().unwrap();
        let keys: Vec<_> = added.iter().map(|t| t["key"].clone()).collect();
        assert_eq!(keys, [NOT_READY, UNREACHABLE]);
    }

    #[test]
    fn who_says_something_about_silence_is_left_at_it() {
        for told in [
            json!([{"operator": "Exists"}]),
            json!([{"key": NOT_READY, "operator": "Exists"},
                {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
        ] {
            let mut pod = json!({"spec": {"tolerations": told}});
            tolerate(&mut pod);
            assert_eq!(pod["spec"]["tolerations"], told);
        }
        let other = json!({"key": UNREACHABLE, "operator": "Exists", "effect": "NoSchedule"});
        let mut pod = json!({"spec": {"tolerations": [other]}});
        tolerate(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 3);
    }
}
