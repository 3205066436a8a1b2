//! Whether the agent of an add-on is well, by its lease: one of its name on its own cluster, which it renews.
//!
//! Guarantees:
//! - it is well for five minutes after it said so last (`an_agent_is_as_well_as_its_lease`);
//! - of a cluster that is not heard of nobody knows (`of_a_cluster_that_is_not_heard_of_nobody_knows`).

use std::time::Duration;

use freewheel_hub_api::conditions::{
    ADD_ON_AVAILABLE, CLUSTER_AVAILABLE, Condition, ConditionStatus,
};
use freewheel_hub_fleet::add_on::setting::DEFAULT_NAMESPACE;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Five times the minute in which an agent renews it, as upstream has it.
const LEASE_GRACE: SignedDuration = SignedDuration::from_secs(5 * 60);

/// The namespace of the lease.
pub(super) fn namespace(instance: &Value) -> &str {
    let places = ["/status/namespace", "/spec/installNamespace"];
    let said = places.iter().filter_map(|it| instance.pointer(it)?.as_str());
    said.into_iter().find(|it| !it.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

/// What is said of the agent of this add-on by its lease, if there is one, and how long that is so by itself.
pub(super) fn of_lease(
    add_on: &str,
    lease: Option<&Value>,
    now: Timestamp,
) -> (Condition<'static>, Option<Duration>) {
    let Some(lease) = lease else {
        let text = format!("The status of {add_on} add-on is unknown.");
        let unknown = ConditionStatus::Unknown;
        let reason = "ManagedClusterAddOnLeaseNotFound";
        return (Condition::new(&ADD_ON_AVAILABLE, unknown, reason, text), None);
    };
    let renewed = lease["spec"]["renewTime"].as_str().and_then(|it| it.parse::<Timestamp>().ok());
    let end = renewed.map(|it| it.checked_add(LEASE_GRACE).unwrap_or(Timestamp::MAX));
    match end.filter(|end| now < *end) {
        Some(end) => {
            let text = format!("{add_on} add-on is available.");
            let reason = "ManagedClusterAddOnLeaseUpdated";
            let rest = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            (Condition::new(&ADD_ON_AVAILABLE, true, reason, text), Some(rest))
        }
        None => {
            let text = format!("{add_on} add-on is not available.");
            let reason = "ManagedClusterAddOnLeaseUpdateStopped";
            (Condition::new(&ADD_ON_AVAILABLE, false, reason, text), None)
        }
    }
}

/// What is said of all agents of a cluster that is not heard of.
pub(super) fn of_silent(cluster: &Value) -> Option<Condition<'static>> {
    let said = CLUSTER_AVAILABLE.find(cluster)?;
    let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    (text("status") == "Unknown").then(|| {
        let unknown = ConditionStatus::Unknown;
        Condition::new(&ADD_ON_AVAILABLE, unknown, text("reason"), text("message"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lease_is_good_for_five_minutes() {
        let now: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        let lease = |renewed: &str| json!({"spec": {"renewTime": renewed}});
        let of = |lease: Option<Value>| {
            let (condition, rest) = of_lease("web", lease.as_ref(), now);
            (condition.status, condition.reason.into_owned(), rest.map(|it| it.as_secs()))
        };
        let stopped = "ManagedClusterAddOnLeaseUpdateStopped".to_owned();
        assert_eq!(
            of(Some(lease("2026-01-01T00:04:00.000000Z"))),
            (ConditionStatus::True, "ManagedClusterAddOnLeaseUpdated".to_owned(), Some(240))
        );
        assert_eq!(
            of(Some(lease("2026-01-01T00:00:00Z"))),
            (ConditionStatus::False, stopped.clone(), None)
        );
        assert_eq!(of(Some(json!({}))), (ConditionStatus::False, stopped, None));
        assert_eq!(of(None).0, ConditionStatus::Unknown);
        assert_eq!(
            namespace(&json!({"spec": {"installNamespace": "a"}, "status": {"namespace": ""}})),
            "a"
        );
    }
}
