//! What cannot be planned for a spoke: its user reads why, a pod's in its conditions too.
//!
//! Guarantees:
//! - a pod that no device can hold says so where its user looks, and goes when it is deleted, because no spoke will
//!   ever say that it is gone
//!   (`objects_as_large_as_the_api_takes_land_and_what_no_device_holds_is_refused_at_its_pod`);
//! - where the pod has no room for that, an event says it, once
//!   (`a_pod_without_room_for_the_reason_is_told_of_by_an_event`);
//! - one that has ended meanwhile stays so (`a_refusal_takes_no_end_back_that_came_just_before`).

use freewheel_hub_api::conditions::{Condition, POD_CONTAINERS_READY, POD_READY};
use freewheel_hub_objects::{ObjectRef, Objects};
use freewheel_hub_plan::Refused;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Concern;
use freewheel_link::report::EventV1;
use serde_json::{Value, json};

use crate::events;
use crate::object_refs::{NOT_THIS_SPOKES, PODS, is_here, object_ref, stamp};
use crate::reports::{is_over, remove};
use crate::spoke_identity::{SpokeIdentity, how};

/// Shows a refusal at its object. `is_reported` says that this session did so before: a pod may have changed since.
///
/// # Errors
/// When the store cannot write.
pub(crate) async fn report(
    objects: &Objects,
    identity: &SpokeIdentity,
    refused: &Refused,
    is_reported: bool,
) -> Result<(), ApiError> {
    let of = ("", "v1", refused.resource);
    let place = object_ref(of, &refused.realm, &refused.namespace, &refused.name)?;
    let shown = match place.kind.concern {
        Some(Concern::ItsNode) if refused.stays && is_reported => Ok(()),
        Some(Concern::ItsNode) if refused.stays => warn(objects, identity, &place, refused).await,
        Some(Concern::ItsNode) => show(objects, identity, &place, refused, is_reported).await,
        Some(_) if !is_reported => warn(objects, identity, &place, refused).await,
        _ => Ok(()),
    };
    match shown {
        // Gone or changed meanwhile: the next plan knows.
        Err(error) if error.code < 500 => Ok(()),
        other => other,
    }
}

async fn show(
    objects: &Objects,
    identity: &SpokeIdentity,
    place: &ObjectRef,
    refused: &Refused,
    is_reported: bool,
) -> Result<(), ApiError> {
    let spoke = &identity.cluster;
    let pod = objects.get(place)?.object.value()?;
    is_here(&pod, spoke, &refused.uid)?;
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return remove(objects, identity, place, &refused.uid).await;
    }
    let status = &pod["status"];
    // What has ended needs no device any more.
    if is_over(status) {
        return Ok(());
    }
    if status["reason"] == refused.reason && status["message"] == *refused.message {
        return Ok(());
    }
    let now = u64::try_from(objects.clock().unix_seconds()).unwrap_or_default() * 1000;
    let write = async |say: fn(&mut Value, &Refused, u64)| {
        let change = |mut value: Value| {
            is_here(&value, spoke, &refused.uid)?;
            // It may have ended since it was read above.
            if is_over(&value["status"]) {
                return Err(ApiError::new(409, NOT_THIS_SPOKES, "the pod has ended"));
            }
            say(&mut value, refused, now);
            Ok(value)
        };
        objects.modify(&how(objects, identity), place, Some("status"), change).await.map(drop)
    };
    match write(whole).await {
        // A pod as large as an object may be: the event says it all, and is no part of the pod.
        Err(full) if full.code == 413 && is_reported => return Ok(()),
        Err(full) if full.code == 413 => {
            if let Err(error) = write(briefly).await
                && error.code != 413
            {
                return Err(error);
            }
        }
        written => written?,
    }
    events::about(objects, identity, PODS, &event(refused, &refused.uid, now)).await
}

/// All that a pod's status has to say of it.
fn whole(pod: &mut Value, refused: &Refused, now: u64) {
    for kind in [&POD_READY, &POD_CONTAINERS_READY] {
        let condition = Condition::new(kind, false, refused.reason, &*refused.message);
        condition.put_on_pod(pod, &stamp(now));
    }
    pod["status"]["message"] = json!(&*refused.message);
    briefly(pod, refused, now);
}

/// What `kubectl get` shows.
fn briefly(pod: &mut Value, refused: &Refused, _now: u64) {
    let status = &mut pod["status"];
    status["phase"] = json!("Pending");
    status["reason"] = json!(refused.reason);
}

/// An event at an object that has no conditions for it.
async fn warn(
    objects: &Objects,
    identity: &SpokeIdentity,
    place: &ObjectRef,
    refused: &Refused,
) -> Result<(), ApiError> {
    let uid = objects.get(place)?.object.header.uid.clone();
    let now = u64::try_from(objects.clock().unix_seconds()).unwrap_or_default() * 1000;
    let of = ("", "v1", refused.resource);
    events::about(objects, identity, of, &event(refused, &uid, now)).await
}

fn event(refused: &Refused, uid: &str, at: u64) -> EventV1 {
    EventV1 {
        realm: refused.realm.clone(),
        namespace: refused.namespace.to_string(),
        pod: refused.name.to_string(),
        uid: uid.to_owned(),
        field_path: String::new(),
        warning: true,
        reason: refused.reason.to_owned(),
        message: refused.message.to_string(),
        at,
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;

    use super::*;

    #[test]
    fn a_refused_pod_tells_of_which_generation_it_is_refused() {
        let refused = Refused {
            realm: ClusterName::root(),
            resource: "pods",
            namespace: "default".into(),
            name: "p".into(),
            uid: "u".into(),
            reason: "TooLarge",
            message: "it is too large".into(),
            stays: false,
        };
        let mut pod = json!({"metadata": {"name": "p", "generation": 3}});
        whole(&mut pod, &refused, 0);
        let said = pod["status"]["conditions"].as_array().unwrap();
        assert_eq!(said.len(), 2);
        assert!(said.iter().all(|one| one["observedGeneration"] == 3), "{said:?}");
        assert_eq!(
            (&pod["status"]["phase"], &pod["status"]["reason"]),
            (&json!("Pending"), &json!("TooLarge"))
        );
    }
}
