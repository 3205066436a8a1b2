//! What a spoke says, as objects: pod status, the end of a pod.
//!
//! Guarantees:
//! - a report changes only objects of the spoke that sent it, its Nodes and pods bound to it by UID, and makes Events
//!   (`a_spoke_reports_on_its_own_pods_and_on_nobody_elses`);
//! - a pod has an address of its device's own ranges, whatever the device says
//!   (`a_device_gives_its_pods_no_address_but_its_own`);
//! - a pod that was made for its node is called scheduled once that tells of it
//!   (`a_pod_that_was_made_for_its_node_is_scheduled_since_then`);
//! - a report that the store has no room for is told at its pod
//!   (`a_report_that_the_store_has_no_room_for_is_refused_and_told_at_the_pod`);
//! - what it takes to write one is what is read for it, of a pod as of a Node
//!   (`a_report_weighs_what_is_read_for_it`);
//! - a pod that has ended stays so (`a_pod_ends_once_whatever_its_device_forgets`);
//! - a pod made anew under its name gets nothing of the one before
//!   (`a_pod_made_anew_under_its_name_has_nothing_of_the_one_before`).

use std::net::IpAddr;

use freewheel_hub_api::conditions::{Condition, POD_SCHEDULED, told_by_spoke};
use freewheel_hub_api::images::Images;
use freewheel_hub_api::pins::{Pins, pinned};
use freewheel_hub_objects::{DeleteOptions, OVERTAKEN, ObjectRef, Objects};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::MAX_OBJECT_BYTES;
use freewheel_link::names::ClusterName;
use freewheel_link::report::{
    ContainerStateV1, ContainerStatusV1, EventV1, PhaseV1, PodStatusV1, Report, TerminatedV1,
};
use serde_json::{Map, Value, json};
use tracing::{debug, warn};

use crate::inner::Inner;
use crate::object_refs::{NODES, NOT_THIS_SPOKES, PODS, is_here, may_speak, object_ref, stamp};
use crate::pending_reports::weight;
use crate::spoke_identity::{SpokeIdentity, how};
use crate::{events, links, node, observed};

/// What an object of a byte takes while it is changed: it is parsed, compared, and written anew.
pub(crate) const MEMORY_OF_A_BYTE: usize = 8;

/// Writes one report; `host` is the address of its device, unspecified where it has none. What no longer fits (an
/// object that is gone, or has another UID) is done with.
///
/// # Errors
/// When it cannot be written: the report is not taken, and comes again.
pub(crate) async fn take(
    inner: &Inner,
    identity: &SpokeIdentity,
    host: IpAddr,
    report: &Report,
) -> Result<(), ApiError> {
    let (objects, spoke) = (&inner.objects, &identity.cluster);
    let outcome = match report {
        Report::Pod(pod) => pod_status(inner, identity, host, pod).await,
        Report::PodGone { realm, uid } => pod_gone(inner, identity, realm, uid).await,
        Report::Node(status) => node::write(objects, identity, status).await,
        Report::Event(seen) => events::take(&inner.events, &inner.objects, identity, seen).await,
        Report::NodeEvent(seen) => {
            events::take_own(&inner.events, &inner.objects, identity, seen).await
        }
    };
    if let Err(error) = &outcome
        && (error.code, error.reason) == (403, NOT_THIS_SPOKES)
        && inner.complaints.take(spoke.as_str())
    {
        warn!(cluster = %spoke, "a spoke reports about another cluster; dropped");
    }
    match outcome {
        Err(error)
            if error.code == 404
                || [NOT_THIS_SPOKES, OVERTAKEN].contains(&error.reason)
                || error.is_namespace_terminating() =>
        {
            debug!(cluster = %spoke, %error, "a report has no place any more");
            Ok(())
        }
        Err(error) => {
            if let (413, Report::Pod(pod)) = (error.code, report) {
                tell_too_large(objects, identity, pod).await;
            }
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// Bytes of memory that it takes to write a report of this spoke: more than its own, where it is about a pod or a Node,
/// which is read whole for it.
pub(crate) fn cost(inner: &Inner, spoke: &ClusterName, report: &Report) -> usize {
    let now = inner.objects.store().snapshot();
    let about = about(spoke, report, |uid| inner.fanout.pod(uid));
    let read = about.iter().filter_map(|key| now.get(key)).map(|stored| stored.object.body.len());
    weight(report) + MEMORY_OF_A_BYTE * read.sum::<usize>()
}

/// What is read for a report: others may have made it large.
fn about(
    spoke: &ClusterName,
    report: &Report,
    by_uid: impl FnOnce(&str) -> Option<Key>,
) -> Vec<Key> {
    let place = |of, realm: &ClusterName, namespace: &str, name: &str| {
        object_ref(of, realm, namespace, name).ok().map(|place| place.key())
    };
    let pod = match report {
        Report::Pod(pod) => place(PODS, &pod.realm, &pod.namespace, &pod.name),
        Report::Event(seen) => place(PODS, &seen.realm, &seen.namespace, &seen.pod),
        Report::PodGone { uid, .. } => by_uid(uid),
        Report::Node(_) | Report::NodeEvent(_) => {
            let realms = [&ClusterName::root(), spoke];
            let nodes = realms.map(|realm| place(NODES, realm, "", spoke.as_str()));
            return nodes.into_iter().flatten().collect();
        }
    };
    pod.into_iter().collect()
}

/// Tells the pod's user that its status is not what it says: nothing else does.
async fn tell_too_large(objects: &Objects, identity: &SpokeIdentity, pod: &PodStatusV1) {
    let event = EventV1 {
        realm: pod.realm.clone(),
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        field_path: String::new(),
        warning: true,
        reason: "StatusTooLarge".into(),
        message: format!(
            "the pod's status cannot be written: with it the pod would be larger than the {MAX_OBJECT_BYTES} bytes that \
             an object may have"
        ),
        at: u64::try_from(objects.clock().unix_seconds()).unwrap_or_default() * 1000,
    };
    if let Err(error) = events::about(objects, identity, PODS, &event).await {
        warn!(cluster = %identity.cluster, pod = pod.name, %error, "cannot tell that a pod's status is too large");
    }
}

async fn pod_status(
    inner: &Inner,
    identity: &SpokeIdentity,
    host: IpAddr,
    pod: &PodStatusV1,
) -> Result<(), ApiError> {
    let (objects, spoke) = (&inner.objects, &identity.cluster);
    may_speak(spoke, &pod.realm)?;
    let place = object_ref(PODS, &pod.realm, &pod.namespace, &pod.name)?;
    let reached = links::reached(&inner.links, spoke);
    // Whoever is believed here is behind the Services that select the pod.
    let ranges = &inner.fanout.ranges;
    let ip = pod.ip.filter(|ip| ranges.is_for_pods_of(&pod.realm, spoke, *ip));
    if ip != pod.ip && inner.complaints.take(spoke.as_str()) {
        warn!(cluster = %spoke, pod = pod.name, ip = ?pod.ip, "a pod's address is none of its device's");
    }
    let is_told = |kind: &str| pod.conditions.iter().any(|own| *own.kind == *kind);
    let change = |mut value: Value| {
        is_here(&value, spoke, &pod.uid)?;
        let old = value.get("status").cloned().unwrap_or_default();
        if is_over(&old) && old["phase"] != phase(&pod.phase) {
            // A device that does not know it any more, because its ledger is lost, is told by its plan.
            return Err(ApiError::new(409, NOT_THIS_SPOKES, "the pod has ended, and ends once"));
        }
        let mut new = status(&old, pod, ip, host);
        if is_over(&old) {
            keep_end(&mut new, &old);
        }
        if let Some(generation) = observed::seen(&value, reached) {
            observed::put(&mut new, generation, is_told);
        }
        keep_known(&mut new, &value["spec"]);
        name_images(&mut new, &Pins::of(&value), &*inner.images);
        value["status"] = new;
        put_scheduled(&mut value);
        Ok(value)
    };
    objects.modify(&how(objects, identity), &place, Some("status"), change).await.map(|_| ())
}

/// A pod that was made for its node has no scheduler to say that it has one: its node says so, as kubelet does. It has
/// had it since it was made.
fn put_scheduled(pod: &mut Value) {
    if POD_SCHEDULED.holds(pod) {
        return;
    }
    let made = pod.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    let since = made.unwrap_or_default().to_owned();
    Condition::new(&POD_SCHEDULED, true, "", "").put_on_pod(pod, &since);
}

/// Whether a pod with this status has ended for good.
pub(crate) fn is_over(status: &Value) -> bool {
    matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"))
}

const fn phase(phase: &PhaseV1) -> &'static str {
    match phase {
        PhaseV1::Pending => "Pending",
        PhaseV1::Running => "Running",
        PhaseV1::Succeeded => "Succeeded",
        PhaseV1::Failed => "Failed",
    }
}

/// Puts back how the pod has ended, when all of it had: whoever says another end of it knows less.
fn keep_end(new: &mut Value, old: &Value) {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let mut containers = lists.iter().filter_map(|list| old[*list].as_array()).flatten().peekable();
    let ended = |container: &Value| container.pointer("/state/terminated").is_some();
    if containers.peek().is_none() || !containers.all(ended) {
        return;
    }
    let Some(status) = new.as_object_mut() else { return };
    for field in lists.into_iter().chain(["reason", "message"]) {
        match old.get(field) {
            Some(known) => drop(status.insert(field.to_owned(), known.clone())),
            None => drop(status.remove(field)),
        }
    }
}

async fn pod_gone(
    inner: &Inner,
    identity: &SpokeIdentity,
    realm: &ClusterName,
    uid: &str,
) -> Result<(), ApiError> {
    may_speak(&identity.cluster, realm)?;
    // What is in no index is bound to no node: the spoke never had it from here.
    let Some(key) = inner.fanout.pod(uid).filter(|key| key.cluster == *realm) else {
        return Ok(());
    };
    let place = object_ref(PODS, realm, &key.namespace, &key.name)?;
    remove(&inner.objects, identity, &place, uid).await
}

/// Removes a pod that nothing of is left on its spoke, if that is wanted.
pub(crate) async fn remove(
    objects: &Objects,
    identity: &SpokeIdentity,
    place: &ObjectRef,
    uid: &str,
) -> Result<(), ApiError> {
    let spoke = &identity.cluster;
    let found = objects.get(place)?;
    let header = &found.object.header;
    let bound = header.fields.get("spec.nodeName");
    // Without a wish to delete it the pod stays: it will be started again.
    if header.uid != uid || bound.is_none_or(|node| node != spoke.as_str()) || !header.deleting {
        return Ok(());
    }
    let options = DeleteOptions {
        grace_period_seconds: Some(0),
        uid: Some(uid.into()),
        ..DeleteOptions::default()
    };
    objects.delete(&how(objects, identity), place, &options).await.map(|_| ())
}

/// The pod's status after the report: the spoke's conditions and states, everybody else's conditions.
fn status(old: &Value, pod: &PodStatusV1, ip: Option<IpAddr>, host: IpAddr) -> Value {
    let mut status = old.as_object().cloned().unwrap_or_default();
    status.insert("phase".into(), json!(phase(&pod.phase)));
    set(&mut status, "reason", &pod.reason);
    set(&mut status, "message", &pod.message);
    if let Some(ip) = ip {
        status.insert("podIP".into(), json!(ip));
        status.insert("podIPs".into(), json!([{"ip": ip}]));
    }
    if !host.is_unspecified() {
        status.insert("hostIP".into(), json!(host));
        status.insert("hostIPs".into(), json!([{"ip": host}]));
    }
    if let Some(started) = pod.started {
        status.insert("startTime".into(), json!(stamp(started)));
    }
    let mut conditions = status.remove("conditions").unwrap_or_else(|| json!([]));
    for condition in &pod.conditions {
        // Whatever a device says, it is no scheduler.
        let Some(kind) = told_by_spoke(&condition.kind) else { continue };
        let (reason, message) = (&*condition.reason, &*condition.message);
        let since = stamp(condition.since);
        let condition = Condition::new(kind, condition.status, reason, message);
        Condition { since: Some(since.clone()), ..condition }.put(&mut conditions, &since);
    }
    status.insert("conditions".into(), conditions);
    let lists = [("initContainerStatuses", &pod.init), ("containerStatuses", &pod.containers)];
    for (field, list) in lists {
        if list.is_empty() {
            status.remove(field);
        } else {
            status.insert(field.into(), list.iter().map(container).collect());
        }
    }
    Value::Object(status)
}

/// Drops the states of containers that the pod does not have.
fn keep_known(status: &mut Value, spec: &Value) {
    for (field, of) in
        [("initContainerStatuses", "initContainers"), ("containerStatuses", "containers")]
    {
        let known = |status: &Value| {
            let all = spec[of].as_array();
            all.is_some_and(|all| all.iter().any(|one| one["name"] == status["name"]))
        };
        if let Some(list) = status.get_mut(field).and_then(Value::as_array_mut) {
            list.retain(known);
        }
    }
}

/// A device knows a module by its bytes; people know it by the manifest that a push printed.
fn name_images(status: &mut Value, pins: &Pins, images: &dyn Images) {
    for field in ["initContainerStatuses", "containerStatuses"] {
        for container in status.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            let image = container["image"].as_str().unwrap_or_default();
            let component = container["imageID"].as_str().and_then(|id| id.parse().ok());
            let manifest = component.and_then(|it| images.manifest_of(&pins.apply(image), &it));
            if let Some(manifest) = manifest {
                container["imageID"] = json!(pinned(image, &manifest));
            }
        }
    }
}

fn set(map: &mut Map<String, Value>, key: &str, text: &str) {
    if text.is_empty() {
        map.remove(key);
    } else {
        map.insert(key.to_owned(), json!(text));
    }
}

fn container(status: &ContainerStatusV1) -> Value {
    let state = match &status.state {
        ContainerStateV1::Waiting(reason, message) => {
            let mut waiting = Map::new();
            set(&mut waiting, "reason", reason);
            set(&mut waiting, "message", message);
            json!({"waiting": waiting})
        }
        ContainerStateV1::Running(since) => json!({"running": {"startedAt": stamp(*since)}}),
        ContainerStateV1::Terminated(end) => terminated(end, &status.container_id),
    };
    let last = status.last.as_ref().map_or(json!({}), |end| terminated(end, &status.last_id));
    let mut out = json!({
        "name": status.name, "ready": status.ready, "started": status.begun,
        "restartCount": status.restarts, "image": status.image, "imageID": status.image_id,
        "state": state, "lastState": last,
    });
    if let Some(map) = out.as_object_mut() {
        set(map, "containerID", &status.container_id);
    }
    out
}

fn terminated(end: &TerminatedV1, id: &str) -> Value {
    let mut out = json!({
        "exitCode": end.code, "reason": end.reason,
        "startedAt": stamp(end.started), "finishedAt": stamp(end.finished),
    });
    if let Some(map) = out.as_object_mut() {
        set(map, "message", &end.message);
        set(map, "containerID", id);
        if end.signal != 0 {
            map.insert("signal".into(), json!(end.signal));
        }
    }
    json!({"terminated": out})
}

#[cfg(test)]
mod tests {
    use freewheel_link::report::{ConditionV1, NodeEventV1};

    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A pod that says this one condition of itself.
    fn web(condition: &str) -> PodStatusV1 {
        let condition = ConditionV1 {
            kind: condition.into(),
            status: true,
            since: 0,
            reason: String::new(),
            message: String::new(),
        };
        PodStatusV1 {
            realm: ClusterName::root(),
            namespace: "default".into(),
            name: "web".into(),
            uid: "u".into(),
            phase: PhaseV1::Running,
            ip: None,
            started: None,
            reason: String::new(),
            message: String::new(),
            conditions: vec![condition],
            init: Vec::new(),
            containers: Vec::new(),
            parts: freewheel_link::part::Parts::default(),
        }
    }

    #[test]
    fn a_report_weighs_what_is_read_for_it() {
        let pi_7 = ClusterName::try_from("pi-7").unwrap();
        let about = |report: &Report| {
            let gone = object_ref(PODS, &pi_7, "default", "gone").unwrap().key();
            let keys = about(&pi_7, report, |_| Some(gone));
            let words = keys.iter().map(|it| format!("{} {} {}", it.resource, it.cluster, it.name));
            words.collect::<Vec<_>>()
        };
        let PodStatusV1 { realm, namespace, name, uid, .. } = web("Ready");
        let gone = Report::PodGone { realm: realm.clone(), uid: uid.clone() };
        let (reason, message, field_path) = (String::new(), String::new(), String::new());
        let own = NodeEventV1 { warning: true, reason: reason.clone(), message, at: 1 };
        let (pod, warning, message, at) = (name, true, String::new(), 1);
        let seen = EventV1 { realm, namespace, pod, uid, field_path, warning, reason, message, at };
        assert_eq!(about(&Report::Pod(web("Ready"))), ["pods root web"]);
        assert_eq!(about(&Report::Event(seen)), ["pods root web"]);
        assert_eq!(about(&gone), ["pods pi-7 gone"]);
        let nodes = ["nodes root pi-7", "nodes pi-7 pi-7"];
        assert_eq!(about(&Report::NodeEvent(own)), nodes);
    }

    #[test]
    fn a_device_says_its_own_conditions_and_nobody_elses() {
        let gated = json!([{"type": "PodScheduled", "status": "False"}]);
        let old = json!({"conditions": gated});
        assert_eq!(status(&old, &web("PodScheduled"), None, HOST)["conditions"], gated);
        assert_eq!(status(&old, &web("example.com/gate"), None, HOST)["conditions"], gated);
        assert_eq!(status(&old, &web("Ready"), None, HOST)["conditions"][1]["status"], "True");
    }

    #[test]
    fn every_end_says_which_container_it_was_of() {
        let end = || TerminatedV1 {
            code: 1,
            signal: 0,
            reason: "Error".into(),
            message: String::new(),
            started: 0,
            finished: 0,
        };
        let of = |state| ContainerStatusV1 {
            name: "c".into(),
            ready: false,
            begun: false,
            restarts: 2,
            image: "i".into(),
            image_id: String::new(),
            container_id: "freewheel://now".into(),
            state,
            last: Some(end()),
            last_id: "freewheel://last".into(),
        };
        let told = container(&of(ContainerStateV1::Terminated(end())));
        assert_eq!(told["containerID"], "freewheel://now");
        assert_eq!(told["state"]["terminated"]["containerID"], "freewheel://now");
        assert_eq!(told["lastState"]["terminated"]["containerID"], "freewheel://last");
        let first = ContainerStatusV1 {
            last: None,
            last_id: String::new(),
            ..of(ContainerStateV1::Running(0))
        };
        assert_eq!(container(&first)["lastState"], json!({}));
    }
}
