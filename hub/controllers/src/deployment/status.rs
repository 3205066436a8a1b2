//! status of a Deployment: counts and the conditions that `kubectl rollout status` reads. Pure.

use std::time::Duration;

use freewheel_hub_api::conditions::{
    Condition, ConditionStatus, ConditionType, DEPLOYMENT_AVAILABLE, DEPLOYMENT_PROGRESSING,
    DEPLOYMENT_REPLICA_FAILURE, SET_REPLICA_FAILURE,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use serde_json::Value;

use super::observe::{Sets, Wanted};
use crate::engine::clock::rfc3339;

/// Reason of Progressing once a rollout is through.
pub const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
/// Reason of Progressing when a rollout takes too long.
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// A status and when time alone will change it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The new status.
    pub status: DeploymentStatus,
    /// When the progress deadline ends.
    pub look_again: Option<Duration>,
}

/// How the rollout is.
#[must_use]
pub fn progressing<'a>(
    status: impl Into<ConditionStatus>,
    reason: &'a str,
    message: String,
) -> Condition<'a> {
    Condition::new(&DEPLOYMENT_PROGRESSING, status, reason, message)
}

/// The condition of this type.
#[must_use]
pub fn find<'a>(
    status: &'a DeploymentStatus,
    kind: &ConditionType,
) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind.name)
}

/// Puts a condition in; what says the same as before stays as it was.
pub fn set(status: &mut DeploymentStatus, condition: &Condition<'_>, now: Timestamp) {
    change(status, |list| {
        condition.put(list, &rfc3339(now));
    });
}

fn remove(status: &mut DeploymentStatus, kind: &ConditionType) {
    if let Some(list) = &mut status.conditions {
        list.retain(|c| c.type_ != kind.name);
    }
}

/// In the form in which conditions are put everywhere.
fn change(status: &mut DeploymentStatus, change: impl FnOnce(&mut Value)) {
    let Ok(mut list) = serde_json::to_value(&status.conditions) else { return };
    change(&mut list);
    if let Ok(list) = serde_json::from_value(list) {
        status.conditions = list;
    }
}

/// Counts and Available.
#[must_use]
pub fn calculate(wanted: &Wanted, sets: &Sets, now: Timestamp) -> DeploymentStatus {
    let old = wanted.typed.status.clone().unwrap_or_default();
    let some = |number: i32| (number != 0).then_some(number);
    let available = sets.sum(|s| s.available);
    let updated = sets.new.as_ref().map_or(0, |s| s.actual);
    let mut status = DeploymentStatus {
        observed_generation: (wanted.generation != 0).then_some(wanted.generation),
        replicas: some(sets.sum(|s| s.actual)),
        updated_replicas: some(updated),
        ready_replicas: some(sets.sum(|s| s.ready)),
        available_replicas: some(available),
        unavailable_replicas: some((sets.sum(|s| s.replicas) - available).max(0)),
        collision_count: old.collision_count,
        conditions: old.conditions,
        terminating_replicas: None,
    };
    let enough = available >= wanted.replicas - wanted.unavailable();
    let (reason, text) = if enough {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, &Condition::new(&DEPLOYMENT_AVAILABLE, enough, reason, text), now);
    status
}

/// Whether the rollout is through.
#[must_use]
pub fn is_complete(wanted: &Wanted, status: &DeploymentStatus) -> bool {
    let is_all = |number: Option<i32>| number.unwrap_or_default() == wanted.replicas;
    is_all(status.updated_replicas)
        && is_all(status.replicas)
        && is_all(status.available_replicas)
        && status.observed_generation.unwrap_or_default() >= wanted.generation
}

/// Whether anything moved forward since the last status.
fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let number = |n: Option<i32>| n.unwrap_or_default();
    let outdated = |s: &DeploymentStatus| number(s.replicas) - number(s.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

fn deadline_left(
    wanted: &Wanted,
    progressing: Option<&DeploymentCondition>,
    now: Timestamp,
) -> Option<Duration> {
    let since = progressing?.last_update_time.as_ref()?.0;
    let spent = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Some(wanted.deadline?.saturating_sub(spent))
}

/// The status during and after a rollout.
#[must_use]
pub fn rollout(wanted: &Wanted, sets: &Sets, now: Timestamp) -> Outcome {
    let old = wanted.typed.status.clone().unwrap_or_default();
    let mut status = calculate(wanted, sets, now);
    let before = find(&old, &DEPLOYMENT_PROGRESSING);
    let about = match &sets.new {
        Some(set) => format!("ReplicaSet {:?}", set.name),
        None => format!("Deployment {:?}", wanted.name),
    };
    let settled = status.replicas == status.updated_replicas
        && before.is_some_and(|c| c.reason.as_deref() == Some(NEW_SET_AVAILABLE));
    if wanted.deadline.is_none() {
        remove(&mut status, &DEPLOYMENT_PROGRESSING);
    } else if !settled {
        let timed_out = before.is_some_and(|c| c.reason.as_deref() == Some(TIMED_OUT))
            || before.is_some_and(|c| c.reason.as_deref() != Some(NEW_SET_AVAILABLE))
                && deadline_left(wanted, before, now) == Some(Duration::ZERO);
        if is_complete(wanted, &status) {
            let text = format!("{about} has successfully progressed.");
            set(&mut status, &progressing(true, NEW_SET_AVAILABLE, text), now);
        } else if is_progressing(&old, &status) {
            let text = format!("{about} is progressing.");
            let condition = progressing(true, "ReplicaSetUpdated", text);
            // Progress starts the deadline anew, so this one is written even when it says the same.
            change(&mut status, |list| condition.renew(list, &rfc3339(now)));
        } else if timed_out {
            let text = format!("{about} has timed out progressing.");
            set(&mut status, &progressing(false, TIMED_OUT, text), now);
        }
    }
    pass_on_failure(sets, &mut status, now);
    let look_again = look_again(wanted, &status, now);
    Outcome { status, look_again }
}

/// A set that cannot create its pods makes the Deployment say so.
fn pass_on_failure(sets: &Sets, status: &mut DeploymentStatus, now: Timestamp) {
    let failure = sets.new.iter().chain(&sets.old).find_map(|set| {
        let conditions = set.typed.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_ == SET_REPLICA_FAILURE.name).cloned()
    });
    match failure {
        Some(c) => {
            let reason = c.reason.unwrap_or_default();
            let message = c.message.unwrap_or_default();
            let holds = ConditionStatus::read(&c.status);
            let condition = Condition::new(&DEPLOYMENT_REPLICA_FAILURE, holds, reason, message);
            set(status, &condition, now);
        }
        None => remove(status, &DEPLOYMENT_REPLICA_FAILURE),
    }
}

fn look_again(wanted: &Wanted, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let progressing = find(status, &DEPLOYMENT_PROGRESSING);
    let over = progressing.is_some_and(|c| c.reason.as_deref().is_some_and(|r| r == TIMED_OUT));
    if over || is_complete(wanted, status) {
        return None;
    }
    // A second later, because conditions are written in whole seconds.
    deadline_left(wanted, progressing, now).map(|left| left + Duration::from_secs(1))
}

/// Progressing when somebody paused or resumed; `None` when it says so already.
#[must_use]
pub fn paused(wanted: &Wanted) -> Option<Condition<'static>> {
    wanted.deadline?;
    let reason = wanted
        .typed
        .status
        .as_ref()
        .and_then(|s| find(s, &DEPLOYMENT_PROGRESSING))
        .and_then(|c| c.reason.clone())
        .unwrap_or_default();
    match (wanted.paused, reason.as_str()) {
        (_, TIMED_OUT) | (true, "DeploymentPaused") => None,
        (true, _) => Some(progressing(
            ConditionStatus::Unknown,
            "DeploymentPaused",
            "Deployment is paused".to_owned(),
        )),
        (false, "DeploymentPaused") => Some(progressing(
            ConditionStatus::Unknown,
            "DeploymentResumed",
            "Deployment is resumed".to_owned(),
        )),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::testing::{replica_set, wanted};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reason(status: &DeploymentStatus, kind: &ConditionType) -> (String, String) {
        let found = find(status, kind).unwrap();
        (found.status.clone(), found.reason.clone().unwrap())
    }

    fn pair(status: &str, reason: &str) -> (String, String) {
        (status.to_owned(), reason.to_owned())
    }

    #[test]
    fn a_rollout_from_start_to_end() {
        let mut wanted = wanted(2).rolling(1, 0);
        wanted.deadline = Some(Duration::from_secs(600));
        let step = |wanted: &mut Wanted, actual: i32, available: i32, now: i64| {
            let new = replica_set("web-1").size(2).actual(actual).available(available).set();
            let sets = Sets { new: Some(new), old: Vec::new() };
            let outcome = rollout(wanted, &sets, at(now));
            wanted.typed.status = Some(outcome.status.clone());
            outcome
        };
        let first = step(&mut wanted, 2, 0, 100);
        assert_eq!(
            reason(&first.status, &DEPLOYMENT_AVAILABLE),
            pair("False", "MinimumReplicasUnavailable")
        );
        assert_eq!(
            reason(&first.status, &DEPLOYMENT_PROGRESSING),
            pair("True", "ReplicaSetUpdated")
        );
        assert_eq!(first.look_again, Some(Duration::from_secs(601)));
        let one = step(&mut wanted, 2, 1, 150);
        assert_eq!(
            find(&one.status, &DEPLOYMENT_PROGRESSING).unwrap().last_update_time,
            Some(Time(at(150)))
        );
        let stuck = step(&mut wanted, 2, 1, 751);
        assert_eq!(reason(&stuck.status, &DEPLOYMENT_PROGRESSING), pair("False", TIMED_OUT));
        assert_eq!(stuck.look_again, None);
        let done = step(&mut wanted, 2, 2, 800);
        assert_eq!(reason(&done.status, &DEPLOYMENT_PROGRESSING), pair("True", NEW_SET_AVAILABLE));
        assert_eq!(
            reason(&done.status, &DEPLOYMENT_AVAILABLE),
            pair("True", "MinimumReplicasAvailable")
        );
        assert_eq!(done.look_again, None);
        // A pod that dies later is no failed rollout.
        let later = step(&mut wanted, 2, 1, 9000);
        assert_eq!(reason(&later.status, &DEPLOYMENT_PROGRESSING), pair("True", NEW_SET_AVAILABLE));
    }

    #[test]
    fn an_unchanged_condition_keeps_its_times() {
        let mut status = DeploymentStatus::default();
        let available = |reason| Condition::new(&DEPLOYMENT_AVAILABLE, true, reason, "m");
        set(&mut status, &available("A"), at(1));
        set(&mut status, &available("A"), at(2));
        let found = find(&status, &DEPLOYMENT_AVAILABLE).unwrap();
        assert_eq!(found.last_update_time, Some(Time(at(1))));
        set(&mut status, &available("B"), at(3));
        let found = find(&status, &DEPLOYMENT_AVAILABLE).unwrap();
        assert_eq!(found.last_update_time, Some(Time(at(3))));
        assert_eq!(found.last_transition_time, Some(Time(at(1))));
    }

    #[test]
    fn pausing_is_said_once() {
        let mut wanted = wanted(1).rolling(1, 0);
        wanted.deadline = Some(Duration::from_secs(600));
        wanted.paused = true;
        let said = paused(&wanted).unwrap();
        assert_eq!(said.reason, "DeploymentPaused");
        set(wanted.typed.status.get_or_insert_default(), &said, at(1));
        assert_eq!(paused(&wanted), None);
        wanted.paused = false;
        assert_eq!(paused(&wanted).unwrap().reason, "DeploymentResumed");
    }
}
