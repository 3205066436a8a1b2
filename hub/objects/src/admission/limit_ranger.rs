//! LimitRanger: what pods and claims of a namespace may ask for, and what pods get unasked.

use async_trait::async_trait;
use freewheel_hub_api::kinds::pod_spec::requirements::{self, Amounts};
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::Resource;
use freewheel_hub_schema::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use crate::Claims;

const SAID: &str = "kubernetes.io/limit-ranger";
/// Lists of a pod's containers, and what one of them is called.
const CONTAINERS: [(&str, &str); 2] =
    [("containers", "container"), ("initContainers", "init container")];

pub(super) struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let kind = &review.target.kind;
        match (kind.has(Trait::RunsOnNodes), kind.has(Trait::AsksForStorage)) {
            (true, _) => review.creates(),
            (false, true) => review.asks_for_it(),
            (false, false) => false,
        }
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Refusal> {
        if review.target.kind.has(Trait::RunsOnNodes) {
            ranges(review).iter().for_each(|range| fill_in(object, range));
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        for range in ranges(review) {
            let broken = if review.target.kind.has(Trait::RunsOnNodes) {
                check_pod(&range, object)
            } else {
                check_claim(&range, object)
            };
            match broken.as_slice() {
                [] => {}
                [one] => return Err(Refusal::forbidden(one)),
                many => return Err(Refusal::forbidden(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(Claims::default())
    }
}

fn ranges(review: &Review<'_>) -> Vec<Value> {
    review.in_its_namespace(&Resource::new("", "limitranges"))
}

fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let limits = range.pointer("/spec/limits").and_then(Value::as_array);
    limits.into_iter().flatten().filter(move |limit| limit["type"] == kind)
}

fn amounts(limit: &Value, list: &str) -> Amounts {
    let amounts = limit.get(list).and_then(Value::as_object).into_iter().flatten();
    amounts
        .filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?)))
        .collect()
}

/// What its containers do not say is said for them, and that it was.
fn fill_in(pod: &mut Value, range: &Value) {
    let mut changes = Vec::new();
    for (list, called) in CONTAINERS {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let own = container["name"].as_str().unwrap_or_default().to_owned();
            for (from, to, what) in
                [("defaultRequest", "requests", "request"), ("default", "limits", "limit")]
            {
                let set = limits(range, "Container")
                    .flat_map(|limit| give(container, limit, from, to))
                    .collect::<Vec<_>>();
                if !set.is_empty() {
                    changes.push(format!("{} {what} for {called} {own}", set.join(", ")));
                }
            }
        }
    }
    if changes.is_empty() {
        return;
    }
    let text = format!("LimitRanger plugin set: {}", changes.join("; "));
    if pod["metadata"].get("annotations").is_none() {
        pod["metadata"]["annotations"] = json!({});
    }
    pod["metadata"]["annotations"][SAID] = json!(text);
}

/// Gives a container what it does not say; answers the names.
fn give(container: &mut Value, limit: &Value, from: &str, to: &str) -> Vec<String> {
    let mut set = Vec::new();
    let given: Map<String, Value> =
        limit.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, amount) in given {
        if container.pointer(&format!("/resources/{to}")).and_then(|has| has.get(&name)).is_none() {
            container["resources"][to][&name] = amount;
            set.push(name);
        }
    }
    set
}

fn check_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let spec = &pod["spec"];
    for limit in limits(range, "Container") {
        for (list, _) in CONTAINERS {
            for container in spec[list].as_array().into_iter().flatten() {
                let of = |sort| requirements::of_container(container, sort);
                broken.extend(check(limit, "Container", &of("requests"), &of("limits")));
            }
        }
    }
    for limit in limits(range, "Pod") {
        let (requests, most) = (requirements::requests(spec), requirements::limits(spec));
        broken.extend(check(limit, "Pod", &requests, &most));
    }
    broken
}

fn check(limit: &Value, of: &str, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, least) in amounts(limit, "min") {
        broken.extend(below(of, (&name, least), requests, limits));
    }
    for (name, most) in amounts(limit, "max") {
        let start = format!("maximum {name} usage per {of} is {most}");
        broken.extend(match (requests.get(&name), limits.get(&name)) {
            (_, None) => Some(format!("{start}.  No limit is specified")),
            (_, Some(limit)) if most < *limit => Some(format!("{start}, but limit is {limit}")),
            (Some(request), _) if most < *request => {
                Some(format!("{start}, but request is {request}"))
            }
            (Some(_) | None, Some(_)) => None,
        });
    }
    for (name, most) in amounts(limit, "maxLimitRequestRatio") {
        let some = |from: &Amounts| from.get(&name).copied().filter(|amount| !amount.is_zero());
        let start = format!("{name} max limit to request ratio per {of} is {most}");
        broken.extend(match (some(requests), some(limits)) {
            (None, _) => Some(format!("{start}, but no request is specified or request is 0")),
            (_, None) => Some(format!("{start}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let ratio = ratio(limit, request);
                let text = format!("{start}, but provided ratio is {ratio:.6}");
                (ratio_max(most) < ratio).then_some(text)
            }
        });
    }
    broken
}

#[expect(clippy::cast_precision_loss, reason = "a ratio is told with six decimals")]
fn ratio(limit: Quantity, request: Quantity) -> f64 {
    limit.milli_value() as f64 / request.milli_value() as f64
}

#[expect(clippy::cast_precision_loss, reason = "a ratio is told with six decimals")]
fn ratio_max(most: Quantity) -> f64 {
    most.milli_value() as f64 / 1000.0
}

fn below(
    of: &str,
    (name, least): (&str, Quantity),
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let start = format!("minimum {name} usage per {of} is {least}");
    match (requests.get(name), limits.get(name)) {
        (None, _) => Some(format!("{start}.  No request is specified")),
        (Some(request), _) if *request < least => {
            Some(format!("{start}, but request is {request}"))
        }
        (_, Some(limit)) if *limit < least => Some(format!("{start}, but limit is {limit}")),
        (Some(_), Some(_) | None) => None,
    }
}

fn check_claim(range: &Value, claim: &Value) -> Vec<String> {
    let requests = requirements::of_container(&claim["spec"], "requests");
    let of = "PersistentVolumeClaim";
    let mut broken = Vec::new();
    for limit in limits(range, of) {
        for (name, least) in amounts(limit, "min") {
            broken.extend(below(of, (&name, least), &requests, &Amounts::new()));
        }
        for (name, most) in amounts(limit, "max") {
            let start = format!("maximum {name} usage per {of} is {most}");
            broken.extend(match requests.get(&name) {
                None => Some(format!("{start}.  No request is specified")),
                Some(request) if most < *request => {
                    Some(format!("{start}, but request is {request}"))
                }
                Some(_) => None,
            });
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limit: &Value) -> Value {
        json!({"spec": {"limits": [limit]}})
    }

    #[test]
    fn a_container_gets_what_it_does_not_say_and_the_pod_tells() {
        let range = range(
            &json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "500m"}}),
        );
        let mut pod = json!({"metadata": {}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}}]}});
        fill_in(&mut pod, &range);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})
        );
        assert_eq!(
            pod["spec"]["containers"][1]["resources"],
            json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "2"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][SAID],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; memory limit for container b"
        );
    }

    #[test]
    fn a_pod_outside_of_the_range_is_refused_with_every_reason() {
        let pod = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "3"}, "requests": {"cpu": "1", "memory": "1Mi"}}}]}});
        for (limit, told) in [
            (
                json!({"type": "Container", "max": {"cpu": "2"}}),
                "maximum cpu usage per Container is 2, but limit is 3",
            ),
            (
                json!({"type": "Pod", "max": {"memory": "1Gi"}}),
                "maximum memory usage per Pod is 1Gi.  No limit is specified",
            ),
            (
                json!({"type": "Pod", "min": {"memory": "2Mi"}}),
                "minimum memory usage per Pod is 2Mi, but request is 1Mi",
            ),
            (
                json!({"type": "Container", "min": {"disk": "1"}}),
                "minimum disk usage per Container is 1.  No request is specified",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
        ] {
            assert_eq!(check_pod(&range(&limit), &pod), [told]);
        }
        assert!(check_pod(&range(&json!({"type": "Pod", "max": {"cpu": "3"}})), &pod).is_empty());
        let claim = json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}});
        let limit = json!({"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}, "max": {"storage": "3Gi"}});
        assert_eq!(
            check_claim(&range(&limit), &claim),
            ["minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi"]
        );
    }
}
