//! What a PodDisruptionBudget allows, by its status, and how an eviction takes from it: pure.
//!
//! The disruption controller says what is allowed; whoever evicts takes one of it, in the same status.

use freewheel_hub_schema::error::{ApiError, Cause, Details};
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Value, json};

use crate::conditions::{BUDGET_DISRUPTION_ALLOWED, Condition};

/// Most pods that may have been evicted without the controller having seen their end.
const DISRUPTED_PODS_MAX: usize = 2000;
/// The cause of a refused eviction.
const CAUSE: &str = "DisruptionBudget";
/// Reason of the condition when the controller could not make the budget up.
pub const SYNC_FAILED: &str = "SyncFailed";

/// A budget, by its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    value: &'a Value,
    /// status.disruptionsAllowed
    pub allowed: i64,
    /// status.currentHealthy
    pub healthy: i64,
    /// status.desiredHealthy
    pub desired: i64,
}

impl<'a> Budget<'a> {
    /// Reads a PodDisruptionBudget.
    #[must_use]
    pub fn read(value: &'a Value) -> Self {
        let count = |field: &str| value["status"][field].as_i64().unwrap_or_default();
        let (allowed, healthy) = (count("disruptionsAllowed"), count("currentHealthy"));
        Self { value, allowed, healthy, desired: count("desiredHealthy") }
    }

    /// Whether a pod that is not ready may go without being counted: its end disrupts nothing that is not so already.
    #[must_use]
    pub fn lets_unready_go(&self) -> bool {
        self.value["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            || (self.desired <= self.healthy && 0 < self.desired)
    }

    /// Why no pod may go, for whoever asked.
    fn refusal(&self) -> String {
        let name = self.value["metadata"]["name"].as_str().unwrap_or_default();
        let condition = BUDGET_DISRUPTION_ALLOWED.find(self.value);
        let text = |key: &str| condition.and_then(|it| it[key].as_str()).unwrap_or_default();
        let (reason, why) = (text("reason"), text("message"));
        let is_explained = text("status") == "False" && !why.is_empty();
        if is_explained && reason == SYNC_FAILED {
            return format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
            );
        }
        if self.healthy <= self.desired {
            let (desired, healthy) = (self.desired, self.healthy);
            return format!(
                "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
            );
        }
        let plain = format!("The disruption budget {name} does not allow evicting pods currently");
        if is_explained { format!("{plain} ({reason}): {why}") } else { plain }
    }
}

/// Whom a budget guards; an absent selector guards nobody, an empty one everybody.
#[must_use]
pub fn selector(budget: &Value) -> Option<LabelSelector> {
    LabelSelector::from_json(budget.pointer("/spec/selector"), "spec.selector").ok()
}

/// Says in the condition what the status allows.
pub fn say_whether_allowed(status: &mut Value, now: &str) {
    let allowed = 0 < status["disruptionsAllowed"].as_i64().unwrap_or_default();
    let reason = if allowed { "SufficientPods" } else { "InsufficientPods" };
    let observed = status["observedGeneration"].as_i64();
    let condition = Condition::new(&BUDGET_DISRUPTION_ALLOWED, allowed, reason, "");
    Condition { observed, ..condition }.put(&mut status["conditions"], now);
}

/// Takes one disruption, for this pod.
///
/// # Errors
/// 429 when there is none, or the status is not about the budget as it is now; 403 when too many are under way.
pub fn take_one(budget: &mut Value, pod: &str, now: &str) -> Result<(), ApiError> {
    let name = budget["metadata"]["name"].as_str().unwrap_or_default();
    let observed = budget["status"]["observedGeneration"].as_i64().unwrap_or_default();
    if observed < budget["metadata"]["generation"].as_i64().unwrap_or_default() {
        return Err(still_processed(name));
    }
    let disrupted = budget["status"]["disruptedPods"].as_object();
    if disrupted.is_some_and(|pods| DISRUPTED_PODS_MAX < pods.len()) {
        return Err(too_many_disrupted(name));
    }
    let read = Budget::read(budget);
    if read.allowed <= 0 {
        return Err(refused(read.refusal(), None));
    }
    let allowed = read.allowed - 1;
    budget["status"]["disruptionsAllowed"] = json!(allowed);
    if allowed == 0 {
        say_whether_allowed(&mut budget["status"], now);
    }
    // The controller counts it no longer, though nobody may have told it yet that it goes.
    budget["status"]["disruptedPods"][pod] = json!(now);
    Ok(())
}

/// 429: the budget's status is not about what it asks for now, or about the pod as it was.
#[must_use]
pub fn still_processed(name: &str) -> ApiError {
    let text = format!("The disruption budget {name} is still being processed by the server.");
    refused(text, Some(10))
}

/// 504: others changed it all the time.
#[must_use]
pub fn too_many_conflicts(name: &str) -> ApiError {
    let text = format!("couldn't update PodDisruptionBudget {name:?} due to conflicts");
    let message = format!("Timeout: {text}");
    let details = Details { retry_after_seconds: Some(10), ..Details::default() };
    ApiError { details: Some(Box::new(details)), ..ApiError::new(504, "Timeout", message) }
}

fn refused(message: String, retry_after_seconds: Option<u32>) -> ApiError {
    let cause = Cause { reason: CAUSE.to_owned(), message, ..Cause::default() };
    let details = Details { causes: vec![cause], retry_after_seconds, ..Details::default() };
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    ApiError { details: Some(Box::new(details)), ..ApiError::new(429, "TooManyRequests", text) }
}

fn too_many_disrupted(name: &str) -> ApiError {
    let (group, kind) = ("policy".to_owned(), "poddisruptionbudget".to_owned());
    let message = format!(
        "{kind}.{group} {name:?} is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller"
    );
    let details = Details { name: name.to_owned(), group, kind, ..Details::default() };
    ApiError { details: Some(Box::new(details)), ..ApiError::new(403, "Forbidden", message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64) -> Value {
        json!({
            "metadata": {"name": "web", "generation": 2},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 3, "desiredHealthy": 3,
                "expectedPods": 3, "observedGeneration": 2},
        })
    }

    fn cause(error: &ApiError) -> &str {
        &error.details.as_ref().unwrap().causes[0].message
    }

    #[test]
    fn one_is_taken_and_the_last_one_says_so() {
        let mut two = budget(2);
        take_one(&mut two, "a", "t1").unwrap();
        assert_eq!(two["status"]["disruptionsAllowed"], 1);
        assert_eq!(two["status"]["disruptedPods"], json!({"a": "t1"}));
        assert_eq!(two["status"].get("conditions"), None, "as upstream, only the last one tells");
        take_one(&mut two, "b", "t2").unwrap();
        let told = &two["status"]["conditions"][0];
        assert_eq!(
            (&told["status"], &told["reason"]),
            (&json!("False"), &json!("InsufficientPods"))
        );
        let refused = take_one(&mut two, "c", "t3").unwrap_err();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert_eq!(
            cause(&refused),
            "The disruption budget web needs 3 healthy pods and has 3 currently"
        );
    }

    #[test]
    fn a_status_of_an_older_budget_allows_nothing() {
        let mut old = budget(2);
        old["status"]["observedGeneration"] = json!(1);
        let refused = take_one(&mut old, "a", "t").unwrap_err();
        assert_eq!(refused.details.as_ref().unwrap().retry_after_seconds, Some(10));
        assert_eq!(
            cause(&refused),
            "The disruption budget web is still being processed by the server."
        );
    }

    #[test]
    fn a_refusal_says_why() {
        let mut failed = budget(0);
        failed["status"]["conditions"] = json!([{"type": "DisruptionAllowed", "status": "False",
            "reason": "SyncFailed", "message": "jobs.batch does not implement the scale subresource"}]);
        let refused = take_one(&mut failed, "a", "t").unwrap_err();
        assert_eq!(
            cause(&refused),
            "The disruption budget web does not allow evicting pods currently because it failed sync: jobs.batch does not implement the scale subresource"
        );
        let mut several = budget(0);
        several["status"]["currentHealthy"] = json!(4);
        let refused = take_one(&mut several, "a", "t").unwrap_err();
        assert_eq!(
            cause(&refused),
            "The disruption budget web does not allow evicting pods currently"
        );
        let many: serde_json::Map<String, Value> =
            (0..=DISRUPTED_PODS_MAX).map(|i| (i.to_string(), json!("t"))).collect();
        let mut full = budget(1);
        full["status"]["disruptedPods"] = Value::Object(many);
        assert_eq!(take_one(&mut full, "a", "t").unwrap_err().code, 403);
    }

    #[test]
    fn unready_pods_go_where_nothing_is_disrupted_by_it() {
        let mut one = budget(0);
        assert!(Budget::read(&one).lets_unready_go(), "enough others are healthy");
        one["status"]["currentHealthy"] = json!(2);
        assert!(!Budget::read(&one).lets_unready_go());
        one["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert!(Budget::read(&one).lets_unready_go());
    }

    #[test]
    fn an_absent_selector_guards_nobody_and_an_empty_one_everybody() {
        let guards = |budget: Value| {
            selector(&budget).is_some_and(|it| it.matches(&std::collections::BTreeMap::new()))
        };
        assert!(!guards(json!({"spec": {}})));
        assert!(guards(json!({"spec": {"selector": {}}})));
    }
}
