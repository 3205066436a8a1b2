//! A plan that is larger than a spoke can hold: what stays out of it, and what its user reads.
//!
//! Guarantees:
//! - what is left fits (`a_plan_holds_what_a_spoke_can_and_the_pod_beyond_that_reads_why`,
//!   `services_beyond_half_of_a_plan_are_left_out_largest_first`);
//! - a pod comes whole, with all of its configuration, or not at all
//!   (`a_plan_holds_what_a_spoke_can_and_the_pod_beyond_that_reads_why`);
//! - pods that have been on the device for longer stay before newer ones, so that a new pod takes no room from one that
//!   runs (`a_new_pod_takes_no_room_from_an_older_one`,
//!   `a_pod_that_has_waited_for_its_node_takes_no_room_from_one_that_is_there`); those of one second in the order in
//!   which the hub made them (`pods_of_one_second_keep_the_order_in_which_the_hub_made_them`).

use std::collections::BTreeMap;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, PodV1, Record, RecordKey};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::config;
use super::plan::Plan;
use super::pod::config_of;
use super::refused::Fault;
use super::source::Source;
use super::stored_object::parse;

/// A pod of the plan, with the keys of all that it brings along.
struct Member {
    realm: ClusterName,
    meta: ObjectMeta,
    /// When it got its node, and the revision that created it.
    age: (Option<Time>, u64),
    keys: Vec<RecordKey>,
}

/// Leaves out what does not fit into `room` bytes: the largest Services beyond half of it, then the newest pods.
pub(super) fn fit(plan: &mut Plan, spoke: &ClusterName, source: &dyn Source, room: usize) {
    let weigh = |records: &BTreeMap<RecordKey, Record>| -> usize {
        records.values().map(Record::weight).sum()
    };
    if weigh(&plan.records) <= room {
        return;
    }
    leave_out_services(plan, room / 2);
    let members = members(plan, spoke, source);
    let mut of_pods = BTreeMap::new();
    for key in members.iter().flat_map(|member| &member.keys) {
        of_pods.extend(plan.records.remove_entry(key));
    }
    let mut left = room.saturating_sub(weigh(&plan.records));
    for member in members {
        let new = member.keys.iter().filter_map(|key| of_pods.get(key));
        let weight: usize = new.map(Record::weight).sum();
        if weight <= left {
            left -= weight;
            plan.records.extend(member.keys.iter().filter_map(|key| of_pods.remove_entry(key)));
            continue;
        }
        let message = format!(
            "the pod and its configuration take {weight} bytes, and of the {room} that a device holds \
             {left} are left"
        );
        let fault = Fault { reason: "TooLarge", message };
        plan.refused.push(fault.of(&member.realm, "pods", &member.meta));
    }
}

/// The pods of the plan, those first that have been there for longest.
fn members(plan: &Plan, spoke: &ClusterName, source: &dyn Source) -> Vec<Member> {
    let mut members = Vec::new();
    for realm in [&ClusterName::root(), spoke] {
        for found in source.pods(realm, spoke.as_str()) {
            let Ok(pod) = parse::<Pod>(realm, "pods", &found) else { continue };
            let age = (since(&pod), found.created);
            let meta = pod.metadata;
            let key = meta.uid.clone().unwrap_or_default();
            let own = RecordKey { realm: realm.clone(), kind: Kind::POD_V1, key };
            let Some(record) = plan.records.get(&own) else { continue };
            let named = record.body::<PodV1>().map(|pod| config_of(&pod)).unwrap_or_default();
            let mut keys = vec![own];
            keys.extend(
                named
                    .iter()
                    .map(|(kind, namespace, name)| config::key(realm, *kind, namespace, name)),
            );
            members.push(Member { realm: realm.clone(), meta, age, keys });
        }
    }
    members.sort_by(|left, right| left.age.cmp(&right.age));
    members
}

/// When a pod got its node: one that was made for it has it from the start.
fn since(pod: &Pod) -> Option<Time> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let bound = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
        .and_then(|condition| condition.last_transition_time.clone());
    bound.max(pod.metadata.creation_timestamp.clone())
}

fn leave_out_services(plan: &mut Plan, room: usize) {
    let services = plan.records.iter().filter(|(key, _)| key.kind == Kind::SERVICE_V1);
    let mut sizes: Vec<(usize, RecordKey)> =
        services.map(|(key, record)| (record.weight(), key.clone())).collect();
    sizes.sort();
    let mut all: usize = sizes.iter().map(|(weight, _)| weight).sum();
    while room < all {
        let Some((weight, key)) = sizes.pop() else { return };
        all -= weight;
        plan.records.remove(&key);
        let (namespace, name) = key.key.split_once('/').unwrap_or_default();
        let meta = ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let message = format!(
            "all Services together take more than the {room} bytes that a device holds of them, this one {weight}"
        );
        plan.refused.push(Fault { reason: "TooLarge", message }.of(&key.realm, "services", &meta));
    }
}
