//! What a budget allows, from its pods as they are: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_api::disruption::say_whether_allowed;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::amount::in_pods;
use crate::engine::clock::rfc3339;

/// How long a pod that was evicted may take until its deletion is seen; after that it is taken to stay.
pub const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// A pod of the budget.
#[derive(Clone, Debug)]
pub struct PodHealth {
    /// metadata.name
    pub name: String,
    /// Condition Ready is True.
    pub ready: bool,
    /// Deletion was asked for.
    pub deleting: bool,
}

/// Of how many pods, and how many of them have to be healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// status.expectedPods
    pub expected: i32,
    /// status.desiredHealthy
    pub desired: i32,
}

/// What a run comes to.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// The new status.
    pub status: Value,
    /// Pods that were evicted and stay.
    pub not_deleted: Vec<String>,
    /// When the next of them will have taken too long.
    pub look_again: Option<Duration>,
}

/// Whether the budget is a share of what its pods' controllers ask for.
#[must_use]
pub fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// What the spec asks for, of so many pods whose controllers ask for `scale` together.
#[must_use]
pub fn expectation(spec: &PodDisruptionBudgetSpec, pods: usize, scale: i32) -> Expectation {
    let expected = if needs_scale(spec) { scale } else { i32::try_from(pods).unwrap_or(i32::MAX) };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let desired = expected.saturating_sub(in_pods(most, expected, true)).max(0);
            Expectation { expected, desired }
        }
        (None, Some(least)) => Expectation { expected, desired: in_pods(least, expected, true) },
        (None, None) => Expectation::default(),
    }
}

/// The status of a budget of this generation.
#[must_use]
pub fn decide(
    (generation, before): (i64, &PodDisruptionBudgetStatus),
    pods: &[PodHealth],
    wanted: Expectation,
    now: Timestamp,
) -> Verdict {
    let (mut disrupted, mut not_deleted, mut next) = (BTreeMap::new(), Vec::new(), None);
    let told = before.disrupted_pods.as_ref();
    for pod in pods.iter().filter(|pod| !pod.deleting) {
        let Some(since) = told.and_then(|told| told.get(&pod.name)).map(|time| time.0) else {
            continue;
        };
        let left = since.saturating_add(DELETION_TIMEOUT).unwrap_or(since).duration_since(now);
        match Duration::try_from(left) {
            Ok(left) => {
                disrupted.insert(pod.name.as_str(), since);
                next = Some(next.map_or(left, |next: Duration| next.min(left)));
            }
            Err(_) => not_deleted.push(pod.name.clone()),
        }
    }
    let is_healthy =
        |pod: &&PodHealth| pod.ready && !pod.deleting && !disrupted.contains_key(&*pod.name);
    let healthy = i32::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    // Who matches no pod yet allows nothing: its first one may come before this looks again.
    let spare = healthy.saturating_sub(wanted.desired).max(0);
    let allowed = if wanted.expected <= 0 { 0 } else { spare };
    let mut status = json!({
        "currentHealthy": healthy, "desiredHealthy": wanted.desired, "expectedPods": wanted.expected,
        "disruptionsAllowed": allowed, "observedGeneration": generation,
        "conditions": before.conditions,
    });
    if !disrupted.is_empty() {
        let times = disrupted.iter().map(|(name, at)| ((*name).to_owned(), json!(rfc3339(*at))));
        status["disruptedPods"] = Value::Object(times.collect());
    }
    say_whether_allowed(&mut status, &rfc3339(now));
    // A moment later than the end of the time, so that it is over then.
    let look_again = next.map(|left| left + Duration::from_secs(1));
    Verdict { status, not_deleted, look_again }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn spec(value: Value) -> PodDisruptionBudgetSpec {
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn expects(asked: Value, pods: usize, scale: i32, expected: i32, desired: i32) {
        let got = expectation(&spec(asked), pods, scale);
        assert_eq!(got, Expectation { expected, desired });
    }

    #[test]
    fn a_budget_is_a_number_or_a_share() {
        expects(json!({"minAvailable": 2}), 3, 0, 3, 2);
        expects(json!({"minAvailable": "28%"}), 3, 10, 10, 3);
        expects(json!({"maxUnavailable": 1}), 3, 10, 10, 9);
        expects(json!({"maxUnavailable": "30%"}), 3, 7, 7, 4);
        expects(json!({"maxUnavailable": 5}), 2, 3, 3, 0);
        expects(json!({}), 2, 3, 0, 0);
    }

    fn pods(ready: usize, unready: usize) -> Vec<PodHealth> {
        let pod = |i: usize| PodHealth { name: format!("p{i}"), ready: i < ready, deleting: false };
        (0..ready + unready).map(pod).collect()
    }

    fn status(value: Value) -> PodDisruptionBudgetStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_ready_beyond_the_wish_may_go() {
        let wanted = Expectation { expected: 3, desired: 2 };
        let verdict = decide((4, &status(json!({}))), &pods(3, 1), wanted, at(100));
        assert_eq!(
            verdict.status,
            json!({"currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3,
            "disruptionsAllowed": 1, "observedGeneration": 4, "conditions": [{
                "type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods",
                "message": "", "lastTransitionTime": "1970-01-01T00:01:40Z", "observedGeneration": 4,
            }]})
        );
        let nobody = decide((4, &status(json!({}))), &[], Expectation::default(), at(100));
        assert_eq!(nobody.status["disruptionsAllowed"], 0);
        assert_eq!(nobody.status["conditions"][0]["reason"], "InsufficientPods");
    }

    #[test]
    fn evicted_pods_do_not_count_until_they_have_stayed_too_long() {
        let before = status(json!({"disruptedPods": {
            "p0": "1970-01-01T00:01:40Z", "p1": "1970-01-01T00:00:00Z", "gone": "1970-01-01T00:01:40Z",
        }}));
        let wanted = Expectation { expected: 3, desired: 1 };
        let verdict = decide((1, &before), &pods(3, 0), wanted, at(130));
        assert_eq!(verdict.status["currentHealthy"], 2);
        assert_eq!(verdict.status["disruptedPods"], json!({"p0": "1970-01-01T00:01:40Z"}));
        assert_eq!(verdict.not_deleted, ["p1"]);
        assert_eq!(verdict.look_again, Some(Duration::from_secs(91)));
        let mut going = pods(3, 0);
        going[0].deleting = true;
        let verdict = decide((1, &before), &going, wanted, at(110));
        assert_eq!(verdict.status["currentHealthy"], 1, "one goes, one was evicted");
        assert_eq!(verdict.status["disruptedPods"], json!({"p1": "1970-01-01T00:00:00Z"}));
    }
}
