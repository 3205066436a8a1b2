//! What a spoke saw happen to a pod or to itself, as Events.
//!
//! Guarantees:
//! - names sort as things happened (`names_sort_as_things_happened`);
//! - what is told twice, after a lost answer, counts once, and what repeats counts up in one Event
//!   (`an_event_that_is_told_twice_counts_once_and_one_that_repeats_counts_up`), also when its time is ahead of the
//!   hub's (`an_event_of_the_future_is_of_now`);
//! - one pod has at most [`EVENTS_PER_POD_MAX`] that a spoke told, and no spoke tells of another's pods
//!   (`a_hostile_device_writes_few_events_and_only_about_its_own_pods`), however long the store takes
//!   (`a_slow_disk_lets_no_more_events_in`), and however many others are named like them
//!   (`an_event_costs_no_walk_over_all_that_is_named_like_its_pod`);
//! - one that is told again and again is written at a pace of its spoke's
//!   (`one_event_that_is_told_all_the_time_is_written_now_and_then`);
//! - none is later than the hub's own time, so that each ends (`an_event_of_the_future_is_of_now`);
//! - of Nodes it tells of its own alone, in the root and in its own cluster, and no more than of a pod
//!   (`a_device_tells_of_its_own_nodes_and_of_no_other`).

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_objects::Objects;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::Scope;
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use freewheel_link::report::{EventV1, NodeEventV1};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::deleted_clusters::DeletedClusters;
use crate::object_refs::{NODES, NOT_THIS_SPOKES, PODS, is_here, may_speak, object_ref, stamp};
use crate::spoke_identity::{SpokeIdentity, how};
use crate::token_bucket::TokenBucket;

/// Different events of one pod that are kept; they make room when they are an hour old.
const EVENTS_PER_POD_MAX: usize = 64;
/// Events that are looked at for them, by their names. Whoever has put more there wants none of ours.
const EVENTS_LOOKED_AT_MAX: usize = 1024;
const EVENTS: (&str, &str, &str) = ("", "v1", "events");
/// Annotation with the device's own time of the newest one that was told, in milliseconds, where that is ahead of the
/// hub's: what is told again is known by it.
const DEVICE_TIME: &str = "freewheel.dev/device-time";

/// Events in a row that one spoke may tell, and per second after that: more than any start of a full
/// device has to tell.
const EVENT_BURST: u32 = 2048;
const EVENTS_PER_SECOND: f64 = 20.0;
/// How often it is said that some were dropped.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What each spoke may still tell, by the UID of its ManagedCluster.
#[derive(Debug, Default)]
pub(crate) struct EventBuckets(Mutex<BTreeMap<String, DroppedEvents>>);

#[derive(Debug)]
struct DroppedEvents {
    left: TokenBucket,
    dropped: u64,
    complained: Option<Instant>,
}

impl EventBuckets {
    pub(crate) fn allows(&self, identity: &SpokeIdentity) -> bool {
        let mut all = self.0.lock();
        let of_spoke = all.entry(identity.uid.clone()).or_insert_with(|| DroppedEvents {
            left: TokenBucket::new(EVENT_BURST, EVENTS_PER_SECOND),
            dropped: 0,
            complained: None,
        });
        if of_spoke.left.take() {
            return true;
        }
        of_spoke.dropped += 1;
        if of_spoke.complained.is_none_or(|at| COMPLAIN_EVERY <= at.elapsed()) {
            of_spoke.complained = Some(Instant::now());
            warn!(cluster = %identity.cluster, dropped = of_spoke.dropped, "a spoke tells too many events; some are dropped");
        }
        false
    }

    /// A cluster that is gone leaves nothing behind.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.0.lock());
    }
}

/// Takes an event that a spoke tells of a pod.
///
/// # Errors
/// When the store cannot write, and when the pod is not the spoke's.
pub(crate) async fn take(
    buckets: &EventBuckets,
    objects: &Objects,
    identity: &SpokeIdentity,
    seen: &EventV1,
) -> Result<(), ApiError> {
    let spoke = &identity.cluster;
    may_speak(spoke, &seen.realm)?;
    let place = object_ref(PODS, &seen.realm, &seen.namespace, &seen.pod)?;
    is_here(&objects.get(&place)?.object.value()?, spoke, &seen.uid)?;
    if !buckets.allows(identity) {
        return Ok(());
    }
    about(objects, identity, PODS, seen).await
}

/// Takes an event that a spoke tells of itself: it is about the Nodes that show it.
///
/// # Errors
/// When the store cannot write, and when the name is another cluster's by now.
pub(crate) async fn take_own(
    buckets: &EventBuckets,
    objects: &Objects,
    identity: &SpokeIdentity,
    seen: &NodeEventV1,
) -> Result<(), ApiError> {
    let other = |_| ApiError::new(409, NOT_THIS_SPOKES, "the name is another cluster's by now");
    identity.admit(objects).map_err(other)?;
    if !buckets.allows(identity) {
        return Ok(());
    }
    about_own(objects, identity, seen).await
}

/// Writes one event about the Nodes that show a spoke, or counts it.
///
/// # Errors
/// When the store cannot write, or a Node is not there.
pub(crate) async fn about_own(
    objects: &Objects,
    identity: &SpokeIdentity,
    seen: &NodeEventV1,
) -> Result<(), ApiError> {
    let spoke = &identity.cluster;
    for realm in [&ClusterName::root(), spoke] {
        let node = objects.get(&object_ref(NODES, realm, "", spoke.as_str())?)?;
        let seen = EventV1 {
            realm: realm.clone(),
            // Where events of what has no namespace are.
            namespace: "default".to_owned(),
            pod: spoke.to_string(),
            uid: node.object.header.uid.to_string(),
            field_path: String::new(),
            warning: seen.warning,
            reason: seen.reason.clone(),
            message: seen.message.clone(),
            at: seen.at,
        };
        about(objects, identity, NODES, &seen).await?;
    }
    Ok(())
}

/// Writes one event about an object of this resource, or counts it.
pub(crate) async fn about(
    objects: &Objects,
    identity: &SpokeIdentity,
    of: (&str, &str, &str),
    seen: &EventV1,
) -> Result<(), ApiError> {
    let spoke = &identity.cluster;
    may_speak(spoke, &seen.realm)?;
    // What a device without a clock, or a liar, calls the future would never be old.
    let now = u64::try_from(objects.clock().unix_seconds()).unwrap_or_default();
    let now = now.saturating_mul(1000);
    let (at, ahead) = (stamp(seen.at.min(now)), now < seen.at);
    let kind = object_ref(of, &seen.realm, &seen.namespace, &seen.pod)?.kind;
    let mut value = value(spoke, &kind, seen, &at);
    if ahead {
        value["metadata"]["annotations"][DEVICE_TIME] = json!(seen.at.to_string());
    }
    let Some(known) = events_of(objects, seen) else {
        debug!(cluster = %spoke, pod = seen.pod, "too many events are named like one pod's; one is dropped");
        return Ok(());
    };
    let Some(name) = known.iter().find(|(_, old)| same(old, &value)).map(|(name, _)| name) else {
        if EVENTS_PER_POD_MAX <= known.len() {
            debug!(cluster = %spoke, pod = seen.pod, "too many events about one pod; one is dropped");
            return Ok(());
        }
        let place = object_ref(EVENTS, &seen.realm, &seen.namespace, &name(seen))?;
        return objects.create(&how(objects, identity), &place, value).await.map(|_| ());
    };
    let place = object_ref(EVENTS, &seen.realm, &seen.namespace, name)?;
    let count = |mut old: Value| {
        let device_time = old["metadata"]["annotations"][DEVICE_TIME].as_str();
        let news = match device_time
            .and_then(|device_time| device_time.parse::<u64>().ok())
            .filter(|_| ahead)
        {
            Some(device_time) => device_time < seen.at,
            // Both are RFC 3339 in UTC with seconds, so they compare as text.
            None => old["lastTimestamp"].as_str().unwrap_or_default() < at.as_str(),
        };
        if news {
            old["count"] = json!(old["count"].as_i64().unwrap_or(1).saturating_add(1));
            old["lastTimestamp"] = json!(at);
        }
        if news && ahead {
            old["metadata"]["annotations"][DEVICE_TIME] = json!(seen.at.to_string());
        }
        Ok(old)
    };
    objects.modify(&how(objects, identity), &place, None, count).await.map(|_| ())
}

/// Equal for events about one pod that differ in nothing but their time; never 0.
pub(crate) fn mark(seen: &EventV1) -> u64 {
    mark_of([&seen.uid, &seen.reason, &seen.field_path, &seen.message])
}

/// The same for events about the spoke itself.
pub(crate) fn mark_of_own(seen: &NodeEventV1) -> u64 {
    mark_of(["", &seen.reason, "", &seen.message])
}

fn mark_of(texts: [&str; 4]) -> u64 {
    let text = texts.join("\n");
    let mark: [u8; 8] = Digest::of(text.as_bytes()).0[..8].try_into().unwrap_or_default();
    u64::from_le_bytes(mark) | 1
}

/// `<pod>.<nanoseconds in hex>` as other writers of Events do it. A spoke gives no two events one
/// millisecond; the mark keeps those of two lives of it apart.
fn name(seen: &EventV1) -> String {
    let nanos = seen.at.saturating_mul(1_000_000).saturating_add(mark(seen) % 1_000_000);
    format!("{}.{nanos:016x}", seen.pod)
}

/// Events that spokes have told of this pod, in order; `None` when too many others are named like them. An Event about
/// `web.a` is none of `web`.
fn events_of(objects: &Objects, seen: &EventV1) -> Option<Vec<(String, Value)>> {
    let prefix = format!("{}.", seen.pod);
    let resource = Resource::new("", "events");
    let scope = Scope {
        resource: resource.clone(),
        cluster: Some(seen.realm.clone()),
        namespace: Some(seen.namespace.as_str().into()),
    };
    let after = Key::new(&resource, &seen.realm, &seen.namespace, &prefix);
    let snapshot = objects.store().snapshot();
    let named = snapshot.range(&scope, Some(&after));
    let mut known = Vec::new();
    for (looked, stored) in named.take_while(|it| it.key.name.starts_with(&prefix)).enumerate() {
        if looked == EVENTS_LOOKED_AT_MAX {
            return None;
        }
        let is = |field: &str, text: &str| {
            stored.object.header.fields.get(field).is_some_and(|value| **value == *text)
        };
        if is("involvedObject.uid", &seen.uid)
            && is("source", "kubelet")
            && let Ok(event) = stored.object.value()
        {
            known.push((stored.key.name.to_string(), event));
        }
    }
    Some(known)
}

fn same(old: &Value, new: &Value) -> bool {
    let path = "/involvedObject/fieldPath";
    ["reason", "message", "type"].iter().all(|field| old.get(field) == new.get(field))
        && old.pointer(path) == new.pointer(path)
}

fn value(spoke: &ClusterName, kind: &Kind, seen: &EventV1, at: &str) -> Value {
    let mut about = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind(), "name": seen.pod, "uid": seen.uid,
    });
    if kind.namespaced {
        about["namespace"] = json!(seen.namespace);
    }
    if !seen.field_path.is_empty() {
        about["fieldPath"] = json!(seen.field_path);
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name(seen), "namespace": seen.namespace},
        "involvedObject": about,
        "reason": seen.reason, "message": seen.message,
        "type": if seen.warning { "Warning" } else { "Normal" },
        "source": {"component": "kubelet", "host": spoke.as_str()},
        "reportingComponent": "kubelet", "reportingInstance": spoke.as_str(),
        "firstTimestamp": at, "lastTimestamp": at, "count": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, reason: &str) -> EventV1 {
        EventV1 {
            realm: ClusterName::root(),
            namespace: "default".into(),
            pod: "web".into(),
            uid: "u".into(),
            field_path: String::new(),
            warning: false,
            reason: reason.into(),
            message: "m".into(),
            at,
        }
    }

    #[test]
    fn names_sort_as_things_happened() {
        let at = 1_795_176_000_000;
        let names: Vec<String> = ["Pulling", "Pulled", "Created", "Started"]
            .iter()
            .zip(at..)
            .map(|(reason, at)| name(&event(at, reason)))
            .collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names[0].len(), "web.".len() + 16);
        assert_eq!(name(&event(at, "Pulled")), name(&event(at, "Pulled")));
        assert_ne!(name(&event(at, "Pulled")), name(&event(at, "Started")));
        assert_eq!(mark(&event(1, "Pulled")), mark(&event(2, "Pulled")));
    }
}
