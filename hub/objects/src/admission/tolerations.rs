//! DefaultTolerationSeconds: how long a pod tolerates that its Node is not heard of is said at the pod.
//!
//! Guarantees:
//! - who said nothing is told from who said the same (`what_is_said_is_told_from_what_is_added`).

use async_trait::async_trait;
use freewheel_hub_api::kinds::node::{NOT_READY, UNREACHABLE};
use freewheel_hub_api::kinds::pod::{OWN_TOLERATIONS, TOLERATED_SECONDS};
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

    async fn mutate(&self, review: &Review<'_>, pod: &mut Value) -> Result<(), Refusal> {
        // In a second round it has what the first has added.
        if !review.rounds.is_second() {
            note_own(review.old, pod);
        }
        tolerate(pod);
        Ok(())
    }
}

/// What is added to who says nothing of this taint.
fn added(key: &str) -> Value {
    json!({
        "key": key, "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": TOLERATED_SECONDS,
    })
}

/// Writes down what a pod was made with, before anything is added to it; of one that is changed it stays.
fn note_own(old: Option<&Value>, pod: &mut Value) {
    let own = match old {
        Some(old) => {
            old["metadata"]["annotations"][OWN_TOLERATIONS].as_str().unwrap_or_default().to_owned()
        }
        None => {
            let said = pod.pointer("/spec/tolerations").and_then(Value::as_array);
            let is_said = |key: &&str| said.is_some_and(|said| said.contains(&added(key)));
            [NOT_READY, UNREACHABLE].into_iter().filter(is_said).collect::<Vec<_>>().join(",")
        }
    };
    if !own.is_empty() {
        pod["metadata"]["annotations"][OWN_TOLERATIONS] = own.into();
    } else if let Some(all) =
        pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
    {
        all.remove(OWN_TOLERATIONS);
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
            tolerations.push(added(key));
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
    fn what_is_said_is_told_from_what_is_added() {
        let own = |old: Option<&Value>, mut pod: Value| {
            note_own(old, &mut pod);
            tolerate(&mut pod);
            let own = pod["metadata"]["annotations"][OWN_TOLERATIONS].clone();
            (own, pod)
        };
        let meta = || json!({"name": "web", "annotations": {"a": "b"}});
        let (nothing, plain) = own(None, json!({"metadata": meta(), "spec": {}}));
        assert_eq!((nothing, &plain["metadata"]["name"]), (Value::Null, &json!("web")));
        assert_eq!(own(Some(&plain), plain.clone()).0, Value::Null, "a change says nothing more");

        let said = json!({"tolerations": [added(UNREACHABLE)]});
        let (one, pod) = own(None, json!({"metadata": {"name": "web"}, "spec": said}));
        assert_eq!(one, UNREACHABLE);
        let mut without = pod.clone();
        without["metadata"] = meta();
        assert_eq!(own(Some(&pod), without).0, UNREACHABLE, "nobody takes it off");
        let mut forged = plain;
        forged["metadata"]["annotations"][OWN_TOLERATIONS] = UNREACHABLE.into();
        forged["spec"] = json!({});
        assert_eq!(own(None, forged).0, Value::Null, "or puts it there");
        let both = json!({"tolerations": [added(NOT_READY), added(UNREACHABLE)]});
        let (both, _) = own(None, json!({"metadata": meta(), "spec": both}));
        assert_eq!(both, format!("{NOT_READY},{UNREACHABLE}"));
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
